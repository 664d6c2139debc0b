/** On which of the pictures all maps are seen at once. */

import { isEffect } from "../effects.mjs";
import { SIDES } from "../kinds.mjs";
import { oneOf } from "./control.mjs";
import { menuOf } from "./menu.mjs";

/** @import { Side } from "../kinds.mjs" */
/** @import { Control } from "./control.mjs" */

const label = "Maps on which picture";
/** @type {Record<Side, string>} */
const WORDS = { generated: "on the picture", reference: "on the reference" };
const value = oneOf(/** @type {Side} */ ("generated"), SIDES);

/** @type {Control<Side>} */
export const thumbnailSide = {
  ...value,
  label,
  make: menuOf({
    label,
    options: ({ state, say }) => (isEffect(state) ? [] : SIDES.map((side) => [side, say(WORDS[side])])),
    value: ({ state }) => state.thumbnailSide,
    change: (picked) => ({ thumbnailSide: value.read(picked) }),
  }),
};
