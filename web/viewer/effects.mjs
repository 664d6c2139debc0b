/** What effects a file has, and what they say of a selection: `i2am_core/showing/view_effects.py`. */

import { tensorOf } from "./file.mjs";
import { choices, mapIn } from "./maps.mjs";
import { CUTS, ROUTES } from "./kinds.mjs";

/** @import { ViewFile } from "./file.mjs" */
/** @import { Header, HeaderEffect, HeaderEffects } from "./header.d.ts" */
/** @import { Axis, MapRow } from "./maps.mjs" */
/** @import { Cut, Route } from "./kinds.mjs" */
/** @import { State } from "./state.mjs" */

/** @typedef {HeaderEffect["owner"]} Owner the number of a reference, or what else was taken away */
/** @typedef {HeaderEffect["certainty"][number][number]} Certainty */
/** @typedef {HeaderEffects["measures"][number]} EffectMeasure */

/** What was measured of a run without effects: nothing. @type {HeaderEffects} */
const NOTHING = { maps: [], regions: [], measures: [], unmeasured: {} };
const [ROUGH, TOO_SMALL] = [10, 3]; // noise floors: `i2am_core/effect.py`

/** @param {Pick<State, "kind">} state */
export const isEffect = ({ kind }) => kind === "effect";

/** @param {Header} header */
export const effectsOf = (header) => header.effects ?? NOTHING;

/** Whether any attention was captured. @param {Header} header */
export const hasAttention = (header) => header.references.some(({ layers }) => layers.length);

/** What was taken away, each once. @param {Header} header @returns {Owner[]} */
export const ownersOf = (header) => [...new Set(effectsOf(header).maps.map(({ owner }) => owner))];

/** @param {Pick<State, "reference" | "owner">} state @returns {Owner} */
export const ownerOf = ({ reference, owner }) => owner ?? reference;

/** By which routes something was taken away. @param {Header} header @param {Owner} owner @returns {Route[]} */
export function routesOf(header, owner) {
  return ROUTES.filter((route) => effectsOf(header).maps.some((one) => one.owner === owner && one.route === route));
}

/** How the parts of what is selected were taken away. @param {Header} header @param {State} state @returns {Cut[]} */
export function cutsOf(header, { reference, owner }) {
  const measured = effectsOf(header).regions.filter((one) => owner === null && one.reference === reference);
  return CUTS.filter((cut) => measured.some((one) => one.cut === cut));
}

/**
 * The effect that is selected; none where nothing was measured.
 * @param {Header} header
 * @param {State} state
 */
export function effectOf(header, state) {
  const owner = ownerOf(state);
  return effectsOf(header).maps.find((one) => one.owner === owner && one.route === state.route);
}

/**
 * The regions of the selected reference; none where they were not measured.
 * @param {Header} header
 * @param {State} state
 */
export function regionsOf(header, { reference, owner, cut }) {
  return effectsOf(header).regions.find((one) => owner === null && one.reference === reference && one.cut === cut);
}

/**
 * What an axis offers. Effects have neither layers nor heads, and only the steps in which they were measured.
 * @param {Header} header
 * @param {State} state
 * @param {Axis} axis
 */
export function choicesOf(header, state, axis) {
  if (!isEffect(state)) return choices(header, state, axis);
  return axis === "step" ? (effectOf(header, state)?.steps ?? []).map((_, number) => number) : [];
}

/**
 * A state whose effect exists in this file, as near as possible to the one wanted.
 * @param {Header} header
 * @param {State} wanted
 * @returns {State}
 */
export function settleEffect(header, wanted) {
  const owners = ownersOf(header);
  const owner = owners.includes(ownerOf(wanted)) ? ownerOf(wanted) : owners[0];
  const ofReference = typeof owner === "number";
  const last = Math.max(0, header.references.length - 1);
  /** @type {State} */
  const state = {
    ...wanted,
    item: within(wanted.item, header.items.length - 1),
    reference: ofReference ? owner : within(wanted.reference, last),
    owner: ofReference ? null : owner,
  };
  const [routes, cuts] = [routesOf(header, owner), cutsOf(header, state)];
  if (!routes.includes(state.route)) state.route = routes[0];
  if (cuts.length && !cuts.includes(state.cut)) state.cut = cuts[0];
  const steps = choicesOf(header, state, "step").length;
  return { ...state, step: state.step === null ? null : within(state.step, steps - 1), frame: null };
}

/** @param {number} value @param {number} last */
const within = (value, last) => Math.max(0, Math.min(last, Math.round(value) || 0));

/** @param {State} state */
const place = ({ item, reference, owner, route }) => `${item}/${owner ?? reference}/${route}`;

/** @param {State} state */
const row = ({ step }) => (step === null ? 0 : 1 + step);

/**
 * @param {ViewFile} file
 * @param {State} state
 * @returns {MapRow | null}
 */
export function effectMap(file, state) {
  const maps = file.tensors.get(`effects/${place(state)}`);
  return maps ? mapIn(maps, tensorOf(file, `effect_range/${place(state)}`), row(state)) : null;
}

/**
 * The largest value over all measured steps: what a scale for comparing them ends with.
 * @param {ViewFile} file
 * @param {State} state
 */
export function largestOverSteps(file, state) {
  const maps = choicesOf(file.header, state, "step").map((step) => effectMap(file, { ...state, step }));
  return Math.max(0, ...maps.map((map) => map?.high ?? 0));
}

/**
 * @param {ViewFile} file
 * @param {State} state
 * @param {EffectMeasure} measure
 */
export function effectMeasure({ header, tensors }, state, measure) {
  const measures = tensors.get(`effect_measures/${place(state)}`);
  if (!measures) return NaN;
  return measures.data[effectsOf(header).measures.indexOf(measure) * measures.shape[1] + row(state)];
}

/**
 * @param {Header} header
 * @param {State} state
 * @returns {Certainty}
 */
export function certaintyOf(header, state) {
  return effectOf(header, state)?.certainty[state.item][row(state)] ?? "none";
}

/**
 * How an effect compares with the noise floor, both root mean squares of the same positions.
 * @param {number} strength
 * @param {number} floor
 * @returns {Certainty}
 */
export function certaintyFor(strength, floor) {
  if (strength === 0) return "none";
  if (strength < TOO_SMALL * floor) return "too small to measure";
  return strength < ROUGH * floor ? "rough" : "measured";
}
