/** All maps of attention at once: of each head in each layer, each layer in each step, each reference in each picture. */

import { frameCount, headCount, jointOf, mapOf, measureOf, referenceOf, rowOf } from "../maps.mjs";
import { emptyCell } from "./cell.mjs";

/** @import { Header } from "../header.d.ts" */
/** @import { Side } from "../kinds.mjs" */
/** @import { Selection } from "../maps.mjs" */
/** @import { Scene } from "../scene.mjs" */
/** @import { Say } from "../text.mjs" */
/** @import { Cell, Grids, Line, Plan } from "./cell.mjs" */

/** @type {Grids} */
export const attentionGrids = {
  "layers x heads": layersAndHeads,
  "steps x layers": layersAndSteps,
  "frames x layers": layersAndFrames,
  "pictures x references": picturesAndReferences,
};

/** @param {Scene} scene @param {Side} side @returns {Plan} */
function layersAndHeads(scene, side) {
  const { file, state, say } = scene;
  const { header } = file;
  const [layers, heads] = [withMean(header.layers.length), withMean(mostHeads(header))];
  return {
    rows: layers.map((layer) => layerLine(scene, layer)),
    columns: heads.map((head) => headLine(head, say)),
    means: [true, true],
    chosen: [layers.indexOf(state.layer), heads.indexOf(state.head)],
    fixed: stepsOfHeads(header, state.step, say),
    cell: (row, column) => cellOf(scene, side, { layer: layers[row], head: heads[column], frame: null }),
  };
}

/** @param {Scene} scene @param {Side} side @returns {Plan} */
function layersAndSteps(scene, side) {
  const { file, state, say } = scene;
  const [layers, steps] = [withMean(file.header.layers.length), withMean(file.header.steps.length)];
  return {
    rows: layers.map((layer) => layerLine(scene, layer)),
    columns: steps.map((step) => stepLine(file.header, step, say)),
    means: [true, true],
    chosen: [layers.indexOf(state.layer), state.head === null ? steps.indexOf(state.step) : -1],
    fixed: say("mean of heads"),
    cell: (row, column) => cellOf(scene, side, { layer: layers[row], step: steps[column], head: null, frame: null }),
  };
}

/** @param {Scene} scene @param {Side} side @returns {Plan} */
function layersAndFrames(scene, side) {
  const { file, state, say } = scene;
  const [layers, frames] = [withMean(file.header.layers.length), withMean(file.header.video?.frames ?? 0)];
  const isOfAll = state.step === null && state.head === null;
  return {
    rows: layers.map((layer) => layerLine(scene, layer)),
    columns: frames.map((frame) => frameLine(frame, frames.length - 1, say)),
    means: [true, true],
    chosen: [layers.indexOf(state.layer), isOfAll ? frames.indexOf(state.frame) : -1],
    fixed: [stepLine(file.header, null, say).name, say("mean of heads")].join(" \u00b7 "),
    cell: (row, column) => cellOf(scene, side, { layer: layers[row], frame: frames[column], step: null, head: null }),
  };
}

/** @param {Scene} scene @param {Side} side @returns {Plan} */
function picturesAndReferences(scene, side) {
  const { file, state, say } = scene;
  const { items, references } = file.header;
  const { layer, step, head, frame } = state;
  const axes = [stepLine(file.header, step, say), layerLine(scene, layer), headLine(head, say)];
  if (frame !== null) axes.push(frameLine(frame, frameCount(file.header, layer), say));
  return {
    rows: items.map((_, item) => pictureLine(item, say)),
    columns: references.map(({ name }, number) => ({ label: `${number}: ${name}`, name: `${number}: ${name}` })),
    means: [false, false],
    chosen: [state.item, state.reference],
    fixed: axes.map(({ name }) => name).join(" \u00b7 "),
    cell: (item, reference) => cellOf(scene, side, { item, reference }),
  };
}

/**
 * The cell of a selection.
 * @param {Scene} scene
 * @param {Side} side
 * @param {Partial<Selection>} parts in which it differs from the state
 * @returns {Cell}
 */
function cellOf({ file, state, say }, side, parts) {
  const { item, reference, layer, step, head, frame } = state;
  const selection = { item, reference, layer, step, head, frame, ...parts };
  const missing = whyMissing(file.header, selection, side, say);
  if (missing) return emptyCell(parts, missing);
  const map = mapOf(file, selection, `${side === "generated" ? "r2g" : "g2r"}_${state.kind}`);
  if (!map) return emptyCell(parts, say("nothing was captured here"));
  const inside = () => (side === "generated" ? measureOf(file, selection, "inside") : NaN);
  return { parts, map, range: { low: map.low, high: map.high }, missing: "", inside };
}

