/** Pins this result as A, with which those that follow are compared. */

import { iconButton, PIN, setIcon } from "../icon.mjs";

/** @import { Shape } from "./control.mjs" */

const label = "Pin this result as A, and compare the next with it";
const unpin = "Unpin A";

/** @type {Shape} */
export const pin = {
  label,
  make(viewer) {
    const { say, pinned } = viewer;
    const root = iconButton(PIN, say(label), () => (pinned.file ? pinned.unpin() : pinned.pin()));
    root.hidden = Boolean(viewer.page.alone); // no other result ever comes
    return {
      root,
      show() {
        root.setAttribute("aria-pressed", String(pinned.file !== null));
        setIcon(root, PIN, say(pinned.file ? unpin : label));
      },
    };
  },
};
