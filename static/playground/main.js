// The page: what the reader does goes out as a request, and what comes back is drawn a frame at a time.

import { Bubbles, follow } from "./conversation.js";
import { el, find } from "./dom.js";
import { drawEvents, drawKinds, listenToEvents, redrawEvents } from "./events.js";
import { listenToSettings, newSession, openSettings, settings, store } from "./settings.js";
import { FORMS, notesOn, snippet } from "./snippets.js";
import { Playback, unlock } from "./sound.js";
import { authorization, bodyOf, connect, drawEndpoints, endpoint, info, urlOf, warn, warnOf, warned } from "./server.js";
import { drawSources } from "./sources.js";
import { listenToTabs, tabNow } from "./tabs.js";
import { chooseLanguage, isText, languageNow, t } from "./texts.js";
import { drawTimeline, showChunk } from "./timeline.js";
import { Turn, errorOf } from "./turn.js";
import { CutOff, readEvents } from "./wire.js";

const KEPT_TURNS = 50;
const INSPECT_MS = 200; // between two drawings of a turn that goes on
const TRIES = { chat: ["try_1", "try_2"], other: ["try_1", "try_2", "try_3"] };

let turns = [];
let selected = null;
let remembered = 0; // turns of this conversation are those from here on
let count = 0;
const bubbles = new Map();
const audioHz = new Map(); // by an endpoint's path, once an answer has told it

const current = () => turns.find((turn) => turn.isActive) ?? null;

async function meet() {
  await connect();
  drawInfo();
}

function drawInfo() {
  drawEndpoints();
  drawEndpoint();
}

function drawEndpoint() {
  const { name, audio } = endpoint();
  const written = name.replace(/\/?audio$/, "") || "chat";
  const about = t(isText(`about_${written}`) ? `about_${written}` : "about_own");
  find("endpoint-about").textContent = audio ? t("about_spoken", { about }) : about;
  const tries = TRIES[written] ?? TRIES.other;
  find("tries").replaceChildren(
    ...tries.map((text) => el("li", {}, el("button", { type: "button", class: "quiet", onclick: () => send(t(text)) }, t(text)))),
  );
  drawSnippet();
}

// What is asked

function bodyFor(question, number) {
  const { model, temperature, system, usage, extras } = settings;
  const now = Date.now();
  const user = { role: "user", content: question };
  if (extras) Object.assign(user, { turn_id: number, timestamp: now, metadata: { source: "message", user: "playground" } });
  const before = turns.slice(remembered).flatMap((turn) => turn.remembered(extras));
  return {
    ...(model && { model }),
    stream: true,
    messages: [...(system ? [{ role: "system", content: system }] : []), ...before, user],
    ...(temperature !== "" && Number.isFinite(Number(temperature)) && { temperature: Number(temperature) }),
    ...(usage && { stream_options: { include_usage: true } }),
    ...(extras && { turn_id: number, timestamp: now, interruptable: true }),
  };
}

async function send(text) {
  const question = text.trim();
  if (!question) return;
  stop();
  if (!info || warned) await meet();
  if (warned) return find("banner-do").focus();
  const to = endpoint();
  const hz = audioHz.get(to.path) ?? info.audio_hz ?? 16000;
  if (to.audio) unlock(hz);
  const number = ++count;
  const turn = new Turn(number, { endpoint: to, question, url: urlOf(to.path), body: bodyFor(question, number), audioHz: hz });
  turns.push(turn);
  if (turns.length > KEPT_TURNS) forget(turns[0]);
  const bubble = new Bubbles(turn, { select, retry });
  bubbles.set(turn, bubble);
  find("message").value = "";
  grow();
  find("empty").hidden = true;
  find("turn-list").append(bubble.element);
  find("turns").scrollTop = find("turns").scrollHeight;
  select(turn);
  animate();
  await ask(turn);
}

