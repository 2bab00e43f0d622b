// Reads a response's server-sent events as they come over the wire, and keeps what was sent word for word.

/** The connection broke before the response ended. */
export class CutOff extends Error {}

const BLOCK_END = /\r?\n\r?\n|\r\r/g;

/** Call `take` with each event, `{at, raw, data, json, done, comment, odd}`; `at` is performance.now() of its read. */
export async function readEvents(response, take, onBytes) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : new CutOff(error.message);
    });
    const at = performance.now();
    if (done) break;
    onBytes(at, value.length);
    let looked = Math.max(0, rest.length - 3);
    rest += decoder.decode(value, { stream: true });
    let start = 0;
    for (;;) {
      BLOCK_END.lastIndex = Math.max(looked, start);
      const end = BLOCK_END.exec(rest);
      if (!end) break;
      if (end.index > start) take(read(rest.slice(start, end.index), at));
      start = looked = end.index + end[0].length;
    }
    rest = rest.slice(start);
  }
  if (rest.trim()) take({ ...read(rest, performance.now()), unfinished: true });
}

function read(raw, at) {
  const event = { at, raw, data: null, json: null, done: false, comment: false, odd: [] };
  const datas = [];
  for (const line of raw.split(/\r\n|\n|\r/)) {
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    if (colon === 0) event.comment = true;
    else if (field === "data") datas.push(line.slice(colon + 1).replace(/^ /, ""));
    else event.odd.push(field.slice(0, 40));
  }
  if (!datas.length) return event;
  event.data = datas.join("\n");
  event.done = event.data === "[DONE]";
  if (!event.done) {
    try {
      const json = JSON.parse(event.data);
      if (json && typeof json === "object") event.json = json;
    } catch {
      // the contract says so of an event that has data and no JSON
    }
  }
  return event;
}
