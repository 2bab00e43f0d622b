// The conversation as it is read: a bubble for each thing that was said, with its words lit as they are spoken.

import { el, find } from "./dom.js";
import { isText, t } from "./texts.js";
import { placeWords } from "./turn.js";

/** Shows one turn; `paint` may be called as often as the screen is drawn. */
export class Bubbles {
  constructor(turn, on) {
    this.turn = turn;
    this.said = el("p", { class: "said" });
    this.tail = document.createTextNode("");
    this.said.append(this.tail);
    this.spans = []; // {span, word}
    this.shown = 0; // characters of the text that are in the page
    this.placed = 0; // words that have their span
    this.lit = 0; // words that have begun
    this.state = el("span", { class: "state" });
    this.facts = el("button", { class: "facts", type: "button", onclick: () => on.select(turn) });
    this.note = el("p", { class: "note", hidden: true });
    this.retry = el("button", { class: "quiet retry", type: "button", hidden: true, onclick: () => on.retry(turn) });
    this.element = el(
      "li",
      { class: "turn" },
      el("div", { class: "bubble user" }, el("span", { class: "who" }), el("p", {}, turn.question)),
      el("div", { class: "bubble agent" }, el("span", { class: "who" }), this.said, this.note, this.retry,
        el("div", { class: "foot" }, this.state, this.facts)),
    );
    this.translate();
  }

  translate() {
    const [user, agent] = this.element.querySelectorAll(".who");
    user.textContent = t("you");
    agent.textContent = t("agent");
    this.retry.textContent = t("retry");
    this.facts.setAttribute("aria-label", t("details", { n: this.turn.number }));
    this.isFinal = false;
    this.paint();
  }

  paint() {
    const { turn } = this;
    if (turn.text.length > this.shown || turn.words.length > this.placed) this.#write();
    if (turn.playback) this.#light();
    if (this.isFinal) return;
    this.element.dataset.state = turn.state;
    this.state.textContent = t(`state_${turn.state}`);
    this.facts.textContent = factsOf(turn);
    this.#annotate();
    this.isFinal = !turn.isActive;
  }

  #write() {
    const { turn, tail } = this;
    const from = this.shown - tail.length;
    if (turn.text.length > this.shown) tail.appendData(turn.text.slice(this.shown));
    this.shown = turn.text.length;
    if (!turn.words.length) return;
    // words go from the tail into spans of their own; those whose text has not come yet wait for it
    let cut = from;
    for (const { word, start, end } of placeWords(turn.text, turn.words.slice(this.placed), from)) {
      const span = el("span", { class: "word" }, turn.text.slice(start, end));
      tail.before(turn.text.slice(cut, start), span);
      this.spans.push({ span, word });
      this.placed = turn.words.indexOf(word, this.placed) + 1;
      cut = end;
    }
    if (cut > from) tail.data = turn.text.slice(cut);
  }

  #light() {
    const { turn, spans } = this;
    const ms = turn.playback.heardMs;
    this.said.classList.toggle("spoken", spans.length > 0);
    while (this.lit < spans.length && spans[this.lit].word.start_ts < ms) {
      spans[this.lit - 1]?.span.classList.remove("now");
      spans[this.lit++].span.classList.add("lit", "now");
    }
    const last = spans[this.lit - 1];
    if (last && (ms >= last.word.end_ts || turn.playback.isOver)) last.span.classList.remove("now");
    this.said.classList.toggle("over", turn.state === "done");
  }

  #annotate() {
    const { turn, note } = this;
    const notes = [];
    if (turn.calls.length) notes.push(t("runs_tools", { names: turn.calls.map(({ name }) => name).join(", ") }));
    if (turn.state === "done" && !turn.text && !turn.calls.length) notes.push(t("said_nothing"));
    if (turn.state === "failed") notes.push(...mending(turn));
    if (turn.state === "stopped" && turn.heard && turn.heard.text !== turn.text && !this.spans.length) this.#split();
    note.replaceChildren(...notes.map((text) => el("span", {}, text)));
    note.hidden = !notes.length;
    this.retry.hidden = turn.state !== "failed";
  }

  /** Tell what was heard of a text without times from what was not. */
  #split() {
    const { heard, text } = this.turn;
    this.said.replaceChildren(heard.text, el("s", { class: "unheard" }, text.slice(heard.text.length)));
  }
}

/** Return what went wrong in a turn, and how to mend it. */
function mending({ error, requestId }) {
  const { status, code, message, kind } = error;
  if (kind === "gone") return [t("gone"), t("gone_about", { origin: location.origin })];
  if (kind === "cut") return [t("cut_off"), t("gone_about", { origin: location.origin })];
  if (status === 401 && code !== "not_configured") return [t(kind), t(`${kind}_about`)];
  const first = status ? t("http_failed", { status }) : t("stream_failed");
  if (status === 401) return [first, message];
  const mend = isText(`mend_${status}`)
    ? `mend_${status}`
    : status >= 502 || /^upstream/.test(code ?? "") ? "mend_502" : status >= 500 || !status ? "mend_500" : "mend_400";
  return [first, message, t(mend, { id: requestId })].filter(Boolean);
}

export function factsOf(turn) {
  const { marks, contract } = turn;
  const parts = [];
  for (const name of ["first_byte", "first_sentence", "first_audio"])
    if (marks[name] !== undefined) parts.push(`${t(name)} ${Math.round(marks[name])} ms`);
  if (!turn.isOpen && !turn.error && turn.state !== "stopped") {
    const count = contract.findings.filter(({ level }) => level !== "info").length;
    parts.push(count ? t("findings", { n: count }) : t("kept"));
  }
  return parts.join(" · ") || "…";
}

/** Keep the newest in sight, unless the reader has scrolled away. */
export function follow(paint) {
  const box = find("turns");
  const isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 60;
  paint();
  if (isAtEnd) box.scrollTop = box.scrollHeight;
}
