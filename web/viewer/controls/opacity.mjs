/** How strong the heat is over the picture. */

import { element } from "../dom.mjs";
import { isPart, thatFits } from "./control.mjs";

/** @import { Control } from "./control.mjs" */

const label = "Strength of the heat";

/** @type {Control<number>} */
export const opacity = {
  ...thatFits(0.5, isPart),
  label,
  make(viewer) {
    const name = viewer.say(label);
    const attributes = { min: 0, max: 1, step: 0.05, class: "opacity", title: name, "aria-label": name };
    const root = element("input", { type: "range", ...attributes });
    root.addEventListener("input", () => viewer.change({ opacity: Number(root.value) }, false));
    root.addEventListener("change", () => viewer.change({ opacity: Number(root.value) }));
    return {
      root,
      show({ state }) {
        root.hidden = viewer.isAtOnce; // without pictures under the maps
        root.value = String(state.opacity);
      },
    };
  },
};
