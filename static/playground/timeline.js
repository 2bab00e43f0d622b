// When things happened in a turn: a chart, the same as a table, and the last turns beside it.

import { el, find, svg } from "./dom.js";
import { languageNow, t } from "./texts.js";

let width = 640; // px: one unit of the chart is one of the screen
const LEFT = 8;
const SHOWN_TICKS = 3000;
const SHOWN_TURNS = 8;
const LATE_MS = 1000;
const MARKS = ["headers", "first_byte", "first_sentence", "first_audio", "end"];
const SERVER = [
  ["knowledge", "knowledge_ms"],
  ["upstream_first_byte", "upstream_first_byte_ms"],
  ["first_byte", "first_byte_ms"],
  ["first_sentence", "first_sentence_ms"],
  ["first_audio", "first_audio_ms"],
  ["total", "total_ms"],
];

export function drawTimeline(turn, turns, select) {
  find("turn-none").hidden = Boolean(turn);
  find("turn-some").hidden = !turn;
  if (!turn) return;
  find("turn-title").textContent = `${t("turn", { n: turn.number })} · ${turn.endpoint.name}`;
  const facts = [t(`state_${turn.state}`), turn.model, turn.usage?.total_tokens && t("tokens", { n: turn.usage.total_tokens })];
  find("turn-facts").textContent = facts.filter(Boolean).join(" · ");
  find("chart").replaceChildren(chart(turn));
  drawScrubber(turn);
  find("steps").replaceChildren(...steps(turn));
  find("verdicts").replaceChildren(...verdicts(turn));
  drawLast(turn, turns, select);
}

function spanOf(turn) {
  const last = turn.isOpen ? turn.since() : (turn.marks.end ?? 0);
  return Math.max(50, last);
}

function chart(turn) {
  width = Math.max(280, find("chart").clientWidth || 640);
  const span = spanOf(turn);
  const x = (ms) => LEFT + (Math.min(ms, span) / span) * (width - 2 * LEFT);
  const box = svg("svg", { viewBox: `0 0 ${width} 132`, role: "img", "aria-label": t("chart", { n: turn.number }) });
  for (const ms of scale(span)) {
    box.append(svg("line", { class: "grid", x1: x(ms), x2: x(ms), y1: 74, y2: 116 }));
    const anchor = x(ms) > width - 40 ? "end" : ms ? "middle" : "start";
    box.append(svg("text", { class: "tick", x: x(ms), y: 129, "text-anchor": anchor }, ms >= 1000 ? `${ms / 1000} s` : `${ms} ms`));
  }
  box.append(svg("line", { class: "axis", x1: LEFT, x2: width - LEFT, y1: 116, y2: 116 }));
  const waited = turn.marks.first_byte ?? span;
  box.append(svg("rect", { class: "wait", x: LEFT, y: 80, width: Math.max(1, x(waited) - LEFT), height: 30, rx: 3 }));
  const hasAudio = turn.marks.first_audio !== undefined;
  const paths = { text: "", audio: "", other: "" };
  for (const { at, kind } of turn.chunks.slice(0, SHOWN_TICKS)) {
    const lane = kind === "audio" ? "audio" : kind === "text" || kind === "waiting" ? "text" : "other";
    paths[lane] += `M${x(at).toFixed(1)} ${lane === "audio" ? 97 : 82}v${hasAudio ? 12 : 27}`;
  }
  for (const [lane, d] of Object.entries(paths)) if (d) box.append(svg("path", { class: `chunk ${lane}`, d }));
  for (const { at, gap } of turn.chunks.slice(1, SHOWN_TICKS))
    if (gap > LATE_MS) box.append(svg("rect", { class: "late", x: x(at - gap), y: 80, width: x(at) - x(at - gap), height: 30, rx: 3 }));
  for (const { gap, seen } of turn.playback?.underruns ?? []) {
    const end = turn.since(seen);
    box.append(svg("rect", { class: "late", x: x(end - gap), y: 80, width: Math.max(1, x(end) - x(end - gap)), height: 30, rx: 3 }));
  }
  drawMarks(box, turn, x);
  return box;
}

/** Put each milestone on the axis, with its name on the first row where it has room. */
function drawMarks(box, turn, x) {
  const rowEnds = [-1, -1, -1, -1];
  const letter = languageNow() === "zh" ? 12.5 : 6.6;
  for (const name of MARKS) {
    const ms = turn.marks[name];
    if (ms === undefined) continue;
    const label = `${t(name)} ${Math.round(ms)}`;
    const room = t(name).length * letter + 44;
    const isRight = x(ms) + room > width - 4;
    const from = isRight ? x(ms) - room : x(ms);
    let row = rowEnds.findIndex((end) => end <= from);
    if (row < 0) row = rowEnds.length - 1;
    rowEnds[row] = from + room + 4;
    const y = 13 + row * 16;
    box.append(
      svg("line", { class: `mark ${name}`, x1: x(ms), x2: x(ms), y1: y - 9, y2: 116 }),
      svg("text", { class: "name", x: isRight ? x(ms) - 4 : x(ms) + 4, y, "text-anchor": isRight ? "end" : "start" }, label),
    );
  }
}

