/** What each pane shows: the map of the selection, or the answer to a question about the other picture. */

import { specific, strongest } from "./specific.mjs";
import { isFlat, rangeOf, resize, restore } from "./heat.mjs";
import { ALL, mapOf, rangeOverSteps, referenceOf } from "./maps.mjs";
import { otherSide } from "./kinds.mjs";
import { percent, small } from "./words.mjs";

/** @import { Missing } from "./specific.mjs" */
/** @import { ViewFile } from "./file.mjs" */
/** @import { Box, Grid, Place } from "./geometry.mjs" */
/** @import { Range } from "./heat.mjs" */
/** @import { Question, Side } from "./kinds.mjs" */
/** @import { Selection } from "./maps.mjs" */
/** @import { Scene } from "./scene.mjs" */
/** @import { Say } from "./text.mjs" */

/**
 * @typedef {object} Patch one of the strongest
 * @property {Box} box
 * @property {number} share of the map
 * @property {number} [effect] where the map is one of effects
 * @property {string} label
 */

/**
 * @typedef {object} Heat
 * @property {Float32Array} values at the size of the pane's canvas
 * @property {Range} own their range
 * @property {Range} range that the colours span
 */

/**
 * @typedef {object} PaneMap
 * @property {string} title
 * @property {string} detail
 * @property {string} [message] why there is no map
 * @property {Heat | null} heat
 * @property {Patch[]} patches
 * @property {(place: Place) => number} [valueAt] the value at a place, where people are to read it
 */

const PATCHES = 5;

/** Of a run without pair maps. */
export const PAIRS =
  "To ask about a part, set pair_maps of I2AM Capture to 'inpainting mask' or 'everywhere', and queue again.";

/** @type {Record<Missing, string>} */
const MISSING = {
  pairs: PAIRS,
  outside:
    "No pair maps here: this lies outside the inpainting mask. Set pair_maps of I2AM Capture to 'everywhere' to ask anywhere.",
  layer: "This layer has no pair maps: choose another, or all layers.",
  "left out":
    "The pair maps of this layer did not fit into the viewer's file: choose all layers, or use I2AM Specific Reference.",
};

/**
 * The map of the selection on one of the pictures.
 * @param {Side} side
 * @param {Scene} scene
 * @param {Grid} canvas size of the pane's heat
 * @returns {PaneMap}
 */
export function selectedMap(side, scene, canvas) {
  const { file, state, say } = scene;
  const title = say(side === "generated" ? "Where the reference acts" : "Which parts were used");
  if (side === "reference" && !referenceOf(file.header, state.reference).grid) {
    const message = say("This reference's tokens have no place in its image, so there is no map on it.");
    return { title, detail: "", message, heat: null, patches: [] };
  }
  const detail = describe(side, scene);
  const field = `${side === "generated" ? "r2g" : "g2r"}_${state.kind}`;
  const heat = heatOfField(file, state, field, canvas);
  if (!heat) return { title, detail, message: say("nothing was captured here"), heat: null, patches: [] };
  const range = (state.scale === "over time" && rangeOverSteps(file, state, field)) || heat.own;
  if (isFlat(range)) return { title, detail, message: flatWords(range, field, say), heat: null, patches: [] };
  return { title, detail, heat: { ...heat, range }, patches: [] };
}

/**
 * What a map says that has one value everywhere: painted, it would look like one that is cold everywhere.
 * @param {Range} range
 * @param {string} field
 * @param {Say} say
 */
export function flatWords({ high }, field, say) {
  if (high === 0) return say("Nothing anywhere: this map is 0.");
  if (field === "r2g_share" && high > ALL)
    return say("100 % everywhere: nothing competes with this reference here, so its share says nothing.");
  const value = field.endsWith("share") ? percent(high) : small(high);
  return say("The same everywhere: {0}. No place counts more than another.", value);
}