/**
 * Why a file has no map of a selection, wherever it is known before looking; an empty text otherwise.
 * @param {Header} header
 * @param {Selection} selection
 * @param {Side} side
 * @param {Say} say
 */
function whyMissing(header, selection, side, say) {
  const { reference, layer, step, head, frame = null } = selection;
  const { grid, layers } = referenceOf(header, reference);
  if (!layers.length) return say("Nothing has read this reference.");
  if (side === "reference" && !grid)
    return say("This reference's tokens have no place in its image, so there is no map on it.");
  if (layer !== null && !layers.includes(layer)) return say("This layer does not read the reference.");
  if (frame !== null && side === "reference") return say("Frames are those of the picture.");
  if (frame !== null && frame >= frameCount(header, layer))
    return say("Single frames of this layer did not fit into the viewer's file.");
  if (head === null) return "";
  if (layer !== null && head >= header.layers[layer].heads)
    return say("This layer has only {0} heads.", header.layers[layer].heads);
  if (!header.heads) return say("heads are not resolved");
  if (layer === null && referenceOf(header, reference).heads.length > 1)
    return say("Layers differ in how many heads they have: there is no mean of this one.");
  if (head >= headCount(header, reference, layer)) return say("There is no such head.");
  const isInFile = step === null || (jointOf(header, step) >= 0 && rowOf(header, selection) !== null);
  return isInFile ? "" : say("One head in one step did not fit into the viewer's file: choose all steps.");
}

/** The mean of all, which is null, and each. @param {number} count @returns {(number | null)[]} */
const withMean = (count) => [null, ...Array.from({ length: count }, (_, number) => number)];

/** Of any layer. @param {Header} header */
const mostHeads = ({ layers }) => Math.max(0, ...layers.map(({ heads }) => heads));

/** @param {Scene} scene @param {number | null} layer @returns {Line} */
function layerLine({ file: { header }, state, say }, layer) {
  if (layer !== null) {
    const { name, grid } = header.layers[layer];
    return { label: name, name: `${name} \u00b7 ${grid[1]}\u00d7${grid[0]}` };
  }
  return { label: say("mean"), name: say("mean of {0} layers", referenceOf(header, state.reference).layers.length) };
}

/** @param {number | null} head @param {Say} say @returns {Line} */
function headLine(head, say) {
  return head === null
    ? { label: say("mean"), name: say("mean of heads") }
    : { label: String(head), name: say("head {0}", head) };
}

/** @param {number | null} frame @param {number} count @param {Say} say @returns {Line} */
function frameLine(frame, count, say) {
  return frame === null
    ? { label: say("mean"), name: say("mean of {0} frames", count) }
    : { label: String(frame + 1), name: say("frame {0} of {1}, number {2}", frame + 1, count, frame) };
}

/** @param {Header} header @param {number | null} step @param {Say} say @returns {Line} */
function stepLine({ steps, sigmas }, step, say) {
  if (step === null) return { label: say("mean"), name: say("mean of {0} steps", sigmas.length - 1) };
  const [first, end] = steps[step];
  const words = end - first === 1 ? "step {0} of {1}" : "steps {0} of {1}";
  return { label: spanWords(steps[step]), name: say(words, spanWords(steps[step]), sigmas.length - 1) };
}

/** @param {number} item @param {Say} say @returns {Line} */
export function pictureLine(item, say) {
  return { label: say("picture {0}", item), name: say("picture {0}", item) };
}

/** Steps, counted from 1. @param {[first: number, end: number]} span */
export const spanWords = ([first, end]) => (end - first === 1 ? String(end) : `${first + 1}\u2013${end}`);

/**
 * Which steps maps of heads are of: of some runs the file has heads in larger groups of steps than their mean.
 * @param {Header} header
 * @param {number | null} step
 * @param {Say} say
 */
function stepsOfHeads(header, step, say) {
  const { name } = stepLine(header, step, say);
  const joint = step === null ? undefined : header.joint[jointOf(header, step)];
  if (step === null || !joint || joint.join() === header.steps[step].join()) return name;
  return `${name} \u00b7 ${say("heads: mean of steps {0}", spanWords(joint))}`;
}
