/** How maps are drawn over the pictures. */

import { oneOf } from "./control.mjs";
import { menuOf } from "./menu.mjs";

/** @import { Control } from "./control.mjs" */

/** @typedef {"heat" | "contours" | "off"} Style */

const label = "How maps are drawn";
const value = oneOf(/** @type {Style} */ ("heat"), ["heat", "contours", "off"]);

/** @type {Control<Style>} */
export const style = {
  ...value,
  label,
  make: menuOf({
    label,
    options: ({ say }) => [
      ["heat", say("heat")],
      ["contours", say("contours")],
      ["off", say("picture only")],
    ],
    value: ({ state }) => state.style,
    change: (picked) => ({ style: value.read(picked) }),
  }),
};
