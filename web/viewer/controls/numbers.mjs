/** What the selection comes to, in one line; and what is said for a moment in its place. */

import { element } from "../dom.mjs";

/** @import { Shape } from "./control.mjs" */

/** @type {Shape} */
export const numbers = {
  label: "",
  make(viewer) {
    const root = element("p", { class: "numbers", "aria-live": "polite" });
    let drawn = "";
    return {
      root,
      show(screen) {
        const numbers = screen.state.thumbnails === null ? screen.numbers : []; // which are of one map
        const parts = viewer.flashed === null ? numbers : [{ words: viewer.flashed, help: "" }];
        const key = JSON.stringify(parts);
        if (key === drawn) return;
        drawn = key;
        const spans = parts.map(({ words, help }) => element("span", { title: help }, words));
        root.replaceChildren(...spans.flatMap((span, number) => (number ? [" \u00b7 ", span] : [span])));
      },
    };
  },
};
