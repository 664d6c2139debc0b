/** All maps at once, as thumbnails: which grid of them is seen, null for none, and the button that opens it. */

import { element } from "../dom.mjs";
import { GRIDS } from "../thumbnails/cell.mjs";
import { offeredGrids } from "../thumbnails/grid.mjs";
import { ThumbnailView } from "../thumbnails/view.mjs";
import { oneOf } from "./control.mjs";
import { menuOf } from "./menu.mjs";
import { thumbnailScale } from "./thumbnail_scale.mjs";
import { thumbnailSide } from "./thumbnail_side.mjs";

/** @import { GridName } from "../thumbnails/cell.mjs" */
/** @import { Control } from "./control.mjs" */

const label = "All maps at once";
const which = "Which maps";
const value = oneOf(/** @type {GridName | null} */ (null), [null, ...GRIDS]);

/** @type {Control<GridName | null>} */
export const thumbnails = {
  ...value,
  label,
  make(viewer) {
    const menu = menuOf({
      label: which,
      options: (screen) => offeredGrids(screen).map((name) => [name, screen.say(name)]),
      value: (screen) =>
        offeredGrids(screen).find((name) => name === screen.state.thumbnails) ?? offeredGrids(screen)[0],
      change: (picked) => ({ thumbnails: value.read(picked) }),
    })(viewer);
    const view = new ThumbnailView(viewer, [menu, thumbnailSide.make(viewer), thumbnailScale.make(viewer)]);
    const open = () => {
      view.focuses = true;
      viewer.change({ thumbnails: offeredGrids(viewer.scene)[0] });
    };
    const root = element("button", { type: "button", class: "at-once", onclick: open }, viewer.say(label));
    view.opener = root;
    return {
      root,
      show(screen) {
        root.hidden = viewer.pinned.other !== null;
        view.show(screen);
      },
    };
  },
};
