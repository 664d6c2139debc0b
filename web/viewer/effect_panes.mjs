/** What each pane shows of effects: where something changed the picture, and which regions of a reference did. */

import { regionAt, regionEdges, regionStrengths, specificEffect } from "./effect_regions.mjs";
import {
  certaintyFor,
  certaintyOf,
  cutsOf,
  effectMap,
  effectMeasure,
  largestOverSteps,
  ownerOf,
  regionsOf,
} from "./effects.mjs";
import { restore, resize } from "./heat.mjs";
import { strongest } from "./specific.mjs";
import { otherSide } from "./kinds.mjs";
import { small } from "./words.mjs";

/** @import { Effect, NoRegions } from "./effect_regions.mjs" */
/** @import { Certainty } from "./effects.mjs" */
/** @import { Box, Grid, Place } from "./geometry.mjs" */
/** @import { Part, Question, Side } from "./kinds.mjs" */
/** @import { Patch, PaneMap } from "./pane_maps.mjs" */
/** @import { Scene } from "./scene.mjs" */
/** @import { Say } from "./text.mjs" */

const PATCHES = 5;

/** @type {Record<Part, string>} */
const CHANGED = {
  "all references": "What all references together changed",
  text: "What the text changed",
  conditioning: "What differs from 'without'",
};

/** @type {Record<Exclude<Certainty, "measured">, string>} */
const TOO_SMALL = {
  rough: "Too weak for a map: its effect of {0} is less than ten times the noise floor, {1}.",
  "too small to measure": "Too small to measure: its effect of {0} is less than three times the noise floor, {1}.",
  none: "No effect at all: not a digit changes.",
};

/** @type {Record<NoRegions, string>} */
const MISSING = {
  regions: "To see what each part of the reference changed, set regions of I2AM Effect, and queue again.",
  owner: "Only a single reference has parts: choose one above.",
  "left out": "The maps of these parts did not fit into the viewer's file: use I2AM Specific Reference.",
};

/**
 * The effect that is selected, on one of the pictures.
 * @param {Side} side
 * @param {Scene} scene
 * @param {Grid} canvas size of the pane's heat
 * @returns {PaneMap}
 */
export function selectedEffect(side, scene, canvas) {
  return side === "generated" ? onPicture(scene, canvas) : onReference(scene, canvas);
}

/** @param {Scene} scene @param {Grid} canvas @returns {PaneMap} */
function onPicture({ file, state, say }, canvas) {
  const owner = ownerOf(state);
  const title = say(typeof owner === "number" ? "What the reference changed" : CHANGED[owner]);
  const detail = [
    say("difference without it, in units of the latent"),
    ...(state.route === "directly" ? [say(DIRECTLY)] : []),
  ].join(" \u00b7 ");
  const map = effectMap(file, state);
  if (!map) return { title, detail, message: say("nothing was measured here"), heat: null, patches: [] };
  const certainty = certaintyOf(file.header, state);
  if (certainty !== "measured") {
    const [strength, floor] = [effectMeasure(file, state, "strength"), effectMeasure(file, state, "floor")];
    return { title, detail, message: words(certainty, strength, floor, say), heat: null, patches: [] };
  }
  const high = state.scale === "over time" ? largestOverSteps(file, state) : map.high;
  return { title, detail, ...drawn({ ...map, values: restore(map) }, canvas, high), patches: [] };
}

const DIRECTLY = "directly: by the picture's own positions alone";

/** @param {Scene} scene @param {Grid} canvas @returns {PaneMap} */
function onReference(scene, canvas) {
  const title = scene.say("What each part of the reference changed");
  const { scope } = scene.file.header.items[scene.state.item];
  const where = scene.say(scope === "whole image" ? "in the whole picture" : "in the mask");
  return inRegions(title, where, regionStrengths(scene.file, scene.state), scene, canvas);
}

/**
 * The answer to a question, on the other picture.
 * @param {Question} question
 * @param {Scene} scene
 * @param {Grid} canvas size of the heat of the pane that answers
 * @returns {PaneMap}
 */
export function effectAnswer(question, scene, canvas) {
  const { file, state, say } = scene;
  const answer = specificEffect(file, state, question.side, question.box);
  if (otherSide(question.side) === "reference") {
    return inRegions(say("Which parts changed the marked part"), "", answer, scene, canvas, true);
  }
  const title = say("What the marked part changed");
  const detail = about(scene).join(" \u00b7 ");
  const message = reason(answer, say);
  if (message || "missing" in answer) return { title, detail, message, heat: null, patches: [] };
  return { title, detail, ...drawn(answer, canvas), patches: [] };
}

/**
 * Effects of regions, as the squares that they are; numbered, the strongest are.
 * @param {string} title
 * @param {string} where
 * @param {Effect | {missing: NoRegions}} effect
 * @param {Scene} scene
 * @param {Grid} canvas
 * @param {boolean} [numbered]
 * @returns {PaneMap}
 */
