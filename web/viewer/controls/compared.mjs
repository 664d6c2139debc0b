/** On which of the pictures two runs are compared. */

import { SIDES } from "../kinds.mjs";
import { oneOf } from "./control.mjs";
import { menuOf } from "./menu.mjs";

/** @import { Side } from "../kinds.mjs" */
/** @import { Control } from "./control.mjs" */

const label = "Where they are compared";
/** @type {Record<Side, string>} */
const WORDS = { generated: "A and B on the picture", reference: "A and B on the reference" };
const value = oneOf(/** @type {Side} */ ("generated"), SIDES);

/** @type {Control<Side>} */
export const compared = {
  ...value,
  label,
  make: (viewer) =>
    menuOf({
      label,
      options: ({ say }) => (viewer.pinned.other ? SIDES.map((side) => [side, say(WORDS[side])]) : []),
      value: ({ state }) => state.compared,
      change: (picked) => ({ compared: value.read(picked) }),
    })(viewer),
};
