// One turn: what was asked, what came when, and how much of it was heard.

import { Contract } from "./contract.js";
import { pcmOf } from "./sound.js";

const SENTENCE = /[.!?…](?=["'”’)\]]*(\s|$))|[。！？；]/;
const KEPT_EVENTS = 5000;
const FAR = 80; // characters: a word that is found farther off is another one

export class Turn {
  constructor(number, asked) {
    Object.assign(this, asked); // {endpoint, question, url, headers, body, audioHz}
    this.number = number;
    this.state = "waiting"; // streaming, speaking, done, stopped, failed
    this.startedAt = performance.now();
    this.marks = {}; // ms from the request: headers, first_byte, first_sentence, first_audio, end
    this.chunks = []; // {at, gap, kind, size}: the events that said something
    this.events = []; // {n, at, gap, kinds, raw, data}
    this.dropped = 0;
    this.text = "";
    this.words = []; // {text, start_ts, end_ts}
    this.bytes = 0;
    this.playback = null;
    this.contract = new Contract(Boolean(this.body.stream_options?.include_usage));
    this.trace = null;
    this.usage = null;
    this.finish = null;
    this.model = null;
    this.calls = []; // to tools that the engine would run: {name, arguments}
    this.error = null; // {status, code, message}
    this.heard = null; // of a turn that was stopped: {text, ms}
    this.abort = new AbortController();
  }

  since(at = performance.now()) {
    return at - this.startedAt;
  }

  mark(name, at) {
    this.marks[name] ??= this.since(at);
  }

  get isOpen() {
    return this.state === "waiting" || this.state === "streaming";
  }

  get isActive() {
    return this.isOpen || this.state === "speaking";
  }

  sawBytes(at, size) {
    this.mark("first_byte", at);
    this.bytes += size;
    if (this.state === "waiting") this.state = "streaming";
  }

  /** Take one event; `play` is called with each piece of sound. */
  take(event, play) {
    const since = this.since(event.at);
    const kinds = [];
    this.contract.take(event, since);
    if (event.comment && event.data === null) kinds.push("comment");
    if (event.done) kinds.push("done");
    if (event.json) this.#takeChunk(event.json, kinds, event.at, play);
    if (event.odd.length || (event.data !== null && !event.json && !event.done)) kinds.push("odd");
    this.#keep(event, since, kinds);
  }

  #takeChunk(chunk, kinds, at, play) {
    if (chunk.error) {
      kinds.push("error");
      this.error = errorOf(chunk, null);
    }
    if (chunk.trace) {
      kinds.push("trace");
      this.trace = chunk.trace;
    }
    if (chunk.usage) {
      kinds.push("usage");
      this.usage = chunk.usage;
    }
    if (chunk.object === "chat.completion.custom_metadata") kinds.push("control");
    if (typeof chunk.model === "string") this.model = chunk.model;
    const choice = chunk.choices?.[0];
    if (!choice) return;
    const delta = choice.delta ?? choice.message ?? {};
    if (chunk.id === "waiting_msg") kinds.push("waiting");
    const transcript = delta.audio?.transcript;
    const said = typeof transcript === "string" ? transcript : typeof delta.content === "string" ? delta.content : "";
    if (said) {
      kinds.push("text");
      this.text += said;
      if (!this.marks.first_sentence && SENTENCE.test(this.text)) this.mark("first_sentence", at);
    }
    if (Array.isArray(delta.audio?.words) && delta.audio.words.length) {
      kinds.push("words");
      const words = delta.audio.words.filter((word) => typeof word?.text === "string");
      this.words.push(...words);
    }
    if (typeof delta.audio?.data === "string" && delta.audio.data) {
      kinds.push("audio");
      this.mark("first_audio", at);
      this.#takeSound(delta.audio.data, play);
    }
    for (const call of delta.tool_calls ?? []) {
      if (!kinds.includes("tools")) kinds.push("tools");
      const place = call.index ?? this.calls.length;
      const known = (this.calls[place] ??= { name: "", arguments: "" });
      known.name += call.function?.name ?? "";
      known.arguments += call.function?.arguments ?? "";
    }
    if (choice.finish_reason) {
      kinds.push("finish");
      this.finish = choice.finish_reason;
    }
    if (!kinds.length) kinds.push(delta.role ? "role" : "empty");
  }

  #takeSound(base64, play) {
    let samples;
    try {
      samples = pcmOf(base64);
    } catch {
      return this.contract.sound(null);
    }
    const padding = base64.endsWith("==") ? 2 : base64.endsWith("=") ? 1 : 0;
    this.contract.sound((base64.length / 4) * 3 - padding);
    play(samples);
  }

  #keep(event, since, kinds) {
    const said = ["waiting", "text", "audio", "words", "tools"].find((kind) => kinds.includes(kind));
    const last = this.chunks.at(-1);
    if (said) {
      const kind = kinds.includes("audio") ? "audio" : said;
      this.chunks.push({ at: since, gap: last ? since - last.at : since, kind, size: event.raw.length });
    }
    const gap = since - (this.events.at(-1)?.at ?? 0);
    if (this.events.length >= KEPT_EVENTS) this.dropped++;
    else this.events.push({ n: this.events.length + 1, at: since, gap, kinds, raw: event.raw, data: event.data });
  }

  /** Note that no more will come: "end", "cut", or "stopped". */
  close(how) {
    this.mark("end");
    this.endedAt = Date.now();
    this.text ||= this.words.map(({ text }) => text).join(" ");
    this.contract.end(how, this.audioHz);
    for (const { gap } of this.playback?.underruns ?? []) this.contract.underrun(gap);
    if (how === "stopped") this.state = "stopped";
    else if (this.playback && !this.playback.isOver) this.state = "speaking"; // an error is told when all was heard
    else this.state = this.error ? "failed" : "done";
  }

  fail(error) {
    this.error = error;
    this.mark("end");
    this.state = "failed";
  }

  /** Note what was heard of it when it was stopped: the words that had begun; of text all that had come. */
  stop() {
    const { playback } = this;
    const ms = playback ? playback.heardMs : null;
    this.heard = { text: playback ? this.spokenUntil(ms) : this.text, ms };
    playback?.stop();
    this.endedAt = Date.now();
    if (this.isOpen) this.abort.abort();
    this.state = "stopped";
  }

  spokenUntil(ms) {
    const placed = placeWords(this.text, this.words);
    if (placed.length) {
      const spoken = placed.filter(({ word }) => word.start_ts < ms).at(-1);
      return spoken ? this.text.slice(0, spoken.end) : "";
    }
    // without times of words, as much of the text as was heard of the sound
    const share = this.playback.totalMs ? ms / this.playback.totalMs : 0;
    const cut = this.text.slice(0, Math.round(this.text.length * share));
    return /\s/.test(this.text) && cut.length < this.text.length ? cut.replace(/\S+$/, "").trimEnd() : cut;
  }

  /** Return the messages that a later request remembers of this turn. */
  remembered(extras) {
    const said = this.heard ? this.heard.text : this.text;
    if (this.state === "failed" && !said) return [];
    const user = this.body.messages.at(-1);
    const messages = [extras ? user : { role: user.role, content: user.content }];
    if (!said.trim()) return messages;
    const agent = { role: "assistant", content: said };
    if (extras) {
      Object.assign(agent, { turn_id: this.number, timestamp: this.endedAt ?? Date.now(), metadata: { source: "llm" } });
      if (this.heard) {
        Object.assign(agent, { interrupted: true, interrupt_timestamp: agent.timestamp, original: this.text });
      }
    }
    return [...messages, agent];
  }
}

/** Find the words in the text, in their order; return {word, start, end} of those that are there. */
export function placeWords(text, words, from = 0) {
  const placed = [];
  let cursor = from;
  for (const word of words) {
    const start = word.text ? text.indexOf(word.text, cursor) : -1;
    if (start < 0 || start - cursor > FAR) continue;
    cursor = start + word.text.length;
    placed.push({ word, start, end: cursor });
  }
  return placed;
}

/** Return {status, code, message} of OpenAI's error object, whatever came in its place. */
export function errorOf(body, status) {
  const error = body?.error;
  const message = typeof error === "string" ? error : (error?.message ?? "");
  return { status, code: error?.code ?? null, message: String(message) };
}
