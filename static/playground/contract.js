// Holds one streamed answer to what voice engines and client libraries rely on, and says where it departs from it.

const LATE_FIRST_MS = 3000; // comparable engines give up on a first token after 3 to 20 s
const LATE_CHUNK_MS = 1000;
const WORD_SLACK_MS = 80;
const LIMIT = 5; // of one kind are told

export class Contract {
  constructor(usageAsked) {
    this.usageAsked = usageAsked;
    this.findings = []; // {code, level: "bad" | "warn", values, times}
    this.seen = 0;
    this.id = null;
    this.created = null;
    this.hasRole = false;
    this.hasContent = false;
    this.finish = null;
    this.usage = false;
    this.error = false;
    this.done = false;
    this.lastAt = null;
    this.audioId = null;
    this.audioBytes = 0;
    this.hasTranscript = false;
    this.lastWord = 0;
    this.wordsEnd = 0;
  }

  find(level, code, values = {}) {
    const same = this.findings.filter((finding) => finding.code === code);
    if (same.length >= LIMIT) same[LIMIT - 1].more = (same[LIMIT - 1].more ?? 0) + 1;
    else this.findings.push({ level, code, values });
  }

  /** Look at one event; `since` is ms from the request. */
  take(event, since) {
    if (event.odd.length) this.find("bad", "odd_field", { field: event.odd[0] });
    if (event.unfinished) this.find("bad", "unfinished_event");
    if (event.data === null) return;
    if (this.done) this.find("bad", "after_done");
    if (event.done) {
      this.done = true;
      return;
    }
    const chunk = event.json;
    this.seen++;
    if (!chunk) return this.find("bad", "no_json", { n: this.seen });
    if (chunk.error) {
      this.error = true;
      if (this.finish) this.find("bad", "error_after_finish");
      return;
    }
    if (this.error) this.find("bad", "after_error");
    if (chunk.object === "chat.completion.custom_metadata") {
      if (this.seen > 1) this.find("warn", "late_control");
      return;
    }
    this.#head(chunk);
    if (chunk.usage) this.#usage(chunk);
    const choices = Array.isArray(chunk.choices) ? chunk.choices : [];
    if (!choices.length) {
      if (!chunk.usage) this.find("warn", "no_choices", { n: this.seen });
      return;
    }
    if (this.usage && !chunk.usage) this.find("bad", "after_usage");
    for (const choice of choices) if (choice?.index === 0 || choices.length === 1) this.#choice(chunk, choice ?? {}, since);
  }

  #head(chunk) {
    if (chunk.object !== "chat.completion.chunk") this.find("bad", "wrong_object", { object: String(chunk.object) });
    for (const name of ["id", "created", "model"]) if (!chunk[name]) this.find("bad", "missing_field", { field: name });
    if (chunk.id === "waiting_msg") {
      if (this.hasContent) this.find("bad", "late_waiting");
    } else if (chunk.id) {
      this.id ??= chunk.id;
      if (chunk.id !== this.id) this.find("bad", "changed_id", { first: this.id, then: chunk.id });
    }
    this.created ??= chunk.created;
    if (chunk.created && chunk.created !== this.created) this.find("warn", "changed_created");
  }

  #usage(chunk) {
    if (this.usage) this.find("bad", "usage_again");
    if (!this.usageAsked) this.find("warn", "usage_unasked");
    if (chunk.choices?.length) this.find("bad", "usage_shares");
    this.usage = true;
  }

  #choice(chunk, choice, since) {
    const delta = choice.delta ?? {};
    if (!this.hasRole && delta.role !== "assistant") this.find("warn", "no_role");
    else if (this.hasRole && delta.role) this.find("warn", "role_again");
    this.hasRole = true;
    const says = delta.content || delta.audio || delta.tool_calls;
    if (this.finish && (says || choice.finish_reason)) this.find("bad", "after_finish");
    if (says) {
      if (this.lastAt === null && since > LATE_FIRST_MS) this.find("bad", "late_first", { ms: since });
      else if (this.lastAt !== null && since - this.lastAt > LATE_CHUNK_MS)
        this.find("warn", "late_chunk", { n: this.seen, ms: since - this.lastAt });
      this.lastAt = since;
      if (chunk.id !== "waiting_msg") this.hasContent = true;
    }
    if (delta.audio) this.#audio(delta.audio);
    if (choice.finish_reason) {
      if (says) this.find("warn", "finish_shares");
      this.finish = choice.finish_reason;
    }
  }

  #audio(audio) {
    if (audio.id) {
      this.audioId ??= audio.id;
      if (audio.id !== this.audioId) this.find("bad", "changed_audio_id");
    }
    if (audio.transcript) this.hasTranscript = true;
    for (const word of audio.words ?? []) this.#word(word ?? {});
  }

  #word(word) {
    const isWhole =
      typeof word.text === "string" && ["start_ts", "end_ts", "duration"].every((name) => Number.isFinite(word[name]));
    if (!isWhole) return this.find("bad", "word_fields", { word: String(word.text) });
    if (word.start_ts < this.lastWord || word.end_ts < word.start_ts) this.find("bad", "word_order", { word: word.text });
    if (Math.abs(word.end_ts - word.start_ts - word.duration) > 1) this.find("warn", "word_length", { word: word.text });
    this.lastWord = word.start_ts;
    this.wordsEnd = Math.max(this.wordsEnd, word.end_ts);
  }

  /** Note the sound of one chunk, in bytes; null where its base64 can't be read. */
  sound(bytes) {
    if (bytes === null) return this.find("bad", "no_base64");
    if (bytes % 2) this.find("bad", "odd_bytes", { bytes });
    this.audioBytes += bytes;
  }

  /** Note that the sound ran out before more of it came. */
  underrun(gap) {
    this.find("bad", "underrun", { ms: gap });
  }

  /** Look at how it ended: "end" where the server closed the body, "cut" where it broke, "stopped" where we did. */
  end(how, audioHz) {
    if (how === "stopped") return;
    if (how === "cut") this.find("bad", "cut");
    if (!this.finish && !this.error) this.find("bad", "no_finish");
    if (!this.done) this.find("bad", "no_done");
    if (this.usageAsked && !this.usage && this.finish) this.find("info", "no_usage");
    const audioMs = (this.audioBytes / 2 / audioHz) * 1000;
    if (this.wordsEnd > audioMs + WORD_SLACK_MS)
      this.find("bad", "word_outside", { ms: this.wordsEnd, audio: audioMs });
    if (this.audioBytes && !this.hasTranscript) this.find("warn", "no_transcript");
  }

  get isKept() {
    return !this.findings.some((finding) => finding.level !== "info");
  }
}
