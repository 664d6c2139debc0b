/** A menu of values: its options are those that the present file and state offer. */

import { fill, menu } from "../dom.mjs";

/** @import { Option } from "../dom.mjs" */
/** @import { Screen } from "../screen.mjs" */
/** @import { State } from "../state.mjs" */
/** @import { Viewer } from "../viewer.mjs" */
/** @import { Made } from "./control.mjs" */

/**
 * @typedef {object} MenuShape
 * @property {string} label
 * @property {string} [help]
 * @property {(screen: Screen) => Option[]} options with words as people read them
 * @property {(screen: Screen) => string | number} value
 * @property {(value: string) => Partial<State>} change
 */

/**
 * The menu is made anew only if it has other options; one that offers no choice is hidden.
 * @param {MenuShape} shape
 * @returns {(viewer: Viewer) => Made}
 */
export function menuOf({ label, help = label, options, value, change }) {
  return (viewer) => {
    const root = menu(viewer.say(label), viewer.say(help), (picked) => viewer.change(change(picked)));
    let offered = "";
    return {
      root,
      show(screen) {
        const offers = options(screen);
        const key = JSON.stringify(offers);
        if (key !== offered) fill(root, offers, value(screen));
        offered = key;
        root.value = String(value(screen));
      },
    };
  };
}
