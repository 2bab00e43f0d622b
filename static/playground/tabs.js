// The tabs, one of which is open; arrow keys go from one to the next.

import { find } from "./dom.js";

const TABS = ["turn", "events", "sources", "copy"];
export const tabNow = () => TABS.find((name) => find(`tab-${name}`).ariaSelected === "true");

function openTab(name, opened) {
  for (const each of TABS) {
    const isOpen = each === name;
    find(`tab-${each}`).ariaSelected = String(isOpen);
    find(`tab-${each}`).tabIndex = isOpen ? 0 : -1;
    find(`panel-${each}`).hidden = !isOpen;
  }
  opened();
}

/** Call `opened` when another one is. */
export function listenToTabs(opened) {
  for (const name of TABS) find(`tab-${name}`).addEventListener("click", () => openTab(name, opened));
  find("tabs").addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowLeft: -1, Home: -TABS.length, End: TABS.length };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const place = TABS.indexOf(tabNow()) + steps[event.key];
    const name =
      event.key === "Home" ? TABS[0] : event.key === "End" ? TABS.at(-1) : TABS[(place + TABS.length) % TABS.length];
    openTab(name, opened);
    find(`tab-${name}`).focus();
  });
}
