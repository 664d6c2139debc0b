/** Which parts of the reference made this part of the picture, and where this part went: `i2am_core/reading/specific.py`. */

import { tensorOf } from "./file.mjs";
import { cellsOf } from "./geometry.mjs";
import { clamp, resampled } from "./heat.mjs";
import { referenceOf } from "./maps.mjs";

/** @import { ViewFile } from "./file.mjs" */
/** @import { Box } from "./geometry.mjs" */
/** @import { Selection } from "./maps.mjs" */
/** @import { Side } from "./kinds.mjs" */

/** @typedef {{values: Float32Array, height: number, width: number}} Answer a map */

/**
 * Why there is none: "pairs" (none were captured), "layer" (not in this layer), "left out" (of the file, for its size), or
 * "outside" (not for these positions).
 * @typedef {"pairs" | "layer" | "left out" | "outside"} Missing
 */

/**
 * The map that answers for a box, a mean over the layers whose pair maps are in the file.
 * @param {ViewFile} file
 * @param {Pick<Selection, "item" | "reference" | "layer">} selection
 * @param {Side} side where the box is; the answer is a map on the other picture
 * @param {Box} box from 0 to 1
 * @returns {Answer & {layers: number[]} | {missing: Missing}}
 */
export function specific(file, { item, reference, layer }, side, box) {
  const { header } = file;
  const inFile = header.pairs[`${item}/${reference}`] ?? [];
  const captured = referenceOf(header, reference).pairs_captured;
  if (!captured.length) return { missing: "pairs" };
  const layers = layer === null ? inFile : inFile.filter((number) => number === layer);
  if (!layers.length) return { missing: layer === null || captured.includes(layer) ? "left out" : "layer" };
  const answers = [];
  for (const number of layers) {
    const place = `${item}/${reference}/${number}`;
    const answer = side === "generated" ? onReference(file, number, place, box) : onPicture(file, number, place, box);
    if (answer) answers.push(answer);
  }
  return answers.length ? { ...mean(answers), layers } : { missing: "outside" };
}

/**
 * The mean of the maps of the positions in the box, or null where none has one.
 * @param {ViewFile} file
 * @param {number} layer
 * @param {string} place in the names of tensors
 * @param {Box} box
 * @returns {Answer | null}
 */
function onReference(file, layer, place, box) {
  const pairs = tensorOf(file, `pairs/${place}/g2r`);
  const positions = tensorOf(file, `pair_rows/${place}`).data;
  const { grid } = file.header.layers[layer];
  const cells = new Set(cellsOf(box, grid));
  /** @type {number[]} */
  const rows = [];
  positions.forEach((position, row) => {
    if (cells.has(position % (grid[0] * grid[1]))) rows.push(row);
  });
  if (!rows.length) return null;
  const [, height, width] = pairs.shape;
  const values = meanOf(pairs.data, tensorOf(file, `pair_range/${place}/g2r`).data, rows, height * width);
  return { values, height, width };
}

/**
 * The mean of the maps of the reference's tokens in the box. Frames of a video are averaged.
 * @param {ViewFile} file
 * @param {number} layer
 * @param {string} place in the names of tensors
 * @param {Box} box
 * @returns {Answer}
 */
function onPicture(file, layer, place, box) {
  const pairs = tensorOf(file, `pairs/${place}/r2g`);
  const positions = tensorOf(file, `pair_rows/${place}`).data;
  const [, tall, wide] = tensorOf(file, `pairs/${place}/g2r`).shape;
  const tokens = cellsOf(box, [tall, wide]);
  const strengths = meanOf(pairs.data, tensorOf(file, `pair_range/${place}/r2g`).data, tokens, positions.length);
  const { grid, frames } = file.header.layers[layer];
  const values = new Float32Array(grid[0] * grid[1]);
  positions.forEach((position, row) => (values[position % values.length] += strengths[row] / frames));
  return { values, height: grid[0], width: grid[1] };
}

/**
 * The mean of some rows of quantized maps of `size` values each.
 * @param {ArrayLike<number>} levels
 * @param {ArrayLike<number>} ranges
 * @param {number[]} rows
 * @param {number} size
 */
function meanOf(levels, ranges, rows, size) {
  const values = new Float32Array(size);
  for (const row of rows) {
    const low = ranges[2 * row];
    const step = (ranges[2 * row + 1] - low) / 255;
    for (let i = 0; i < size; i++) values[i] += (low + levels[row * size + i] * step) / rows.length;
  }
  return values;
}

/**
 * The mean of maps of several layers, resized to the largest of them; clamped once, at its end.
 * @param {Answer[]} answers
 * @returns {Answer}
 */
function mean(answers) {
  const { height, width } = answers.reduce((a, b) => (b.height * b.width > a.height * a.width ? b : a));
  const values = new Float32Array(height * width);
  for (const answer of answers) {
    const resized = resampled(answer.values, answer.height, answer.width, height, width);
    for (let i = 0; i < values.length; i++) values[i] += resized[i] / answers.length;
  }
  return { values: clamp(values), height, width };
}

/**
 * The strongest patches and their share of all that the map holds, the strongest first.
 * @param {ArrayLike<number>} values
 * @param {number} count
 */
export function strongest(values, count) {
  const all = Array.from(values);
  const total = all.reduce((sum, value) => sum + value, 0);
  return all
    .map((value, cell) => ({ cell, share: value / total }))
    .sort((a, b) => b.share - a.share)
    .slice(0, count)
    .filter(({ share }) => share > 0);
}
