/**
 * Which map belongs to a selection. A sheet (one layer, or the mean of all) has a row for everything, one for each group
 * of steps, one for each head, and one for each head in each joint group of steps: see `i2am_core/showing/view.py`.
 */

import { tensorOf } from "./file.mjs";

/** @import { Tensor, ViewFile } from "./file.mjs" */
/** @import { Range } from "./heat.mjs" */
/** @import { FileHeader, Header, HeaderReference } from "./header.d.ts" */

/**
 * @typedef {object} Selection
 * @property {number} item picture of the batch
 * @property {number} reference
 * @property {number | null} layer number of a layer; null is the mean of all
 * @property {number | null} step number of a group of steps; null is all
 * @property {number | null} head number of a head in the sheet's list; null is all
 * @property {number | null} [frame] of a video, of the mean of all steps and heads; null or none is the mean of all
 */

/** @typedef {"step" | "layer" | "head" | "frame"} Axis */

/** @typedef {FileHeader["measures"][number]} Measure */

/**
 * A map as it is in the file: a value is `low + level / 255 * (high - low)`.
 * @typedef {object} MapRow
 * @property {ArrayLike<number>} levels
 * @property {number} low
 * @property {number} high
 * @property {number} height
 * @property {number} width
 */

/** Of the attention: nothing else is in the softmax, but for rounding. */
export const ALL = 0.999;

/** @type {HeaderReference} */
const NO_REFERENCE = { name: "", tokens: 0, grid: null, approximate: false, layers: [], heads: [], pairs_captured: [] };

/**
 * A reference, or one without anything where the run has none.
 * @param {Header} header
 * @param {number} number
 */
export function referenceOf(header, number) {
  return header.references[number] ?? NO_REFERENCE;
}

/**
 * Heads that a sheet resolves: each is number `head` of `of`, in so many `layers`.
 * @param {Header} header
 * @param {number} reference
 * @param {number | null} layer
 * @returns {{head: number, of: number, layers: number}[]}
 */
export function headsOf(header, reference, layer) {
  if (!header.heads) return [];
  /** @type {[of: number, layers: number][]} */
  const groups = layer === null ? referenceOf(header, reference).heads : [[header.layers[layer].heads, 1]];
  return groups.flatMap(([of, layers]) => Array.from({ length: of }, (_, head) => ({ head, of, layers })));
}

/**
 * How many heads a sheet resolves: `headsOf` without the list, since every bar needs it.
 * @param {Header} header
 * @param {number} reference
 * @param {number | null} layer
 */
export function headCount(header, reference, layer) {
  if (!header.heads) return 0;
  if (layer !== null) return header.layers[layer].heads;
  return referenceOf(header, reference).heads.reduce((sum, [of]) => sum + of, 0);
}

/**
 * How many single frames of the picture the file has, of a layer or of the mean of all.
 * @param {Header} header
 * @param {number | null} layer
 */
export function frameCount({ video }, layer) {
  return video && (layer === null || video.layers.includes(layer)) ? video.frames : 0;
}

/**
 * The joint group that holds a group of steps, or -1 where heads are only resolved over all steps.
 * @param {Header} header
 * @param {number} step
 */
export function jointOf(header, step) {
  const [first] = header.steps[step];
  return header.joint.findIndex(([low, high]) => low <= first && first < high);
}

/**
 * The row of a selection in its sheet, or null where it was not kept.
 * @param {Header} header
 * @param {Selection} selection
 */
export function rowOf(header, { reference, layer, step, head }) {
  const steps = header.steps.length;
  if (head === null) return step === null ? 0 : 1 + step;
  const heads = headCount(header, reference, layer);
  if (head >= heads) return null;
  if (step === null) return 1 + steps + head;
  const group = jointOf(header, step);
  return group < 0 ? null : 1 + steps + (1 + group) * heads + head;
}

