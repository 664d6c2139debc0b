/** All maps at once, as thumbnails: which grid of them is seen, null for none, and the button that opens and closes it. */

import { GRID, iconButton } from "../icon.mjs";
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
    const root = iconButton(GRID, viewer.say(label), () => {
      view.focuses = viewer.state.thumbnails === null;
      viewer.change({ thumbnails: view.focuses ? offeredGrids(viewer.scene)[0] : null });
    });
    return {
      root,
      show(screen) {
        root.hidden = viewer.pinned.other !== null;
        root.setAttribute("aria-pressed", String(screen.state.thumbnails !== null));
        view.show(screen);
      },
    };
  },
};
