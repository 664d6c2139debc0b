/** What the selection comes to, in one line; and what is said for a moment in its place. */

import { element } from "../dom.mjs";

/** @import { Shape } from "./control.mjs" */

/** @type {Shape} */
export const numbers = {
  label: "",
  make(viewer) {
    const root = element("p", { class: "numbers", "aria-live": "polite" });
    return { root, show: (screen) => (root.textContent = viewer.flashed ?? screen.numbers.join(" \u00b7 ")) };
  },
};
