/** What maps are of: effects, or attention, in two ways. Until a person chooses, it is the first of these that the file has. */

import { effectsOf, hasAttention } from "../effects.mjs";
import { oneOf } from "./control.mjs";
import { menuOf } from "./menu.mjs";

/** @import { Option } from "../dom.mjs" */
/** @import { Control, Kept } from "./control.mjs" */

/** What maps are of, the first that is to be looked at first. @typedef {"effect" | "share" | "paper"} Kind */
/** What a person chose: "best" is nothing yet. @typedef {"best" | Kind} Normalization */

/** As people read them. @type {Record<Kind, string>} */
export const WORDS = {
  effect: "what it changed (effect)",
  share: "how much it was looked at (share)",
  paper: "where queries match (paper)",
};
/** @type {Kind[]} */
const KINDS = ["effect", "share", "paper"];
const label = "What a value says";
const help =
  "'What it changed' was measured by taking it away. 'How much' is the part of all attention. 'Where' compares places.";
const value = oneOf(/** @type {Normalization} */ ("best"), ["best", ...KINDS]);

/** What is shown: settled from what was chosen and what the file has. Steps are numbered by it. @type {Kept<Kind>} */
export const kind = oneOf(/** @type {Kind} */ ("paper"), KINDS);

/** @type {Control<Normalization>} */
export const normalization = {
  ...value,
  label,
  help,
  make: menuOf({
    label,
    help,
    options({ file: { header }, say }) {
      const measured = effectsOf(header).maps.length > 0;
      const kinds = KINDS.filter((one) => (one === "effect" ? measured : hasAttention(header) || !measured));
      /** @type {Option[]} */
      const options = kinds.map((one) => [one, say(WORDS[one])]);
      return options;
    },
    value: ({ state }) => state.kind,
    change: (picked) => ({ normalization: value.read(picked) }),
  }),
};
