/** Whether both panes move together. */

import { iconButton, LINK } from "../icon.mjs";
import { isFlag, thatFits } from "./control.mjs";

/** @import { Control } from "./control.mjs" */

const label = "Move both panes together";

/** @type {Control<boolean>} */
export const linked = {
  ...thatFits(false, isFlag),
  label,
  make(viewer) {
    const root = iconButton(LINK, viewer.say(label), () => {
      const { linked: before, views } = viewer.state;
      const together = { generated: views.generated, reference: views.generated };
      viewer.change({ linked: !before, ...(before ? {} : { views: together }) });
    });
    return { root, show: ({ state }) => root.setAttribute("aria-pressed", String(state.linked)) };
  },
};
