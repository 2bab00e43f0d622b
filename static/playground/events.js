// The raw events of a turn: a list of which only what is in sight is in the page, and one event in full.

import { el, find } from "./dom.js";
import { isText, t } from "./texts.js";

const ROW = 28; // px, as in style.css
const SPARE = 8; // rows kept ready above and below
const SHORTENED = 200; // characters

let turn = null;
let rows = [];
let chosen = null;
let counted = -1;

export function drawEvents(of) {
  const isOther = of !== turn;
  turn = of;
  if (isOther) {
    chosen = null;
    find("event-list").scrollTop = 0;
  }
  find("events-none").hidden = Boolean(turn);
  find("events-some").hidden = !turn;
  if (!turn) return;
  if (isOther || counted !== turn.events.length) sift();
  drawRows();
  if (isOther) open(null);
}

/** Draw it anew, as after a change of language or filter. */
export function redrawEvents() {
  if (!turn) return;
  sift();
  drawRows();
  open(chosen);
}

function sift() {
  const text = find("filter-text").value.toLowerCase();
  const kind = find("filter-kind").value;
  counted = turn.events.length;
  rows = turn.events.filter(
    (event) => (kind === "all" || event.kinds.includes(kind)) && (!text || event.raw.toLowerCase().includes(text)),
  );
  const dropped = turn.dropped ? t("event_dropped", { n: turn.dropped }) : "";
  find("event-count").textContent = t("event_count", { n: rows.length, all: turn.events.length + turn.dropped }) + dropped;
  find("event-list").setAttribute("aria-label", t("event_list", { n: turn.number }));
  find("event-space").style.height = `${rows.length * ROW}px`;
}

function drawRows() {
  const list = find("event-list");
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - SPARE);
  const count = Math.ceil(list.clientHeight / ROW) + 2 * SPARE;
  find("event-space").replaceChildren(
    ...rows.slice(first, first + count).map((event, place) => {
      const row = el("div", {
        id: `event-${event.n}`, role: "option", class: `event ${event.kinds[0] ?? "other"}`,
        "aria-selected": String(event === chosen), "aria-setsize": rows.length, "aria-posinset": first + place + 1,
        onclick: () => open(event, true),
      },
        el("span", { class: "at" }, String(Math.round(event.at))),
        el("span", { class: "gap" }, `+${event.gap.toFixed(event.gap < 10 ? 1 : 0)}`),
        el("span", { class: "kind" }, kindsOf(event)),
        el("span", { class: "raw" }, brief(event)));
      row.style.top = `${(first + place) * ROW}px`;
      return row;
    }),
  );
  const isDrawn = chosen && find(`event-${chosen.n}`);
  if (isDrawn) list.setAttribute("aria-activedescendant", isDrawn.id);
  else list.removeAttribute("aria-activedescendant");
}

/** Return what an event says, without what all of them say. */
function brief({ data, raw }) {
  const json = jsonOf(data);
  const choice = json?.choices?.[0];
  const said = json?.error ?? (json?.usage && !choice ? json.usage : choice && { ...choice.delta });
  if (!said) return raw.replace(/^data: /, "").slice(0, 160);
  if (choice?.finish_reason) said.finish_reason = choice.finish_reason;
  return JSON.stringify(said, (key, value) => (key === "data" && typeof value === "string" ? `${value.slice(0, 8)}…` : value)).slice(0, 160);
}

const kindsOf = (event) => (event.kinds.length ? event.kinds : ["other"]).map((kind) => t(isText(`kind_${kind}`) ? `kind_${kind}` : "kind_other")).join(" + ");

function open(event, draws = false) {
  chosen = event;
  if (draws) drawRows();
  find("event-title").textContent = event ? `${t("event_open", { n: event.n })} · ${kindsOf(event)}` : t("event_pick");
  const full = find("event-full");
  full.hidden = !event;
  const json = event && jsonOf(event.data);
  if (event) full.textContent = json ? JSON.stringify(json, shorten, 2) : event.raw;
}

/** Return an event's JSON, if it is any; it is not kept for all of them. */
function jsonOf(data) {
  try {
    return JSON.parse(data);
  } catch {
    return null;
  }
}

function shorten(key, value) {
  const isLong = key === "data" && typeof value === "string" && value.length > SHORTENED;
  return isLong ? `${value.slice(0, 48)}${t("shortened", { n: value.length })}` : value;
}

function move(event) {
  const list = find("event-list");
  const page = Math.max(1, Math.floor(list.clientHeight / ROW) - 1);
  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
  if (!(event.key in steps) || !rows.length) return;
  event.preventDefault();
  const from = chosen ? rows.indexOf(chosen) : event.key === "ArrowUp" ? 1 : -1;
  const place = Math.min(rows.length - 1, Math.max(0, from + steps[event.key]));
  open(rows[place]); // first: the list gives room to the event in full
  const top = place * ROW;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
  drawRows();
}

export function listenToEvents() {
  let isDue = false;
  find("event-list").addEventListener("scroll", () => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      drawRows();
    });
  });
  find("event-list").addEventListener("keydown", move);
  find("filter-text").addEventListener("input", redrawEvents);
  find("filter-kind").addEventListener("change", redrawEvents);
}

export const KINDS = ["all", "text", "audio", "words", "tools", "waiting", "role", "control", "finish", "usage", "trace", "error", "comment", "done", "odd"];

export function drawKinds() {
  const select = find("filter-kind");
  const { value } = select;
  select.replaceChildren(...KINDS.map((kind) => el("option", { value: kind }, t(`kind_${kind}`))));
  select.value = value || "all";
}