/**
 * The steps that a row is the mean of.
 * @param {Header} header
 * @param {Pick<Selection, "step" | "head">} selection
 * @returns {[first: number, end: number]}
 */
export function stepsOf(header, { step, head }) {
  if (step === null) return [0, header.sigmas.length - 1];
  return head === null ? header.steps[step] : header.joint[jointOf(header, step)];
}

/**
 * A selection that exists in this file, as near as possible to the one wanted. Where a head in one step was not kept, the
 * one that was `changed` last stays; so it is with a single frame, which is of all steps and heads.
 * @template {Selection} Wanted
 * @param {Header} header
 * @param {Wanted} wanted
 * @param {string} [changed]
 * @returns {Wanted}
 */
export function settle(header, wanted, changed = "step") {
  /** @param {number} value @param {number} count */
  const within = (value, count) => Math.max(0, Math.min(count - 1, Math.round(value) || 0));
  const item = within(wanted.item, header.items.length);
  const reference = readBy(header, within(wanted.reference, header.references.length));
  const layers = referenceOf(header, reference).layers;
  const layer = wanted.layer !== null && layers.includes(wanted.layer) ? wanted.layer : null;
  const heads = headCount(header, reference, layer);
  let step = wanted.step === null ? null : within(wanted.step, header.steps.length);
  let head = wanted.head === null || !heads ? null : within(wanted.head, heads);
  if (head !== null && step !== null && jointOf(header, step) < 0) {
    if (changed === "head") step = null;
    else head = null;
  }
  const frames = frameCount(header, layer);
  let frame = wanted.frame === null || wanted.frame === undefined || !frames ? null : within(wanted.frame, frames);
  if (frame !== null && (changed === "frame" || (step === null && head === null))) [step, head] = [null, null];
  else frame = null;
  return { ...wanted, item, reference, layer, step, head, frame };
}

/**
 * The reference itself, or the first that any layer has read: one may have been given and never have been read.
 * @param {Header} header
 * @param {number} reference
 */
function readBy(header, reference) {
  if (referenceOf(header, reference).layers.length) return reference;
  return Math.max(
    0,
    header.references.findIndex(({ layers }) => layers.length),
  );
}

/** @param {Selection} selection */
const sheet = ({ item, reference, layer }) => `${item}/${reference}/${layer ?? "all"}`;

/**
 * @param {ViewFile} file
 * @param {Selection} selection
 * @param {string} field such as "r2g_paper"
 * @returns {MapRow | null} null where nothing was captured, or there is no such map
 */
export function mapOf(file, selection, field) {
  const { header, tensors } = file;
  const { frame = null } = selection;
  if (frame !== null && field.startsWith("r2g")) {
    const frames = tensors.get(`frames/${sheet(selection)}/${field}`);
    return frames ? mapIn(frames, tensorOf(file, `frame_range/${sheet(selection)}/${field}`), frame) : null;
  }
  const maps = tensors.get(`maps/${sheet(selection)}/${field}`);
  const row = rowOf(header, selection);
  return maps && row !== null ? mapIn(maps, tensorOf(file, `range/${sheet(selection)}/${field}`), row) : null;
}

/**
 * One of several maps; null where its range is not a number.
 * @param {Tensor} maps
 * @param {Tensor} ranges
 * @param {number} row
 * @returns {MapRow | null}
 */
export function mapIn(maps, ranges, row) {
  const [, height, width] = maps.shape;
  const [low, high] = ranges.data.subarray(2 * row, 2 * row + 2);
  if (Number.isNaN(low)) return null;
  return { levels: maps.data.subarray(row * height * width, (row + 1) * height * width), low, high, height, width };
}

/**
 * The lowest and highest value of a field over all steps of a selection, or all frames of one of a single frame: a scale
 * for comparing these.
 * @param {ViewFile} file
 * @param {Selection} selection
 * @param {string} field
 * @returns {Range | null}
 */