function scale(span) {
  const rough = span / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((each) => each >= rough);
  return Array.from({ length: Math.floor(span / step) + 1 }, (_, place) => Math.round(place * step));
}

function drawScrubber(turn) {
  const slider = find("scrub");
  const all = turn.chunks.length;
  find("scrubber").hidden = !all;
  slider.max = Math.max(1, all);
  const isFresh = slider.dataset.turn !== String(turn.number);
  if (isFresh) {
    slider.dataset.turn = turn.number;
    slider.value = 1;
  }
  showChunk(turn);
}

export function showChunk(turn) {
  const slider = find("scrub");
  const n = Math.min(Number(slider.value), turn.chunks.length);
  const chunk = turn.chunks[n - 1];
  if (!chunk) return;
  const { at, gap, kind, size } = chunk;
  const said = t(n === 1 ? "chunk_first" : "chunk_at", { n, all: turn.chunks.length, kind: t(`kind_${kind}`), at: Math.round(at), gap: gap.toFixed(1), size });
  find("scrub-said").textContent = said;
  slider.setAttribute("aria-valuetext", said);
  const box = find("chart").firstElementChild;
  box.querySelector(".chosen")?.remove();
  const x = LEFT + (Math.min(at, spanOf(turn)) / spanOf(turn)) * (width - 2 * LEFT);
  box.append(svg("path", { class: "chosen", d: `M${x} 112l-5 9h10z` }));
}

function steps(turn) {
  const timings = turn.trace?.timings ?? {};
  const told = new Map(SERVER.map(([name, key]) => [name, timings[key]]));
  const hasServer = [...told.values()].some((ms) => typeof ms === "number");
  find("server-column").hidden = !hasServer;
  const rows = [["request", 0, undefined]];
  for (const name of ["knowledge", "upstream_first_byte"])
    if (typeof told.get(name) === "number") rows.push([name, undefined, told.get(name)]);
  for (const name of MARKS) {
    const server = told.get(name === "end" ? "total" : name);
    if (turn.marks[name] !== undefined || server !== undefined) rows.push([name, turn.marks[name], server]);
  }
  const shown = (ms) => (typeof ms === "number" ? `${ms < 10 && ms > 0 ? ms.toFixed(1) : Math.round(ms)} ms` : "–");
  return rows.map(([name, here, server]) =>
    el("tr", { class: name }, el("th", { scope: "row" }, t(name)), el("td", {}, shown(here)), hasServer ? el("td", {}, shown(server)) : null),
  );
}

function verdicts(turn) {
  const { contract } = turn;
  const items = contract.findings.map(({ level, code, values, more }) =>
    el("li", { class: level }, t(code, values), more ? ` ${t("more", { n: more })}` : null),
  );
  if (items.length && !contract.isKept) return items;
  const name = turn.isOpen ? "live" : turn.state === "stopped" ? "stopped" : turn.error ? "failed" : "kept";
  const said = turn.error?.kind === "gone" ? t("gone") : t(`verdict_${name}`);
  return [el("li", { class: name === "kept" ? "good" : "info" }, said), ...items];
}

function drawLast(turn, turns, select) {
  const last = turns.slice(-SHOWN_TURNS);
  const longest = Math.max(...last.map(spanOf));
  const list = find("last-turns");
  const focused = last.find(({ number }) => document.activeElement === list.querySelector(`[data-turn="${number}"]`));
  list.replaceChildren(
    ...last.map((each) => {
      const x = (ms) => (Math.min(ms, longest) / longest) * 200;
      const { marks } = each;
      const bars = svg("svg", { viewBox: "0 0 200 12", preserveAspectRatio: "none", "aria-hidden": "true" },
        svg("rect", { class: "wait", y: 2, width: x(marks.first_byte ?? spanOf(each)), height: 8 }),
        svg("rect", { class: "flow", x: x(marks.first_byte ?? 0), y: 2, height: 8,
          width: marks.first_byte === undefined ? 0 : Math.max(1, x(spanOf(each)) - x(marks.first_byte)) }));
      for (const name of ["first_sentence", "first_audio"])
        if (marks[name] !== undefined) bars.append(svg("rect", { class: `mark ${name}`, x: x(marks[name]), y: 0, width: 2, height: 12 }));
      const ms = marks.first_audio ?? marks.first_sentence ?? marks.first_byte;
      return el("li", {}, el("button", { type: "button", "data-turn": each.number, "aria-pressed": String(each === turn), onclick: () => select(each) },
        el("span", { class: "number" }, t("turn", { n: each.number })), bars,
        el("span", { class: "ms" }, each.error ? t("state_failed") : ms === undefined ? "…" : `${Math.round(ms)} ms`)));
    }),
  );
  if (focused) list.querySelector(`[data-turn="${focused.number}"]`).focus();
}
