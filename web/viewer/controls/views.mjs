/** What of each picture is in view, and the button that shows them whole. */

import { isView, WHOLE } from "../geometry.mjs";
import { iconButton, WHOLE_PICTURE } from "../icon.mjs";
import { thatFits } from "./control.mjs";

/** @import { View } from "../geometry.mjs" */
/** @import { Side } from "../kinds.mjs" */
/** @import { Control } from "./control.mjs" */

/** @typedef {Record<Side, View>} Views */

const label = "Whole pictures";

/** @type {Views} */
export const WHOLE_PICTURES = { generated: WHOLE, reference: WHOLE };

/** @param {unknown} value @returns {value is Views} */
function areViews(value) {
  const { generated, reference } = /** @type {Record<string, unknown>} */ (value ?? {});
  return isView(generated) && isView(reference);
}

/** @type {Control<Views>} */
export const views = {
  ...thatFits(WHOLE_PICTURES, areViews),
  label,
  make(viewer) {
    const whole = () => viewer.change({ views: WHOLE_PICTURES });
    return { root: iconButton(WHOLE_PICTURE, viewer.say(label), whole), show: () => {} };
  },
};
