/** Earlier results of the node, to compare with. */

import { fill, menu } from "../dom.mjs";

/** @import { Option } from "../dom.mjs" */
/** @import { Result } from "../results.mjs" */
/** @import { Shape } from "./control.mjs" */

const label = "Compare with an earlier result";

/** @type {Shape} */
export const earlier = {
  label,
  make(viewer) {
    const { say, pinned, page } = viewer;
    const root = menu(say(label), say(label), (picked) => {
      const result = offers.find(({ filename }) => filename === picked);
      if (result) pinned.load(result);
      else pinned.unpin();
    });
    /** @type {Result[]} */
    let offers = [];
    /** @type {unknown[]} what they are of: the page is not asked with each frame */
    let made = [];
    return {
      root,
      show({ file }) {
        if (made[0] !== file || made[1] !== pinned.gone) {
          made = [file, pinned.gone];
          offers = page.earlier().filter(({ filename }) => filename !== viewer.result?.filename);
          const options = offers.map(({ filename, at }) => option(filename, say("compare with {0}", timeOf(at))));
          fill(root, [option("", say("compare with ...")), ...options], "");
        }
        root.value = offers.some(({ filename }) => filename === pinned.name) ? pinned.name : "";
      },
    };
  },
};

/** @param {string} value @param {string} words @returns {Option} */
const option = (value, words) => [value, words];

/** @param {number | undefined} at milliseconds since 1970 */
const timeOf = (at) => (at === undefined ? "?" : new Date(at).toLocaleTimeString());
