/** What one looks at, as it is kept in the workflow: the values of all controls, by their keys. */

import { STATE } from "./controls/listed.mjs";

/** @typedef {{[Key in keyof typeof STATE]: ReturnType<(typeof STATE)[Key]["read"]>}} State */

/** What a fresh viewer looks at. */
export const START = stateFrom(null);

/**
 * A whole state from what a workflow holds, which may be of another version or of no version at all.
 * @param {unknown} saved
 * @returns {State}
 */
export function stateFrom(saved) {
  /** @type {Record<string, unknown>} */
  const from = typeof saved === "object" && saved !== null ? { ...saved } : {};
  const values = Object.entries(STATE).map(([key, control]) => [key, control.read(from[key])]);
  return Object.fromEntries(values);
}
