// What the reader has set. It stays in this tab: sessionStorage ends with it.

import { find } from "./dom.js";
import { t } from "./texts.js";

const STORED = "playground";
const FIELDS = { model: "", temperature: "", key: "", session: "", system: "", usage: false, extras: false, endpoint: "" };

export const settings = load();

function load() {
  try {
    return { ...FIELDS, ...JSON.parse(sessionStorage.getItem(STORED) ?? "{}") };
  } catch {
    return { ...FIELDS };
  }
}

export function store(changes = {}) {
  Object.assign(settings, changes);
  try {
    sessionStorage.setItem(STORED, JSON.stringify(settings));
  } catch {
    // a browser that keeps nothing: the settings last as long as the page
  }
}

export function newSession() {
  const bytes = crypto.getRandomValues(new Uint8Array(6));
  store({ session: `playground-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}` });
}

const inDialog = (name) => find(`set-${name}`);

export function openSettings(info, focus = "model") {
  for (const [name, kind] of Object.entries(FIELDS)) {
    const input = inDialog(name);
    if (!input) continue;
    if (typeof kind === "boolean") input.checked = settings[name];
    else input.value = settings[name];
  }
  inDialog("model").placeholder = info?.model ? t("model_default", { name: info.model }) : t("model_unset");
  inDialog("temperature").placeholder = t("unset");
  find("settings").showModal();
  inDialog(focus).focus();
}

/** Call `saved` with the changes when the reader saves them. */
export function listenToSettings(saved) {
  const dialog = find("settings");
  find("settings-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const changes = {};
    for (const [name, kind] of Object.entries(FIELDS)) {
      const input = inDialog(name);
      if (input) changes[name] = typeof kind === "boolean" ? input.checked : input.value.trim();
    }
    store(changes);
    dialog.close();
    saved();
  });
  find("settings-cancel").addEventListener("click", () => dialog.close());
}
