/** The pictures with and without, one beside the other: where the border between them is, and the button that shows them. */

import { element } from "../dom.mjs";
import { predictionOf } from "../predictions.mjs";
import { WipePane } from "../wipe_pane.mjs";
import { isPart, thatFits } from "./control.mjs";

/** @import { Control } from "./control.mjs" */

const label = "with | without";
const help = "What the model would paint with it, and without it.";
const MIDDLE = 0.5;

/** @param {unknown} value @returns {value is number | null} */
const isPlace = (value) => value === null || isPart(value);

/** Null while the pictures are not shown. @type {Control<number | null>} */
export const wipe = {
  ...thatFits(/** @type {number | null} */ (null), isPlace),
  label,
  help,
  make(viewer) {
    const { say, pictures } = viewer;
    const toggle = () => viewer.change({ wipe: viewer.state.wipe === null ? MIDDLE : null });
    const root = element("button", { type: "button", title: say(help), onclick: toggle }, say(label));
    const pane = new WipePane(viewer.panes.generated, say, (at, lasting) => viewer.change({ wipe: at }, lasting));
    return {
      root,
      show(screen) {
        root.hidden = !predictionOf(screen);
        root.setAttribute("aria-pressed", String(screen.state.wipe !== null));
        pane.show(screen.panes.generated.wipe, (name) => pictures.urlOf(screen.file, name));
      },
    };
  },
};
