/** Where each thumbnail is on the canvas of all of them, in its pixels. */

import { fit } from "../geometry.mjs";

/** @import { Grid } from "../geometry.mjs" */

const GAP = 2; // px between thumbnails
const APART = 4; // more, between a mean and what it is the mean of

/**
 * @typedef {object} Layout
 * @property {[width: number, height: number]} size of a thumbnail
 * @property {number[]} left of each column
 * @property {number[]} top of each row
 * @property {[width: number, height: number]} whole
 */

/**
 * Thumbnails as large as they can be in a space, within bounds: where they cannot be so small, they leave it.
 * @param {[rows: number, columns: number]} count
 * @param {[row: boolean, column: boolean]} means whether the first is apart
 * @param {Grid} canvas height and width of the pictures
 * @param {[width: number, height: number]} space
 * @param {[least: number, most: number]} bounds px of the shorter side at least, of each side at most
 * @returns {Layout}
 */
export function layoutOf([rows, columns], [meanRow, meanColumn], [height, width], [wide, tall], [least, most]) {
  /** @param {number} space @param {number} count @param {boolean} isApart */
  const each = (space, count, isApart) => (space - (isApart ? APART : 0)) / count - GAP;
  const box = [each(wide, columns, meanColumn), each(tall, rows, meanRow)].map((side) => Math.min(most, side));
  const [fitted] = fit(width, height, Math.max(1, box[0]), Math.max(1, box[1]));
  const scale = Math.max(fitted / width, least / Math.min(height, width));
  const size = /** @type {[number, number]} */ ([width, height].map((side) => Math.max(1, Math.floor(side * scale))));
  /** @param {number} count @param {number} side @param {boolean} isApart */
  const starts = (count, side, isApart) =>
    Array.from({ length: count }, (_, n) => n * (side + GAP) + (isApart && n ? APART : 0));
  const [left, top] = [starts(columns, size[0], meanColumn), starts(rows, size[1], meanRow)];
  return { size, left, top, whole: [(left.at(-1) ?? 0) + size[0], (top.at(-1) ?? 0) + size[1]] };
}

/**
 * The thumbnail at a place of the canvas; null between them.
 * @param {Layout} layout
 * @param {number} x
 * @param {number} y
 * @returns {[row: number, column: number] | null}
 */
export function cellAt({ size, left, top }, x, y) {
  const column = left.findLastIndex((start) => start <= x);
  const row = top.findLastIndex((start) => start <= y);
  const isInside = column >= 0 && row >= 0 && x < left[column] + size[0] && y < top[row] + size[1];
  return isInside ? [row, column] : null;
}

/**
 * Every how many columns have space for their labels.
 * @param {Layout} layout
 * @param {number} width px of the widest label
 */
export function labelled({ size }, width) {
  return Math.max(1, Math.ceil(width / (size[0] + GAP)));
}

/**
 * Where a key goes from a thumbnail; null for other keys.
 * @param {string} key
 * @param {[row: number, column: number]} at
 * @param {[rows: number, columns: number]} count
 * @returns {[row: number, column: number] | null}
 */
export function cellAfter(key, [row, column], [rows, columns]) {
  /** @type {Record<string, [row: number, column: number]>} */
  const cells = {
    ArrowUp: [Math.max(0, row - 1), column],
    ArrowDown: [Math.min(rows - 1, row + 1), column],
    ArrowLeft: [row, Math.max(0, column - 1)],
    ArrowRight: [row, Math.min(columns - 1, column + 1)],
    Home: [row, 0],
    End: [row, columns - 1],
    PageUp: [0, column],
    PageDown: [rows - 1, column],
  };
  return cells[key] ?? null;
}
