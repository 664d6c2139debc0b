/** What the colours span: each map its own range, or all steps one, by which they compare. */

import { oneOf } from "./control.mjs";
import { menuOf } from "./menu.mjs";

/** @import { Control } from "./control.mjs" */

/** @typedef {"each map" | "over time"} Scale */

const label = "What the colours span";
const help = "Each map has its own colours, or all steps have one scale, by which they compare.";
const value = oneOf(/** @type {Scale} */ ("each map"), ["each map", "over time"]);

/** @type {Control<Scale>} */
export const scale = {
  ...value,
  label,
  help,
  make: (viewer) =>
    menuOf({
      label,
      help,
      options: ({ say }) =>
        viewer.isAtOnce || viewer.pinned.other // which have scales of their own
          ? []
          : [
              ["each map", say("scale: each map")],
              ["over time", say("scale: over time")],
            ],
      value: ({ state }) => state.scale,
      change: (picked) => ({ scale: value.read(picked) }),
    })(viewer),
};
