/** Which picture of the batch. */

import { integer } from "./control.mjs";
import { menuOf } from "./menu.mjs";

/** @import { Control } from "./control.mjs" */

const label = "Picture of the batch";
const value = integer(0);

/** @type {Control<number>} */
export const item = {
  ...value,
  label,
  make: menuOf({
    label,
    options: ({ file, say }) => file.header.items.map((_, number) => [number, say("picture {0}", number)]),
    value: ({ state }) => state.item,
    change: (picked) => ({ item: Number(picked) }),
  }),
};
