/** A smaller file of the same run: what is looked at least is left out first, until it fits. */

import { headCount } from "../maps.mjs";
import { sizeOf } from "./write.mjs";

/** @import { Tensor, ViewFile } from "../file.mjs" */
/** @import { FileHeader } from "../header.d.ts" */

const MB = 2 ** 20;
const SHEET = /^(maps|range|measures)\/\d+\/(\d+)\/(all|\d+)/;

/** What can be left out, in this order. @type {[words: string, leaveOut: (file: ViewFile) => ViewFile][]} */
const LADDER = [
  ["one head in one step", withoutJoint],
  ["single frames", withoutFrames],
  ["answers about a part", withoutPairs],
  ["where each part acts", withoutRegions],
  ["single heads", withoutHeads],
  ["single steps", withoutSteps],
];

/** For a test that all of it is translated. */
export const LEFT_OUT = LADDER.map(([words]) => words);

/**
 * @param {ViewFile} file
 * @param {number} most bytes of its tensors
 * @returns {{file: ViewFile, leftOut: string[]}} in words
 * @throws {Error} in one sentence, where the pictures and the maps of all steps do not fit either
 */
export function thinned(file, most) {
  const leftOut = [];
  for (const [words, leaveOut] of LADDER) {
    const size = sizeOf(file);
    if (size <= most) break;
    const smaller = leaveOut(file);
    if (sizeOf(smaller) === size) continue; // there was none of it
    file = smaller;
    leftOut.push(words);
  }
  const size = sizeOf(file);
  if (size > most) {
    const [got, expected] = [size, most].map((bytes) => (bytes / MB).toFixed(1));
    throw new Error(`the smallest file of this run has ${got} MB, expected ${expected} MB: use fewer pictures.`);
  }
  return { file, leftOut };
}

/** @param {ViewFile} file */
function withoutJoint(file) {
  const steps = file.header.steps.length;
  return withRows(file, { joint: [] }, (heads) => upTo(1 + steps + heads));
}

/** @param {ViewFile} file */
function withoutHeads(file) {
  const steps = file.header.steps.length;
  return withRows(file, { joint: [], heads: false }, () => upTo(1 + steps));
}

/** All steps as one group, whose map is that of everything. @param {ViewFile} file */
function withoutSteps(file) {
  const steps = file.header.sigmas.length - 1;
  return withRows(file, { joint: [], heads: false, steps: [[0, steps]] }, () => [0, 0]);
}

/** @param {ViewFile} file */
function withoutPairs({ header, tensors }) {
  return { header: { ...header, pairs: {} }, tensors: without(tensors, /^(pairs|pair_range|pair_rows)\//) };
}

/** @param {ViewFile} file @returns {ViewFile} */
function withoutFrames({ header: { video: _, ...header }, tensors }) {
  return { header, tensors: without(tensors, /^(frames|frame_range|frame_measures)\//) };
}

/** @param {ViewFile} file */
function withoutRegions({ header, tensors }) {
  const { effects } = header;
  const regions = effects?.regions.map((one) => ({ ...one, in_file: false })) ?? [];
  const thinner = effects ? { ...header, effects: { ...effects, regions } } : header;
  return { header: thinner, tensors: without(tensors, /^(regions|region_range)\//) };
}

/** @param {ViewFile["tensors"]} tensors @param {RegExp} names */
const without = (tensors, names) => new Map([...tensors].filter(([name]) => !names.test(name)));

/** @param {number} count */
const upTo = (count) => Array.from({ length: count }, (_, row) => row);

/**
 * A file with some rows of each sheet only.
 * @param {ViewFile} file
 * @param {Partial<FileHeader>} parts of the header that say so
 * @param {(heads: number) => number[]} rowsOf a sheet with so many heads
 * @returns {ViewFile}
 */
function withRows({ header, tensors }, parts, rowsOf) {
  /** @type {(entry: [string, Tensor]) => [string, Tensor]} */
  const shortened = ([name, tensor]) => {
    const [, kind, reference, layer] = name.match(SHEET) ?? [];
    if (!kind) return [name, tensor];
    const rows = rowsOf(headCount(header, Number(reference), layer === "all" ? null : Number(layer)));
    return [name, kind === "measures" ? columnsOf(tensor, rows) : rowsIn(tensor, rows)];
  };
  return { header: { ...header, ...parts }, tensors: new Map([...tensors].map(shortened)) };
}

/** @param {Tensor} tensor @param {number[]} rows @returns {Tensor} */
function rowsIn({ shape: [, ...rest], data }, rows) {
  const size = rest.reduce((product, length) => product * length, 1);
  const some = /** @type {Tensor["data"]} */ (data.slice(0, rows.length * size));
  rows.forEach((row, at) => some.set(data.subarray(row * size, (row + 1) * size), at * size));
  return { shape: [rows.length, ...rest], data: some };
}

/** @param {Tensor} tensor `[measures, rows]` @param {number[]} rows @returns {Tensor} */
function columnsOf({ shape: [measures, length], data }, rows) {
  const some = /** @type {Tensor["data"]} */ (data.slice(0, measures * rows.length));
  for (let n = 0; n < measures; n++) rows.forEach((row, at) => (some[n * rows.length + at] = data[n * length + row]));
  return { shape: [measures, rows.length], data: some };
}
