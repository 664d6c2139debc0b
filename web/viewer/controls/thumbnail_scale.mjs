/** What the colours of thumbnails span: all of them one range, by which they compare, or each its own. */

import { oneOf } from "./control.mjs";
import { menuOf } from "./menu.mjs";

/** @import { Control } from "./control.mjs" */

/** @typedef {"one for all" | "each its own"} ThumbnailScale */

const label = "Colours of all maps";
const help = "One scale for all: a map that looks stronger is stronger. Its own for each: where each is strongest.";
const value = oneOf(/** @type {ThumbnailScale} */ ("one for all"), ["one for all", "each its own"]);

/** @type {Control<ThumbnailScale>} */
export const thumbnailScale = {
  ...value,
  label,
  help,
  make: menuOf({
    label,
    help,
    options: ({ say }) => [
      ["one for all", say("one scale for all")],
      ["each its own", say("each map its own scale")],
    ],
    value: ({ state }) => state.thumbnailScale,
    change: (picked) => ({ thumbnailScale: value.read(picked) }),
  }),
};
