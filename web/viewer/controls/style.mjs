/** How maps are drawn over the pictures. */

import { oneOf } from "./control.mjs";
import { menuOf } from "./menu.mjs";

/** @import { Control } from "./control.mjs" */

/** "heat" is the overlay of the paper: workflows of the first versions hold that word. @typedef {"blend" | "heat" | "contours" | "off"} Style */

const label = "How maps are drawn";
const help = "'Heat' lies over the picture. 'Heat (paper)' is added to it: that clips where the picture is bright.";
const value = oneOf(/** @type {Style} */ ("blend"), ["blend", "heat", "contours", "off"]);

/** @type {Control<Style>} */
export const style = {
  ...value,
  label,
  help,
  make: (viewer) =>
    menuOf({
      label,
      help,
      options: ({ say }) =>
        viewer.isAtOnce // without pictures under the maps
          ? []
          : [
              ["blend", say("heat")],
              ["heat", say("heat (paper)")],
              ["contours", say("contours")],
              ["off", say("picture only")],
            ],
      value: ({ state }) => state.style,
      change: (picked) => ({ style: value.read(picked) }),
    })(viewer),
};
