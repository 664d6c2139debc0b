/** The grid of thumbnails that a state shows: its cells, the range that their colours span, and what each comes to. */

import { isEffect } from "../effects.mjs";
import { isFlat, restore } from "../heat.mjs";
import { flatWords } from "../pane_maps.mjs";
import { pictureOf } from "../scene.mjs";
import { percent, small } from "../words.mjs";
import { attentionGrids } from "./attention_grids.mjs";
import { GRIDS } from "./cell.mjs";
import { effectGrids } from "./effect_grids.mjs";

/** @import { Grid } from "../geometry.mjs" */
/** @import { Range } from "../heat.mjs" */
/** @import { Side } from "../kinds.mjs" */
/** @import { Scene } from "../scene.mjs" */
/** @import { Say } from "../text.mjs" */
/** @import { Cell, GridName, Line } from "./cell.mjs" */

/**
 * @typedef {object} Thumbnails
 * @property {GridName} name
 * @property {string} title what all of it is
 * @property {Line[]} rows
 * @property {Line[]} columns
 * @property {[row: boolean, column: boolean]} means whether the first is the mean of the others
 * @property {Cell[][]} cells
 * @property {[row: number, column: number]} chosen
 * @property {Range | null} common range of all maps, which the colours span; null where each has its own
 * @property {boolean} unlike whether maps of other sizes have other values, though they say the same
 * @property {boolean} dim whether most maps are dark beside the strongest
 * @property {string} message why there is nothing to see; empty where there is
 * @property {Grid} canvas height and width of a thumbnail, of which only the form counts
 */

/** @type {Record<GridName, string>} */
const ACROSS = {
  "layers x heads": "layers down, heads across",
  "steps x layers": "layers down, steps across",
  "frames x layers": "layers down, frames across",
  "pictures x references": "pictures down, references across",
  "steps x references": "references down, steps across",
};

/**
 * The grids that there are of a state's maps.
 * @param {Scene} scene
 * @returns {GridName[]}
 */
export function offeredGrids(scene) {
  const made = makers(scene);
  const { items, references, video } = scene.file.header;
  /** @type {Partial<Record<GridName, boolean>>} */
  const hasOne = { "pictures x references": items.length * references.length === 1, "frames x layers": !video };
  return GRIDS.filter((name) => made[name] && !hasOne[name]);
}

/** @param {Scene} scene */
const makers = ({ state }) => (isEffect(state) ? effectGrids : attentionGrids);

/**
 * The picture whose maps are seen: effects have none on the reference but those of its parts.
 * @param {Scene} scene
 * @returns {Side}
 */
export const thumbnailSide = ({ state }) => (isEffect(state) ? "generated" : state.thumbnailSide);

/**
 * @param {Scene} scene
 * @returns {Thumbnails | null} null while a state shows none
 */
export function thumbnailsOf(scene) {
  const { file, state, say } = scene;
  if (state.thumbnails === null) return null;
  const offered = offeredGrids(scene);
  const name = offered.find((one) => one === state.thumbnails) ?? offered[0];
  const side = thumbnailSide(scene);
  const plan = makers(scene)[name]?.(scene, side);
  if (!plan) return null;
  const cells = plan.rows.map((_, row) => plan.columns.map((_, column) => plan.cell(row, column)));
  const common = commonRange(cells.flat());
  const title = say(side === "generated" ? "All maps on the picture" : "All maps on the reference");
  return {
    name,
    title: [title, say(ACROSS[name]), plan.fixed].join(" \u00b7 "),
    rows: plan.rows,
    columns: plan.columns,
    means: plan.means,
    cells,
    chosen: plan.chosen,
    common: state.thumbnailScale === "one for all" ? common : null,
    unlike: state.kind === "paper" && sizesOf(cells.flat()).size > 1,
    dim: areDim(cells.flat()),
    message: whyNothing(cells.flat(), common, scene),
    canvas: pictureOf(file, state, side).canvas,
  };
}

/**
 * From the lowest to the highest value of all maps; null where there are none.
 * @param {Cell[]} cells
 * @returns {Range | null}
 */
export function commonRange(cells) {
  let [low, high] = [Infinity, -Infinity];
  for (const { range } of cells) {
    if (!range) continue;
    low = Math.min(low, range.low);
    high = Math.max(high, range.high);
  }
  return low <= high ? { low, high } : null;
}

/** How many cells maps have. @param {Cell[]} cells */
const sizesOf = (cells) => new Set(cells.flatMap(({ map }) => (map ? [map.levels.length] : [])));

const DIM = 0.2; // of the colours

/** Whether half of the maps reach no more than the first colours of one scale. @param {Cell[]} cells */
function areDim(cells) {
  const highest = cells.flatMap(({ range }) => (range ? [range.high] : [])).sort((a, b) => a - b);
  return highest.length > 1 && highest[highest.length >> 1] < DIM * highest[highest.length - 1];
}

/**
 * @param {Cell[]} cells
 * @param {Range | null} common
 * @param {Scene} scene
 */
function whyNothing(cells, common, { state, say }) {
  if (!common) return cells[0]?.missing ?? say("nothing was captured here");
  return isFlat(common) ? flatWords(common, fieldOf(state), say) : "";
}

/** @param {Scene["state"]} state */
const fieldOf = ({ kind, thumbnailSide: side }) => `${side === "generated" ? "r2g" : "g2r"}_${kind}`;

/**
 * A cell in words: which it is, and what its map comes to.
 * @param {Scene} scene
 * @param {Thumbnails} grid
 * @param {[row: number, column: number]} at
 */
export function cellWords({ state, say }, { rows, columns, cells, common }, [row, column]) {
  const cell = cells[row][column];
  const name = `${rows[row].name} \u00b7 ${columns[column].name}`;
  if (!cell.map || !cell.range) return `${name}: ${cell.missing}`;
  if (!common && isFlat(cell.range)) return `${name}: ${flatWords(cell.range, fieldOf(state), say)}`;
  const { mean, highest } = summaryOf(cell.map);
  const parts = [say("mean {0}", small(mean)), say("maximum {0}", small(highest)), insideWords(cell, state, say)];
  return `${name}: ${parts.filter(Boolean).join(" \u00b7 ")}`;
}

/** @param {import("../maps.mjs").MapRow} map */
export function summaryOf(map) {
  const values = restore(map);
  return { mean: values.reduce((sum, value) => sum + value, 0) / values.length, highest: map.high };
}

/**
 * The file has of attention what of 'where' lies inside the mask, whatever is displayed.
 * @param {Cell} cell
 * @param {Scene["state"]} state
 * @param {Say} say
 */
function insideWords(cell, { kind }, say) {
  const inside = cell.inside();
  if (!Number.isFinite(inside)) return "";
  return say(kind === "share" ? "inside the mask {0} (of 'where')" : "inside the mask {0}", percent(inside));
}
