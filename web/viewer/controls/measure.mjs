/** What bars and tables show: one of the measures that say anything of this picture and reference. */

import { isEffect } from "../effects.mjs";
import { oneOf } from "./control.mjs";
import { menuOf } from "./menu.mjs";

/** @import { Measure } from "../maps.mjs" */
/** @import { Control } from "./control.mjs" */

/** @type {Record<Measure, string>} */
const WORDS = { share: "share of attention", concentration: "concentration", inside: "inside the mask" };
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
      isEffect(state) ? [] : measures.map((name) => [name, say("bars: {0}", say(WORDS[name]))]),
    value: ({ measure }) => measure,
    change: (picked) => ({ measure: value.read(picked) }),
  }),
};
