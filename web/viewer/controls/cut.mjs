/** How the effects of the parts of a reference were measured. */

import { cutsOf, isEffect } from "../effects.mjs";
import { CUTS } from "../kinds.mjs";
import { oneOf } from "./control.mjs";
import { menuOf } from "./menu.mjs";

/** @import { Cut } from "../kinds.mjs" */
/** @import { Control } from "./control.mjs" */

const label = "How the effect of a part was measured";
const value = oneOf(CUTS[0], CUTS);

/** @type {Control<Cut>} */
export const cut = {
  ...value,
  label,
  make: menuOf({
    label,
    options({ file, state, say }) {
      const words = { "taken away": say("part taken away"), "only this left": say("only part left") };
      return isEffect(state) ? cutsOf(file.header, state).map((one) => [one, words[one]]) : [];
    },
    value: ({ state }) => state.cut,
    change: (picked) => ({ cut: value.read(picked) }),
  }),
};