const REMEMBERED = 4; // heats of a file: those of both panes, and that of the score
/** @type {WeakMap<ViewFile, Map<string, Heat | null>>} */
const heatsByFile = new WeakMap();

/**
 * A map of a selection at the size of its canvas, with colours that span its own range; null where nothing was captured.
 * @param {ViewFile} file
 * @param {Selection} selection
 * @param {string} field such as "r2g_paper"
 * @param {Grid} canvas
 */
export function heatOfField(file, selection, field, canvas) {
  const heats = heatsByFile.get(file) ?? new Map();
  heatsByFile.set(file, heats);
  const { item, reference, layer, step, head, frame } = selection;
  const key = [item, reference, layer, step, head, frame, field, canvas].join();
  const heat = heats.has(key) ? heats.get(key) : newHeat(file, selection, field, canvas);
  heats.delete(key); // and last again
  heats.set(key, heat);
  if (heats.size > REMEMBERED) heats.delete(heats.keys().next().value);
  return heat;
}

/**
 * @param {ViewFile} file
 * @param {Selection} selection
 * @param {string} field
 * @param {Grid} canvas
 */
function newHeat(file, selection, field, canvas) {
  const map = mapOf(file, selection, field);
  return map && heatOf({ ...map, values: restore(map) }, canvas, null);
}

/**
 * @param {Side} side
 * @param {Scene} scene
 */
function describe(side, { file, state, say }) {
  if (side === "generated") return say("reference to generated");
  const { scope } = file.header.items[state.item];
  const details = [
    say("generated to reference"),
    say(scope === "whole image" ? "scope: whole image" : "scope: inpainting mask"),
  ];
  if (state.frame !== null) details.push(say("mean of all frames"));
  if (referenceOf(file.header, state.reference).approximate) details.push(say("approximate"));
  return details.join(" \u00b7 ");
}

/**
 * The answer to a question, on the other picture.
 * @param {Question} question
 * @param {Scene} scene
 * @param {Grid} canvas size of the heat of the pane that answers
 * @returns {PaneMap}
 */
export function answerTo(question, { file, state, say }, canvas) {
  const title = say(
    otherSide(question.side) === "reference" ? "Which parts made the marked part" : "Where the marked part went",
  );
  const answer = specific(file, state, question.side, question.box);
  if ("missing" in answer) return { title, detail: "", message: say(MISSING[answer.missing]), heat: null, patches: [] };
  const { values, height, width, layers } = answer;
  const heat = heatOf(answer, canvas, null);
  const details = [
    layers.length === 1
      ? say("of layer {0}, all steps and heads", file.header.layers[layers[0]].name)
      : say("mean of all steps and heads of {0} layers", layers.length),
  ];
  if (referenceOf(file.header, state.reference).approximate) details.push(say("approximate"));
  return {
    title,
    detail: details.join(" \u00b7 "),
    ...(isFlat(heat.own)
      ? { message: flatWords(heat.own, "", say), heat: null, patches: [] }
      : { heat, patches: patchesOf(values, height, width) }),
  };
}

/**
 * @param {Float32Array} values
 * @param {number} height
 * @param {number} width
 * @returns {Patch[]}
 */
function patchesOf(values, height, width) {
  return strongest(values, PATCHES).map(({ cell, share }, number) => {
    const [x, y] = [cell % width, Math.floor(cell / width)];
    return { box: [x / width, y / height, (x + 1) / width, (y + 1) / height], share, label: String(number + 1) };
  });
}

/**
 * @param {{values: Float32Array, height: number, width: number}} map
 * @param {Grid} canvas
 * @param {Range | null} fixed that the colours span; without one, they span the map's own
 * @returns {Heat}
 */
function heatOf({ values, height, width }, [toHeight, toWidth], fixed) {
  const large = resize(values, height, width, toHeight, toWidth);
  const own = rangeOf(large);
  return { values: large, own, range: fixed ?? own };
}
