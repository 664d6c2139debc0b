/** A grid of thumbnails, all maps at once: what its rows, columns and cells are. */

/** @import { Side } from "../kinds.mjs" */
/** @import { Range } from "../heat.mjs" */
/** @import { MapRow } from "../maps.mjs" */
/** @import { Scene } from "../scene.mjs" */
/** @import { State } from "../state.mjs" */

/** A row or a column: `label` stands beside it, `name` says it in full. @typedef {{label: string, name: string}} Line */

/**
 * @typedef {object} Cell
 * @property {Partial<State>} parts of the state, by which its map is seen large
 * @property {MapRow | null} map
 * @property {Range | null} range of the map's values, by which it is coloured
 * @property {string} missing why there is no map, in words; empty where there is one
 * @property {() => number} inside the part of the map that lies inside the mask; not a number where that is not known
 */

/**
 * @typedef {object} Plan
 * @property {Line[]} rows
 * @property {Line[]} columns
 * @property {[row: boolean, column: boolean]} means whether the first is the mean of the others
 * @property {[row: number, column: number]} chosen the cell whose map the state shows; -1 where it is none of them
 * @property {string} fixed what all cells have in common, in words
 * @property {(row: number, column: number) => Cell} cell
 */

/** What each grid is of, by the names that workflows keep. @typedef {"layers x heads" | "steps x layers" | "frames x layers" | "pictures x references" | "steps x references"} GridName */

/** @type {GridName[]} */
export const GRIDS = [
  "layers x heads",
  "steps x layers",
  "frames x layers",
  "pictures x references",
  "steps x references",
];

/** How the grids that a mode has are made. @typedef {Partial<Record<GridName, (scene: Scene, side: Side) => Plan>>} Grids */

/**
 * A cell without a map.
 * @param {Partial<State>} parts
 * @param {string} missing
 * @returns {Cell}
 */
export function emptyCell(parts, missing) {
  return { parts, map: null, range: null, missing, inside: () => NaN };
}
