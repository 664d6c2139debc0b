/** What maps are of: attention, in two ways, or effects. */

import { effectsOf, hasAttention } from "../effects.mjs";
import { oneOf } from "./control.mjs";
import { menuOf } from "./menu.mjs";

/** @import { Option } from "../dom.mjs" */
/** @import { Control } from "./control.mjs" */

/** @typedef {"paper" | "share" | "effect"} Normalization */

/** As people read them. @type {Record<Normalization, string>} */
export const WORDS = { paper: "where (paper)", share: "how much (share)", effect: "what it changed (effect)" };
/** @type {Normalization[]} */
const ALLOWED = ["paper", "share", "effect"];
const label = "What a value says";
const help =
  "'Where' compares places. 'How much' is the part of all attention. 'What it changed' was measured by taking it away.";
const value = oneOf(/** @type {Normalization} */ ("paper"), ALLOWED);

/** @type {Control<Normalization>} */
export const normalization = {
  ...value,
  label,
  help,
  make: menuOf({
    label,
    help,
    options({ file, say }) {
      /** @type {Option[]} */
      const attention = [
        ["paper", say(WORDS.paper)],
        ["share", say(WORDS.share)],
      ];
      /** @type {Option[]} */
      const effect = effectsOf(file.header).maps.length ? [["effect", say(WORDS.effect)]] : [];
      return hasAttention(file.header) || !effect.length ? [...attention, ...effect] : effect;
    },
    value: ({ state }) => state.normalization,
    change: (picked) => ({ normalization: value.read(picked) }),
  }),
};
