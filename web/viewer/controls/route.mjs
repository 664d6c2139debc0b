/** By which way what was taken away would have reached the picture. */

import { isEffect, ownerOf, routesOf } from "../effects.mjs";
import { ROUTES } from "../kinds.mjs";
import { oneOf } from "./control.mjs";
import { menuOf } from "./menu.mjs";

/** @import { Route } from "../kinds.mjs" */
/** @import { Control } from "./control.mjs" */

const label = "How it reaches the picture";
const value = oneOf(ROUTES[0], ROUTES);

/** @type {Control<Route>} */
export const route = {
  ...value,
  label,
  make: menuOf({
    label,
    options({ file, state, say }) {
      const words = { everything: say("by any way"), directly: say("directly") };
      return isEffect(state) ? routesOf(file.header, ownerOf(state)).map((one) => [one, words[one]]) : [];
    },
    value: ({ state }) => state.route,
    change: (picked) => ({ route: value.read(picked) }),
  }),
};
