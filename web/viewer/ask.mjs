/** Which parts of the reference made this part of the picture, and where this part went: `i2am_core/specific.py`. */

import { cellsOf } from "./geometry.mjs";
import { clamp, resampled } from "./heat.mjs";

/**
 * The map that answers for a box, a mean over the layers whose pair maps are in the file.
 * @param {{header: object, tensors: Map}} file
 * @param {{item: number, reference: number, layer: number | null}} selection
 * @param {"generated" | "reference"} side where the box is; the answer is a map on the other picture
 * @param {number[]} box `[left, top, right, bottom]` from 0 to 1
 * @returns {{values: Float32Array, height: number, width: number, layers: number[]} | {missing: string}} missing:
 *   "pairs" (none were captured), "layer" (not in this layer), "left out" (of the file, for its size), or "outside"
 *   (not for these positions)
 */
export function ask({ header, tensors }, { item, reference, layer }, side, box) {
  const kept = header.pairs[`${item}/${reference}`] ?? [];
  const captured = header.references[reference].pairs_captured;
  if (!captured.length) return { missing: "pairs" };
  const layers = layer === null ? kept : kept.filter((number) => number === layer);
  if (!layers.length) return { missing: layer === null || captured.includes(layer) ? "left out" : "layer" };
  const answers = [];
  for (const number of layers) {
    const place = `${item}/${reference}/${number}`;
    const answer =
      side === "generated" ? made(header, tensors, number, place, box) : went(header, tensors, number, place, box);
    if (answer) answers.push(answer);
  }
  return answers.length ? { ...mean(answers), layers } : { missing: "outside" };
}

/** On the reference: the mean of the maps of the positions in the box, or null where none has one. */
function made(header, tensors, layer, place, box) {
  const pairs = tensors.get(`pairs/${place}/g2r`);
  const rows = tensors.get(`pair_rows/${place}`).data;
  const { grid } = header.layers[layer];
  const cells = new Set(cellsOf(box, grid));
  const asked = [];
  rows.forEach((row, index) => cells.has(row % (grid[0] * grid[1])) && asked.push(index));
  if (!asked.length) return null;
  const [, height, width] = pairs.shape;
  const values = meanOf(pairs.data, tensors.get(`pair_range/${place}/g2r`).data, asked, height * width);
  return { values, height, width };
}

/** On the picture: the mean of the maps of the reference's tokens in the box. Frames of a video are averaged. */
function went(header, tensors, layer, place, box) {
  const pairs = tensors.get(`pairs/${place}/r2g`);
  const rows = tensors.get(`pair_rows/${place}`).data;
  const tokens = cellsOf(box, tensors.get(`pairs/${place}/g2r`).shape.slice(1));
  const found = meanOf(pairs.data, tensors.get(`pair_range/${place}/r2g`).data, tokens, rows.length);
  const { grid, frames } = header.layers[layer];
  const values = new Float32Array(grid[0] * grid[1]);
  rows.forEach((row, index) => (values[row % values.length] += found[index] / frames));
  return { values, height: grid[0], width: grid[1] };
}

/** The mean of some rows of quantized maps of `size` values each. */
function meanOf(levels, ranges, rows, size) {
  const values = new Float32Array(size);
  for (const row of rows) {
    const low = ranges[2 * row];
    const step = (ranges[2 * row + 1] - low) / 255;
    for (let i = 0; i < size; i++) values[i] += (low + levels[row * size + i] * step) / rows.length;
  }
  return values;
}

/** The mean of maps of several layers, resized to the largest of them; clamped once, at its end. */
function mean(answers) {
  const { height, width } = answers.reduce((a, b) => (b.height * b.width > a.height * a.width ? b : a));
  const values = new Float32Array(height * width);
  for (const answer of answers) {
    const resized = resampled(answer.values, answer.height, answer.width, height, width);
    for (let i = 0; i < values.length; i++) values[i] += resized[i] / answers.length;
  }
  return { values: clamp(values), height, width };
}

/** The strongest patches: `{cell, share}` of all that the map holds, the strongest first. */
export function strongest(values, count) {
  const total = values.reduce((sum, value) => sum + value, 0);
  return Array.from(values, (value, cell) => ({ cell, share: value / total }))
    .sort((a, b) => b.share - a.share)
    .slice(0, count)
    .filter(({ share }) => share > 0);
}