function inRegions(title, where, effect, scene, [tall, wide], numbered = false) {
  const { file, state, say } = scene;
  const regions = regionsOf(file.header, state);
  const detail = [...(where && regions ? [where] : []), ...about(scene)].join(" \u00b7 ");
  const message = reason(effect, say);
  if (message || "missing" in effect || !regions) return { title, detail, message, heat: null, patches: [] };
  const edges = regionEdges(file.header, regions);
  const { values, width, floor } = effect;
  /** @param {Place} place */
  const valueAt = ([u, v]) => values[regionAt(edges[0], v) * width + regionAt(edges[1], u)];
  const squares = new Float32Array(tall * wide);
  const columns = Array.from({ length: wide }, (_, x) => regionAt(edges[1], (x + 0.5) / wide));
  for (let y = 0; y < tall; y++) {
    const first = regionAt(edges[0], (y + 0.5) / tall) * width;
    for (let x = 0; x < wide; x++) squares[y * wide + x] = values[first + columns[x]];
  }
  const range = { low: 0, high: effect.strength };
  const patches = numbered
    ? strongestRegions(values, width, edges).filter((one) => isAbove(one.effect ?? 0, floor))
    : [];
  return { title, detail, heat: { values: squares, own: range, range }, patches, valueAt };
}

/**
 * Whether there is anything to say of an effect, if only roughly.
 * @param {number} strength
 * @param {number} floor
 */
const isAbove = (strength, floor) => ["rough", "measured"].includes(certaintyFor(strength, floor));

/**
 * @param {Float32Array} values
 * @param {number} width
 * @param {[rows: number[], columns: number[]]} edges
 * @returns {Patch[]}
 */
function strongestRegions(values, width, [rows, columns]) {
  return strongest(values, PATCHES).map(({ cell, share }, number) => {
    const [x, y] = [cell % width, Math.floor(cell / width)];
    const label = String(number + 1);
    return { box: [columns[x], rows[y], columns[x + 1], rows[y + 1]], share, effect: values[cell], label };
  });
}

/**
 * What is asked about: of a click on the reference the whole region.
 * @param {Question} question
 * @param {Scene} scene
 * @returns {Box}
 */
export function markedPart({ side, box }, { file, state }) {
  const regions = regionsOf(file.header, state);
  const [left, top, right, bottom] = box;
  if (side === "generated" || !regions || left < right || top < bottom) return box;
  const [rows, columns] = regionEdges(file.header, regions);
  const [y, x] = [regionAt(rows, top), regionAt(columns, left)];
  return [columns[x], rows[y], columns[x + 1], rows[y + 1]];
}

/**
 * How the regions were measured, in words; nothing where they were not.
 * @param {Scene} scene
 */
function about({ file, state, say }) {
  const regions = regionsOf(file.header, state);
  if (!regions) return [];
  const count = file.header.sigmas.length - 1;
  const parts = [say("step {0} of {1}, number {2}", regions.step + 1, count, regions.step)];
  if (cutsOf(file.header, state).length) parts.unshift(say(CUT_WORDS[regions.cut]));
  if (regions.route === "directly") parts.push(say(DIRECTLY));
  return parts;
}

/** @type {Record<import("./kinds.mjs").Cut, string>} */
const CUT_WORDS = { "taken away": "each part taken away alone", "only this left": "only this part left" };

/**
 * Why there is no map, or nothing.
 * @param {Effect | {missing: NoRegions}} effect
 * @param {Say} say
 */
function reason(effect, say) {
  if ("missing" in effect) return say(MISSING[effect.missing]);
  const certainty = certaintyFor(effect.strength, effect.floor);
  return certainty === "measured" ? undefined : words(certainty, effect.strength, effect.floor, say);
}

/**
 * @param {Exclude<Certainty, "measured">} certainty
 * @param {number} strength
 * @param {number} floor
 * @param {Say} say
 */
const words = (certainty, strength, floor, say) => say(TOO_SMALL[certainty], small(strength), small(floor));

/**
 * A map on the picture. Its colours begin at 0, which is no effect.
 * @param {{values: Float32Array, height: number, width: number}} map
 * @param {Grid} canvas
 * @param {number} [high] where its colours end
 * @returns {Pick<PaneMap, "heat" | "valueAt">}
 */
function drawn({ values, height, width }, [tall, wide], high) {
  const large = resize(values, height, width, tall, wide);
  const range = { low: 0, high: high ?? values.reduce((a, b) => Math.max(a, b), 0) };
  /** @param {Place} place */
  const valueAt = ([u, v]) => {
    const [x, y] = [Math.min(width - 1, Math.floor(u * width)), Math.min(height - 1, Math.floor(v * height))];
    return values[y * width + x];
  };
  return { heat: { values: large, own: range, range }, valueAt };
}
