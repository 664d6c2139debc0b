/** The viewer alone on the screen. */

import { FULL, iconButton } from "../icon.mjs";

/** @import { Shape } from "./control.mjs" */

const label = "Full screen";

/** @type {Shape} */
export const fullScreen = {
  label,
  make(viewer) {
    return { root: iconButton(FULL, viewer.say(label), () => viewer.fullScreen()), show: () => {} };
  },
};
