/** What effects say of regions of a reference: how much each changed the picture, and where. */

import { effectMeasure, regionsOf } from "./effects.mjs";
import { tensorOf } from "./file.mjs";
import { cellsOf } from "./geometry.mjs";
import { restore } from "./heat.mjs";
import { mapIn, referenceOf } from "./maps.mjs";

/** @import { ViewFile } from "./file.mjs" */
/** @import { Box } from "./geometry.mjs" */
/** @import { Header, HeaderRegions } from "./header.d.ts" */
/** @import { Side } from "./kinds.mjs" */
/** @import { State } from "./state.mjs" */

/**
 * Why regions do not answer: "regions" (none were measured), "owner" (not a reference) or "left out" (of the file).
 * @typedef {"regions" | "owner" | "left out"} NoRegions
 */

/**
 * Values with the strength and noise floor by which they are judged. Those of regions are row by row.
 * @typedef {{values: Float32Array, height: number, width: number, strength: number, floor: number}} Effect
 */

/**
 * How much each region of the selected reference changed the picture in its scope.
 * @param {ViewFile} file
 * @param {State} state
 * @returns {Effect | {missing: NoRegions}}
 */
export function regionStrengths(file, state) {
  const regions = regionsOf(file.header, state);
  if (!regions) return { missing: state.owner === null ? "regions" : "owner" };
  const { item, reference, cut } = state;
  const values = Float32Array.from(tensorOf(file, `region_strengths/${item}/${reference}/${cut}`).data);
  const [height, width] = regions.grid;
  const floor = effectMeasure(file, { ...state, route: regions.route, step: null }, "floor");
  return { values, height, width, strength: Math.max(...values), floor };
}

/**
 * Which regions of the reference changed the part of the picture in a box, or where the part of the reference in it changed
 * the picture: `specific_effect` of `i2am_core/reading/effect.py`. A click on the reference is on a whole region.
 * @param {ViewFile} file
 * @param {State} state
 * @param {Side} side where the box is
 * @param {Box} box from 0 to 1
 * @returns {Effect | {missing: NoRegions}}
 */
export function specificEffect(file, state, side, box) {
  const regions = regionsOf(file.header, state);
  if (!regions) return { missing: state.owner === null ? "regions" : "owner" };
  if (!regions.in_file) return { missing: "left out" };
  const { item, reference, cut } = state;
  const maps = tensorOf(file, `regions/${item}/${reference}/${cut}`);
  const ranges = tensorOf(file, `region_range/${item}/${reference}/${cut}`);
  const floor = tensorOf(file, `effect_floor/${item}`).data;
  /** @param {number} region */
  const effect = (region) => restore(mapIn(maps, ranges, region) ?? { levels: [], low: 0, high: 0 });
  if (side === "reference")
    return onPicture(file.header, coverOf(regionEdges(file.header, regions), box), effect, floor);
  const cells = cellsOf(box, file.header.grid);
  const [height, width] = regions.grid;
  const values = Float32Array.from({ length: height * width }, (_, region) => rmsOf(effect(region), cells));
  return { values, height, width, strength: Math.max(...values), floor: rmsOf(floor, cells) };
}

/**
 * @param {Header} header
 * @param {[region: number, weight: number][]} chosen
 * @param {(region: number) => Float32Array} effect
 * @param {ArrayLike<number>} floor
 * @returns {Effect}
 */
function onPicture({ grid: [height, width] }, chosen, effect, floor) {
  const values = new Float32Array(height * width);
  for (const [region, weight] of chosen) {
    effect(region).forEach((value, cell) => (values[cell] += weight * value ** 2));
  }
  values.forEach((sum, cell) => (values[cell] = Math.sqrt(sum)));
  return { values, height, width, strength: rmsOf(values), floor: rmsOf(floor) };
}

/**
 * The root mean square of some cells, or of all.
 * @param {ArrayLike<number>} values
 * @param {number[]} [cells]
 */
function rmsOf(values, cells) {
  const chosen = cells ? cells.map((cell) => values[cell]) : Array.from(values);
  return Math.sqrt(chosen.reduce((sum, value) => sum + value ** 2, 0) / chosen.length);
}

/**
 * Where the rows and columns of regions begin and end, from 0 to 1: each has whole tokens of the reference.
 * @param {Header} header
 * @param {Pick<HeaderRegions, "reference" | "grid">} regions
 * @returns {[rows: number[], columns: number[]]}
 */
export function regionEdges(header, { reference, grid }) {
  const tokens = referenceOf(header, reference).grid ?? grid;
  const [rows, columns] = grid.map((count, axis) =>
    Array.from({ length: count + 1 }, (_, edge) => Math.ceil((edge * tokens[axis]) / count) / tokens[axis]),
  );
  return [rows, columns];
}

/**
 * The regions that a box covers, and how much of each. A click is a box without size.
 * @param {[rows: number[], columns: number[]]} edges
 * @param {Box} box
 */
function coverOf([rows, columns], [left, top, right, bottom]) {
  if (left === right && top === bottom) {
    /** @type {[region: number, weight: number][]} */
    const clicked = [[regionAt(rows, top) * (columns.length - 1) + regionAt(columns, left), 1]];
    return clicked;
  }
  /** @type {[region: number, weight: number][]} */
  const chosen = [];
  for (let y = 0; y + 1 < rows.length; y++) {
    for (let x = 0; x + 1 < columns.length; x++) {
      const weight = overlap(rows, y, top, bottom) * overlap(columns, x, left, right);
      if (weight > 0) chosen.push([y * (columns.length - 1) + x, weight]);
    }
  }
  return chosen;
}

/**
 * The number of the region at a place of one axis.
 * @param {number[]} edges
 * @param {number} at
 */
export function regionAt(edges, at) {
  const beyond = edges.findIndex((edge) => edge > at);
  return (beyond < 0 ? edges.length - 1 : beyond) - 1;
}

/**
 * How much of a region lies between two places of one axis.
 * @param {number[]} edges
 * @param {number} region
 * @param {number} low
 * @param {number} high
 */
function overlap(edges, region, low, high) {
  const [start, end] = [edges[region], edges[region + 1]];
  return Math.max(0, Math.min(end, high) - Math.max(start, low)) / (end - start);
}