async function ask(turn) {
  const headers = { "Content-Type": "application/json", ...authorization() };
  if (settings.session) headers["X-Session-Id"] = settings.session;
  if (info.trace) headers["X-Trace"] = "1";
  const wire = { method: "POST", headers, body: JSON.stringify(turn.body), signal: turn.abort.signal, cache: "no-store" };
  let response = null;
  try {
    response = await fetch(turn.url, wire);
    turn.mark("headers");
    turn.requestId = response.headers.get("X-Request-Id");
    if (!response.ok) refuse(turn, await bodyOf(response), response.status);
    else if (response.headers.get("Content-Type")?.startsWith("text/event-stream")) {
      await readEvents(response, (event) => turn.take(event, (samples) => play(turn, samples)), (at, size) => turn.sawBytes(at, size));
      turn.close("end");
    } else {
      turn.contract.find("bad", "no_stream", { type: response.headers.get("Content-Type") });
      turn.fail({ ...errorOf(await bodyOf(response), null), kind: null });
    }
  } catch (error) {
    if (turn.state === "stopped") turn.close("stopped");
    else if (!response) {
      turn.fail({ status: null, kind: "gone" });
      warn("gone");
    } else if (error instanceof CutOff) {
      turn.error = { status: null, kind: "cut" };
      turn.close("cut");
    } else {
      turn.fail({ status: null, message: "" });
      turn.playback?.stop();
      throw error;
    }
  }
  learn(turn);
  if (!turn.isActive) ended(turn);
  animate();
}

function refuse(turn, body, status) {
  const error = errorOf(body, status);
  turn.fail({ ...error, kind: settings.key ? "wrong_key" : "need_key" });
  if (status === 401 && error.code !== "not_configured") warnOf(error);
}

/** Remember an endpoint's rate of audio, where the server has told it. */
function learn(turn) {
  const hz = turn.trace?.audio_hz;
  if (Number.isInteger(hz) && hz >= 8000 && hz <= 96000) audioHz.set(turn.endpoint.path, hz);
}

function play(turn, samples) {
  turn.playback ??= new Playback(turn.audioHz);
  turn.playback.push(samples);
}

function stop() {
  const turn = current();
  if (!turn) return;
  const wasSpeaking = turn.state === "speaking";
  turn.stop();
  if (wasSpeaking) ended(turn);
  animate();
}

/** Have the answer read out once, when all of it is there. */
function ended(turn) {
  const bubble = bubbles.get(turn);
  turn.playback?.release();
  if (turn === selected) inspect();
  bubble?.paint();
  const said =
    turn.state === "failed" ? (bubble?.note.textContent ?? "")
    : turn.state === "stopped" ? t("live_stopped", { text: turn.heard.text })
    : t("live_answer", { text: turn.text || t("said_nothing") });
  find("live").textContent = said;
}

function retry(turn) {
  forget(turn);
  send(turn.question);
}

function forget(turn) {
  const place = turns.indexOf(turn);
  turns.splice(place, 1);
  if (place < remembered) remembered--;
  bubbles.get(turn)?.element.remove();
  bubbles.delete(turn);
}

function startOver() {
  stop();
  remembered = turns.length;
  for (const bubble of bubbles.values()) bubble.element.remove();
  bubbles.clear();
  find("empty").hidden = false;
  newSession();
  drawSnippet();
  find("message").focus();
}

// What is drawn

let frame = 0;
let inspectedAt = 0;

function animate() {
  frame ||= requestAnimationFrame(draw);
}

function draw(now) {
  frame = 0;
  const active = current();
  if (active?.state === "speaking" && active.playback.isOver) {
    active.state = active.error ? "failed" : "done";
    ended(active);
  }
  follow(() => {
    for (const bubble of bubbles.values()) if (!bubble.isFinal) bubble.paint();
  });
  drawPlayer(active);
  drawStop(Boolean(active?.isActive));
  if (now - inspectedAt > INSPECT_MS || !active?.isActive) {
    inspectedAt = now;
    inspect();
  }
  if (active) animate();
}

function drawStop(isActive) {
  const button = find("stop");
  if (button.hidden === !isActive) return;
  if (!isActive && document.activeElement === button) find("message").focus();
  button.hidden = !isActive;
}