export function rangeOverSteps(file, selection, field) {
  let low = Infinity;
  let high = -Infinity;
  const axis = (selection.frame ?? null) === null ? "step" : "frame";
  for (const number of choices(file.header, selection, axis)) {
    const map = mapOf(file, { ...selection, [axis]: number }, field);
    if (map) {
      low = Math.min(low, map.low);
      high = Math.max(high, map.high);
    }
  }
  return low <= high ? { low, high } : null;
}

/**
 * A measure of the picture's map of a selection; NaN where there is none.
 * @param {ViewFile} file
 * @param {Selection} selection
 * @param {Measure} measure
 */
export function measureOf({ header, tensors }, selection, measure) {
  const { frame = null } = selection;
  const measures = tensors.get(`${frame === null ? "" : "frame_"}measures/${sheet(selection)}`);
  const row = frame ?? rowOf(header, selection);
  if (!measures || row === null) return NaN;
  return measures.data[header.measures.indexOf(measure) * measures.shape[1] + row];
}

/**
 * A measure along one axis of a selection, the rest of it as it is.
 * @param {ViewFile} file
 * @param {Selection} selection
 * @param {Axis} axis
 * @param {Measure} measure
 */
export function along(file, selection, axis, measure) {
  return choices(file.header, selection, axis).map((value) =>
    measureOf(file, alone(file.header, selection, axis, value), measure),
  );
}

/**
 * What an axis offers: numbers of steps, of layers that see the reference, of heads, of frames.
 * @param {Header} header
 * @param {Pick<Selection, "reference" | "layer">} selection
 * @param {Axis} axis
 */
export function choices(header, { reference, layer }, axis) {
  if (axis === "step") return header.steps.map((_, number) => number);
  if (axis === "layer") return referenceOf(header, reference).layers;
  if (axis === "frame") return Array.from({ length: frameCount(header, layer) }, (_, number) => number);
  return Array.from({ length: headCount(header, reference, layer) }, (_, number) => number);
}

/**
 * The selection with one axis at a value, without what could not be shown with it.
 * @param {Header} header
 * @param {Selection} selection
 * @param {Axis} axis
 * @param {number} value
 * @returns {Selection}
 */
function alone(header, selection, axis, value) {
  /** @type {Selection} */
  const moved = { ...selection, [axis]: value };
  if (axis === "frame") return { ...moved, step: null, head: null };
  if (axis !== "layer" || (moved.frame ?? 0) >= frameCount(header, value)) moved.frame = null;
  if (axis === "layer" && (selection.head ?? 0) >= headCount(header, moved.reference, value)) moved.head = null;
  return rowOf(header, moved) === null ? { ...moved, [axis === "head" ? "step" : "head"]: null } : moved;
}

/** @type {WeakMap<ViewFile, Map<string, boolean>>} */
const varyingByFile = new WeakMap();

/**
 * Whether a measure says anything here: a reference with a softmax of its own always has all of it.
 * @param {ViewFile} file
 * @param {Pick<Selection, "item" | "reference">} selection
 * @param {Measure} measure
 */
export function varies(file, { item, reference }, measure) {
  const varying = varyingByFile.get(file) ?? new Map();
  varyingByFile.set(file, varying);
  const key = `${item}/${reference}/${measure}`;
  if (!varying.has(key)) varying.set(key, computeVaries(file, { item, reference }, measure));
  return varying.get(key);
}

/**
 * @param {ViewFile} file
 * @param {Pick<Selection, "item" | "reference">} selection
 * @param {Measure} measure
 */
function computeVaries(file, { item, reference }, measure) {
  const values = [];
  for (const layer of [null, ...referenceOf(file.header, reference).layers]) {
    const whole = { item, reference, layer, step: null, head: null };
    values.push(measureOf(file, whole, measure), ...along(file, whole, "step", measure));
  }
  const known = values.filter((value) => !Number.isNaN(value));
  return known.length > 0 && Math.max(...known) - Math.min(...known) > 1e-3 * Math.max(...known.map(Math.abs));
}
