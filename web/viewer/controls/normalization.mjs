/** What maps are of: attention, in two ways, or effects. */

import { effectsOf, hasAttention } from "../effects.mjs";
import { oneOf } from "./control.mjs";
import { menuOf } from "./menu.mjs";

/** @import { Option } from "../dom.mjs" */
/** @import { Control } from "./control.mjs" */

/** @typedef {"paper" | "share" | "effect"} Normalization */

/** @type {Normalization[]} */
const ALLOWED = ["paper", "share", "effect"];
const label = "What a value says";
const value = oneOf(/** @type {Normalization} */ ("paper"), ALLOWED);

/** @type {Control<Normalization>} */
export const normalization = {
  ...value,
  label,
  make: menuOf({
    label,
    options({ file, say }) {
      /** @type {Option[]} */
      const attention = [
        ["paper", say("where (paper)")],
        ["share", say("how much (share)")],
      ];
      /** @type {Option[]} */
      const effect = effectsOf(file.header).maps.length ? [["effect", say("what it changed (effect)")]] : [];
      return hasAttention(file.header) || !effect.length ? [...attention, ...effect] : effect;
    },
    value: ({ state }) => state.normalization,
    change: (picked) => ({ normalization: value.read(picked) }),
  }),
};