function drawPlayer(active) {
  const playback = (active ?? selected)?.playback;
  find("player").hidden = !playback;
  if (!playback) return;
  const seconds = (ms) => (ms / 1000).toFixed(1);
  const { heardMs, totalMs, leadMs, underruns, context } = playback;
  find("level").style.transform = `scaleX(${active ? playback.level.toFixed(3) : 0})`;
  const isBlocked = active && context.state === "suspended";
  find("player-said").textContent = isBlocked ? t("blocked")
    : t("player", { heard: seconds(heardMs), total: seconds(totalMs), lead: seconds(playback.isOver ? 0 : leadMs) });
  find("underruns").hidden = !underruns.length;
  find("underruns").textContent = t("underruns", { n: underruns.length });
}

function select(turn) {
  selected = turn;
  for (const [each, bubble] of bubbles) bubble.element.classList.toggle("selected", each === turn);
  inspect();
  drawSnippet();
  drawPlayer(current());
}

function inspect() {
  const tab = tabNow();
  if (tab === "turn") drawTimeline(selected, turns, select);
  else if (tab === "events") drawEvents(selected);
  else if (tab === "sources") drawSources(selected);
}

function drawSnippet() {
  const form = find("form").value || "curl";
  const to = endpoint();
  const isSame = selected && selected.endpoint.path === to.path;
  const asked = {
    endpoint: to,
    url: urlOf(to.path),
    body: isSame ? selected.body : bodyFor(t("try_1"), count + 1),
    session: settings.session,
    needsKey: info?.needs_key || Boolean(settings.key),
    model: info?.model,
  };
  find("snippet").textContent = snippet(form, asked);
  find("snippet-notes").replaceChildren(...notesOn(form, asked.url).map((note) => el("p", {}, note)));
  find("copied").textContent = "";
}

async function copy() {
  const text = find("snippet").textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // over plain http there is no clipboard but the old way
    getSelection().selectAllChildren(find("snippet"));
    document.execCommand("copy");
  }
  find("copied").textContent = t("copied");
}

function speak(language) {
  chooseLanguage(language);
  const button = find("language");
  button.textContent = languageNow() === "zh" ? "English" : "中文";
  button.lang = languageNow() === "zh" ? "en" : "zh-CN";
  for (const bubble of bubbles.values()) bubble.translate();
  drawKinds();
  drawInfo();
  redrawEvents();
  inspect();
  drawPlayer(current());
  if (warned) warn(warned.what, warned.values);
}

function grow() {
  const box = find("message");
  box.style.height = "auto";
  box.style.height = `${Math.min(box.scrollHeight + 2, 160)}px`;
}

// What the reader does

function listen() {
  find("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    send(find("message").value);
  });
  find("message").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send(find("message").value);
  });
  find("message").addEventListener("input", grow);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !find("settings").open) stop();
  });
  document.addEventListener("pointerdown", () => {
    const context = current()?.playback?.context;
    if (context?.state === "suspended") context.resume();
  });
  find("stop").addEventListener("click", stop);
  find("new").addEventListener("click", startOver);
  find("open-settings").addEventListener("click", () => openSettings(info));
  find("language").addEventListener("click", () => {
    const language = languageNow() === "zh" ? "en" : "zh";
    store({ language });
    speak(language);
  });
  find("banner-do").addEventListener("click", () => {
    if (warned?.what === "wrong_key" || warned?.what === "need_key") openSettings(info, "key");
    else meet();
  });
  find("endpoint").addEventListener("change", () => {
    store({ endpoint: find("endpoint").value });
    drawEndpoint();
  });
  addEventListener("resize", animate);
  find("scrub").addEventListener("input", () => showChunk(selected));
  find("form").addEventListener("change", drawSnippet);
  find("copy").addEventListener("click", copy);
  listenToTabs(inspect);
  listenToEvents();
  listenToSettings(() => {
    meet();
  });
}

find("form").replaceChildren(...FORMS.map(([value, name]) => el("option", { value }, name)));
if (!settings.session) newSession();
listen();
speak(settings.language);
if (matchMedia("(min-width: 821px)").matches) find("message").focus(); // on a phone it would open the keyboard
meet().finally(() => performance.mark("usable"));
document.documentElement.dataset.ready = "true";
