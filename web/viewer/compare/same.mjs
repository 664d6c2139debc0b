/** The map of another run that a selection compares with: of the same reference, layer and head, in the same part of the schedule. */

import { effectOf, isEffect } from "../effects.mjs";
import { headsOf, referenceOf } from "../maps.mjs";
import { settled } from "../model.mjs";

/** @import { ViewFile } from "../file.mjs" */
/** @import { FileHeader } from "../header.d.ts" */
/** @import { State } from "../state.mjs" */

/** Why another run has no map to compare with. @typedef {keyof typeof MISSING} Missing */

export const MISSING = {
  reference: "A has no such reference.",
  layer: "In A, no layer of this name reads the reference.",
  head: "In A, the heads are others.",
  step: "In A, the effect was measured in other steps: choose a step that both have.",
  map: "A has no such map: choose another above.",
};

/** What two maps have in common that are compared. @type {(keyof State)[]} */
const COMMON = ["item", "reference", "owner", "layer", "step", "head", "frame", "kind", "route", "cut"];

/**
 * @param {ViewFile} other
 * @param {ViewFile} file
 * @param {State} state of `file`
 * @returns {{state: State} | {missing: Missing}} of `other`
 */
export function sameIn(other, file, state) {
  const reference = sameReference(file.header, other.header, state.reference);
  if (reference >= other.header.references.length && state.owner === null) return { missing: "reference" };
  const wanted = { ...state, normalization: state.kind, reference, ask: null };
  if (isEffect(state)) {
    const step = sameMeasured(file.header, other.header, state, wanted);
    if (step === undefined) return { missing: "step" };
    wanted.step = step;
  } else {
    if (state.step !== null) wanted.step = samePart(file.header, other.header, state.step);
    const layer = sameLayer(file.header, other.header, state.layer, reference);
    if (layer === undefined) return { missing: "layer" };
    wanted.layer = layer;
    if (!hasHead(file.header, other.header, state, wanted)) return { missing: "head" };
  }
  const nearest = settled(other, wanted);
  return COMMON.every((key) => nearest[key] === wanted[key]) ? { state: nearest } : { missing: "map" };
}

/**
 * The number of the only one of its name, or else the same number: `same_reference` of `i2am_core/reading/difference.py`.
 * @param {FileHeader} header
 * @param {FileHeader} other
 * @param {number} number
 */
function sameReference(header, other, number) {
  const { name } = referenceOf(header, number);
  /** @param {FileHeader} one */
  const named = ({ references }) => references.flatMap((reference, at) => (reference.name === name ? [at] : []));
  const there = named(other);
  return there.length === 1 && named(header).length === 1 ? there[0] : number;
}

/**
 * @param {FileHeader} header
 * @param {FileHeader} other
 * @param {number | null} layer
 * @param {number} reference of `other`
 */
function sameLayer(header, other, layer, reference) {
  if (layer === null) return null;
  const { name } = header.layers[layer];
  return referenceOf(other, reference).layers.find((number) => other.layers[number].name === name);
}

/**
 * @param {FileHeader} header
 * @param {FileHeader} other
 * @param {State} state
 * @param {State} wanted of `other`
 */
function hasHead(header, other, state, wanted) {
  if (state.head === null) return true;
  const head = headsOf(header, state.reference, state.layer)[state.head];
  const there = headsOf(other, wanted.reference, wanted.layer)[state.head];
  return JSON.stringify(head) === JSON.stringify(there);
}

/** @param {FileHeader} header */
const stepsOf = ({ sigmas }) => sigmas.length - 1;

/**
 * The group of steps in which the middle of another run's group is, as parts of the schedule.
 * @param {FileHeader} header
 * @param {FileHeader} other
 * @param {number} step number of a group
 */
function samePart(header, other, step) {
  const [first, end] = header.steps[step];
  const middle = ((first + end) / 2 / stepsOf(header)) * stepsOf(other);
  return other.steps.findIndex(([low, high]) => low <= middle && middle < high);
}

/**
 * The measured step of the same part of the schedule; null where the mean of all is of the same parts, too.
 * @param {FileHeader} header
 * @param {FileHeader} other
 * @param {State} state
 * @param {State} wanted of `other`
 * @returns {number | null | undefined} undefined where there is none
 */
function sameMeasured(header, other, state, wanted) {
  const measured = effectOf(header, state)?.steps ?? [];
  const there = effectOf(other, wanted)?.steps;
  if (!there) return wanted.step; // that there is no such effect is said of the map
  const [count, otherCount] = [stepsOf(header), stepsOf(other)];
  /** @param {number} step */
  const find = (step) =>
    there.findIndex((one) => step * otherCount < (one + 1) * count && one * count < (step + 1) * otherCount);
  const numbers = measured.map(find);
  const chosen = state.step === null ? null : numbers[state.step];
  if (chosen === null) return numbers.length === there.length && numbers.every((at, n) => at === n) ? null : undefined;
  return chosen < 0 ? undefined : chosen;
}
