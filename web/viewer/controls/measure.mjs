/** What bars and tables show: one of the measures that say anything of this picture and reference. */

import { MEASURES } from "../attention_mode.mjs";
import { isEffect } from "../effects.mjs";
import { oneOf } from "./control.mjs";
import { menuOf } from "./menu.mjs";

/** @import { Measure } from "../maps.mjs" */
/** @import { Control } from "./control.mjs" */

const label = "What the bars and tables show";
/** Null is the first that says anything. */
const value = oneOf(/** @type {Measure | null} */ (null), [null, "share", "concentration", "inside"]);

/** @type {Control<Measure | null>} */
export const measure = {
  ...value,
  label,
  make: menuOf({
    label,
    options: ({ state, measures, say }) =>
      isEffect(state) ? [] : measures.map((name) => [name, say("bars: {0}", say(MEASURES[name]))]),
    value: ({ measure }) => measure,
    change: (picked) => ({ measure: value.read(picked) }),
  }),
};
