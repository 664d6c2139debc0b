/** How the state changes: each function makes a state that the file has out of one that is wanted. */

import { isEffect } from "./effects.mjs";
import { modeOf } from "./mode.mjs";
import { kindIn } from "./shown_first.mjs";

/** @import { ViewFile } from "./file.mjs" */
/** @import { Axis } from "./maps.mjs" */
/** @import { State } from "./state.mjs" */

/**
 * The state nearest to one that the file has.
 * @param {ViewFile} file
 * @param {State} state
 * @param {string} [changed] what of it was changed last
 */
export function settled(file, state, changed) {
  const wanted = { ...state, kind: kindIn(file, state) };
  // Nobody chose the other kind, so nobody chose its step.
  if (state.normalization === "best" && isEffect(wanted) !== isEffect(state)) wanted.step = null;
  return modeOf(wanted).settle(file, wanted, changed);
}

/**
 * The state after a change of some parts.
 * @param {ViewFile} file
 * @param {State} before
 * @param {Partial<State>} parts
 */
export function changed(file, before, parts) {
  const wanted = { ...before, ...parts };
  wanted.kind = kindIn(file, wanted);
  // Steps of effects are those in which they were measured: what another number means there is not the same.
  if (isEffect(wanted) !== isEffect(before) && !("step" in parts)) wanted.step = null;
  return settled(file, wanted, Object.keys(parts)[0]);
}

/**
 * Whether the file has a head in one step, where both are wanted.
 * @param {ViewFile} file
 * @param {State} wanted
 */
export function hasJoint(file, wanted) {
  return isEffect(wanted) || wanted.step === null || wanted.head === null || file.header.joint.length > 0;
}

/**
 * Whether the file has a single frame of the steps and heads that are wanted: it has them of the mean of all.
 * @param {State} wanted
 */
export function hasFrame(wanted) {
  return isEffect(wanted) || wanted.frame === null || (wanted.step === null && wanted.head === null);
}

/**
 * The next value on an axis, or the last; beyond the ends is the mean of all, which is null.
 * @param {ViewFile} file
 * @param {State} state
 * @param {Axis} axis
 * @param {number} by
 */
export function nextAlong(file, state, axis, by) {
  const values = modeOf(state).choices(file.header, state, axis);
  const now = state[axis];
  const at = now === null ? (by > 0 ? -1 : values.length) : values.indexOf(now);
  return values[at + by] ?? null;
}
