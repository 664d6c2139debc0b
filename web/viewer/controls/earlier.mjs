/** Earlier results of the node, to compare with. */

import { fill, menu } from "../dom.mjs";

/** @import { Option } from "../dom.mjs" */
/** @import { Shape } from "./control.mjs" */

const label = "Compare with an earlier result";

/** @type {Shape} */
export const earlier = {
  label,
  make(viewer) {
    const { say, pinned, page } = viewer;
    const root = menu(say(label), say(label), (picked) => {
      const result = offers().find(({ filename }) => filename === picked);
      if (result) pinned.load(result);
      else pinned.unpin();
    });
    const offers = () => page.earlier().filter(({ filename }) => filename !== viewer.result?.filename);
    let offered = "";
    return {
      root,
      show() {
        /** @type {Option[]} */
        const options = offers().map(({ filename, at }) => [filename, say("compare with {0}", timeOf(at))]);
        const key = JSON.stringify(options);
        if (key !== offered) fill(root, [["", say("compare with ...")], ...options], "");
        offered = key;
        root.value = options.some(([name]) => name === pinned.name) ? pinned.name : "";
      },
    };
  },
};

/** @param {number | undefined} at milliseconds since 1970 */
const timeOf = (at) => (at === undefined ? "?" : new Date(at).toLocaleTimeString());
