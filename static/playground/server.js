// The server that this page came from: what can be talked to there, and what is wrong with it.

import { el, find } from "./dom.js";
import { settings } from "./settings.js";
import { isText, t } from "./texts.js";
import { errorOf } from "./turn.js";

const BASE = new URL(".", location.href); // the page may lie behind a proxy's path
const CHAT = { name: "chat", path: "/chat/completions" };

export let info = null; // what /playground/endpoints said

export const urlOf = (path) => new URL(path.replace(/^\//, ""), BASE).href;
export const authorization = () => (settings.key ? { Authorization: `Bearer ${settings.key}` } : {});
export const endpoint = () => info?.endpoints.find(({ path }) => path === find("endpoint").value) ?? CHAT;
export const bodyOf = (response) => response.json().catch(() => null);

/** Ask the server what can be talked to, and tell the reader where it does not say. */
export async function connect() {
  try {
    const response = await fetch(urlOf("playground/endpoints"), { headers: authorization(), cache: "no-store" });
    if (!response.ok) return warnOf(errorOf(await bodyOf(response), response.status));
    info = await response.json();
  } catch {
    return warn("gone");
  }
  warn(null);
}

/** Tell the reader why the server refused, and how to mend it. */
export function warnOf({ status, code, message }) {
  if (status !== 401 || code === "not_configured") warn("http", { status, message });
  else warn(settings.key ? "wrong_key" : "need_key");
}

export let warned = null; // {what, values}, while the banner is shown

/** Show the banner: `gone`, `need_key`, `wrong_key`, or `http` with a status and a message; null hides it. */
export function warn(what, values = {}) {
  warned = what && { what, values };
  find("banner").hidden = !what;
  if (!what) return;
  const wantsKey = what === "wrong_key" || what === "need_key";
  find("banner-what").textContent = what === "http" ? t("http_failed", values) : t(what);
  find("banner-mend").textContent = isText(`${what}_about`) ? t(`${what}_about`, { origin: location.origin }) : values.message;
  find("banner-do").textContent = t(wantsKey ? "enter_key" : "retry");
}

export function drawEndpoints() {
  const select = find("endpoint");
  const wanted = settings.endpoint || select.value;
  select.replaceChildren(...(info?.endpoints ?? []).map(({ name, path }) => el("option", { value: path }, name)));
  if (info?.endpoints.some(({ path }) => path === wanted)) select.value = wanted;
  find("demo").hidden = find("demo-about").hidden = !info?.demo;
}
