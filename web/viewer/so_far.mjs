/** What ComfyUI sends while a sampler runs: the map of each reference so far. No page is needed. */

import { rangeOf, resize, restore } from "./heat.mjs";

/** @import { Grid } from "./geometry.mjs" */
/** @import { Range } from "./heat.mjs" */

/** @typedef {{reference: number, name: string, normalization: "share" | "paper", grid: Grid, values: Float32Array}} MapSoFar */

/**
 * Nodes are named by the ids under which they were queued.
 * @typedef {object} SoFar
 * @property {string} prompt that was queued
 * @property {string} capture
 * @property {string} sampler whose steps these are
 * @property {string[]} viewers that the maps are for
 * @property {number} step counted from 1
 * @property {number} steps
 * @property {number} items pictures of the batch: maps are of the first
 * @property {MapSoFar[]} maps at least one
 */

const LARGEST = 64; // cells on a side, and
const PIXELS = 512; // of the side of a picture of them, about

/**
 * A message; null for one that is not what we send: it may be of another version.
 * @param {unknown} sent
 * @returns {SoFar | null}
 */
export function soFarIn(sent) {
  if (!isRecord(sent)) return null;
  const { prompt_id: prompt, capture, sampler, viewers, step, steps, items } = sent;
  const texts = [prompt, capture, sampler, ...(Array.isArray(viewers) ? viewers : [null])];
  const maps = Array.isArray(sent.maps) ? sent.maps.map(mapIn) : [];
  const fits = texts.every((text) => typeof text === "string") && [step, steps, items].every(isCount);
  if (!fits || !maps.length || maps.includes(null)) return null;
  return /** @type {SoFar} */ ({ prompt, capture, sampler, viewers, step, steps, items, maps });
}

/** @param {unknown} sent @returns {MapSoFar | null} */
function mapIn(sent) {
  if (!isRecord(sent)) return null;
  const { reference, name, normalization, grid, range, levels } = sent;
  const isGrid = Array.isArray(grid) && grid.length === 2 && grid.every((side) => isCount(side) && side <= LARGEST);
  const isRange = Array.isArray(range) && range.length === 2 && range.every(Number.isFinite);
  if (!isGrid || !isRange || typeof levels !== "string" || typeof name !== "string") return null;
  if (typeof reference !== "number" || (normalization !== "share" && normalization !== "paper")) return null;
  const bytes = bytesOf(levels);
  if (bytes?.length !== grid[0] * grid[1]) return null;
  const values = restore({ levels: bytes, low: range[0], high: range[1] });
  return { reference, name, normalization, grid: [grid[0], grid[1]], values };
}

/** @param {unknown} value @returns {value is Record<string, unknown>} */
const isRecord = (value) => typeof value === "object" && value !== null;

/** @param {unknown} value @returns {value is number} */
const isCount = (value) => Number.isInteger(value) && Number(value) > 0;

/** @param {string} text two hexadecimal digits a byte */
function bytesOf(text) {
  if (!/^([0-9a-f]{2})*$/.test(text)) return null;
  return Uint8Array.from(text.match(/../g) ?? [], (digits) => parseInt(digits, 16));
}

/**
 * A map at the size of a picture, and its lowest and highest value.
 * @param {MapSoFar} map
 * @returns {{canvas: Grid, values: Float32Array, range: Range}}
 */
export function enlarged({ grid: [height, width], values }) {
  const times = Math.max(1, Math.floor(PIXELS / Math.max(height, width)));
  /** @type {Grid} */
  const canvas = [times * height, times * width];
  const large = resize(values, height, width, ...canvas);
  return { canvas, values: large, range: rangeOf(large) };
}

/** The mean of all cells: of a share, how much of all attention. @param {MapSoFar} map */
export const meanOf = ({ values }) => values.reduce((sum, value) => sum + value, 0) / values.length;

// Of matplotlib's inferno, as the files of results have it: between these, colours are in between.
const INFERNO =
  "0000040b0724210c4a3d096557106e71196e8a226aa32c61bc3754d24644e45a31f1731df98e09fcac11f9cb35f2ea69fcffa4";

/** 256 colours, RGB, before there is a file that has them. */
export function inferno() {
  const stops = (INFERNO.match(/../g) ?? []).map((part) => parseInt(part, 16));
  const table = new Uint8Array(768);
  for (let i = 0; i < table.length; i++) {
    const [level, channel] = [Math.floor(i / 3) / 16, i % 3];
    const at = Math.floor(level);
    const [low, high] = [stops[3 * at + channel], stops[3 * at + 3 + channel]];
    table[i] = Math.round(low + (level - at) * (high - low));
  }
  return table;
}
