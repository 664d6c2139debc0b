/** The question about a part: its strongest patches, or how to ask one, and what ends it. */

import { element } from "../dom.mjs";
import { SIDES } from "../kinds.mjs";
import { isPart, thatFits } from "./control.mjs";

/** @import { Question } from "../kinds.mjs" */
/** @import { Control } from "./control.mjs" */

/** @param {unknown} value @returns {value is Question | null} */
function isQuestion(value) {
  if (value === null) return true;
  const { side, box } = /** @type {Record<string, unknown>} */ (value ?? {});
  return SIDES.some((one) => one === side) && Array.isArray(box) && box.length === 4 && box.every(isPart);
}

/** @type {Control<Question | null>} */
export const question = {
  ...thatFits(/** @type {Question | null} */ (null), isQuestion),
  label: "strongest patches",
  make(viewer) {
    const { say } = viewer;
    const patches = element("ol", { class: "patches", "aria-label": say("strongest patches") });
    const hint = element("span", { class: "hint" });
    const clear = element("button", { type: "button", onclick: () => viewer.change({ ask: null }) }, say("Clear"));
    return {
      root: element("div", { class: "question" }, patches, hint, clear),
      show({ state, question: part, patches: words, hint: how }) {
        patches.replaceChildren(...words.map((text) => element("li", {}, text)));
        patches.hidden = !words.length;
        hint.textContent = how;
        hint.hidden = Boolean(part);
        clear.hidden = !state.ask;
      },
    };
  },
};
