// What an answer was made from: the passages that were retrieved, and the tools that were called.

import { el, find } from "./dom.js";
import { languageNow, t } from "./texts.js";

let drawn = "";

export function drawSources(turn) {
  // what the reader has opened stays open: it is drawn anew only where there is something new
  const now = [languageNow(), turn?.number, Boolean(turn?.trace), JSON.stringify(turn?.calls)].join();
  if (now === drawn) return;
  drawn = now;
  const passages = turn?.trace?.passages ?? [];
  const calls = [...(turn?.trace?.tools ?? []), ...(turn?.calls ?? []).map((call) => ({ ...call, isForEngine: true }))];
  find("sources-none").textContent = t(turn ? "no_trace" : "none_yet");
  find("sources-none").hidden = Boolean(turn && (turn.trace || calls.length));
  find("sources-some").hidden = !find("sources-none").hidden;
  find("passages").replaceChildren(...passages.map(passage));
  find("passages-none").hidden = passages.length > 0;
  find("calls").replaceChildren(...calls.map(call));
  find("calls-none").hidden = calls.length > 0;
}

function passage({ title, file, score, text }) {
  const name = [title, file].filter((part) => typeof part === "string" && part).join(" · ") || "–";
  const points = typeof score === "number" ? t("score", { n: score.toFixed(2) }) : null;
  return el("li", {},
    el("details", {},
      el("summary", {}, el("span", { class: "title" }, name), points && el("span", { class: "score" }, points)),
      el("p", { class: "quote" }, String(text ?? ""))));
}

function call({ name, arguments: given, result, ms, failed, isForEngine }) {
  const facts = [
    typeof ms === "number" ? `${Math.round(ms)} ms` : null,
    failed ? t("tool_failed") : null,
    isForEngine ? t("by_engine") : null,
  ];
  return el("li", { class: failed ? "failed" : "" },
    el("p", { class: "call" }, el("code", {}, String(name ?? "")), ` ${facts.filter(Boolean).join(" · ")}`),
    el("dl", {},
      el("dt", {}, t("arguments")), el("dd", {}, el("pre", { tabindex: 0 }, written(given))),
      result === undefined ? null : el("dt", {}, t("result")),
      result === undefined ? null : el("dd", {}, el("pre", { tabindex: 0 }, written(result)))));
}

function written(value) {
  if (typeof value !== "string") return JSON.stringify(value ?? null, null, 2);
  try {
    return JSON.stringify(JSON.parse(value), null, 2);
  } catch {
    return value;
  }
}
