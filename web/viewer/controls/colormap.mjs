/** The colours of heat and contours: those of the file. */

import { thatFits } from "./control.mjs";
import { menuOf } from "./menu.mjs";

/** @import { Control } from "./control.mjs" */

const label = "Colours";
/** @param {unknown} value @returns {value is string} */
const isText = (value) => typeof value === "string";
const help = "From little to much. The hottest spot of jet, the paper's, is a dark hole to colour-blind eyes.";
const value = thatFits("inferno", isText);

/** @type {Control<string>} */
export const colormap = {
  ...value,
  label,
  help,
  make: menuOf({
    label,
    help,
    options: ({ file, say }) => file.header.colormaps.map((name) => [name, name === "jet" ? say("jet (paper)") : name]),
    value: ({ state }) => state.colormap,
    change: (picked) => ({ colormap: picked }),
  }),
};
