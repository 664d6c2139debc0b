/** Whose map it is: one of the references, or of effects also what else was taken away (the owner). */

import { modeOf } from "../mode.mjs";
import { ownerOf } from "../effects.mjs";
import { PARTS } from "../kinds.mjs";
import { integer, oneOf } from "./control.mjs";
import { menuOf } from "./menu.mjs";

/** @import { Part } from "../kinds.mjs" */
/** @import { Control, Kept } from "./control.mjs" */

const label = "Reference";

/** Whose effect: null is the selected reference. @type {Kept<Part | null>} */
export const owner = oneOf(/** @type {Part | null} */ (null), [null, ...PARTS]);

/** @type {Control<number>} */
export const reference = {
  ...integer(0),
  label,
  make: menuOf({
    label,
    options: (screen) => modeOf(screen.state).owners(screen),
    value: ({ state }) => ownerOf(state),
    change: (picked) => {
      const part = owner.read(picked);
      return part ? { owner: part } : { reference: Number(picked), owner: null };
    },
  }),
};
