/** What is looked at, all that a screen is computed from; and where its pictures are in the file. */

import { outlineOf } from "./outline.mjs";
import { tensorOf } from "./file.mjs";

/** @import { ViewFile } from "./file.mjs" */
/** @import { Place } from "./geometry.mjs" */
/** @import { HeaderPicture } from "./header.d.ts" */
/** @import { Question, Side } from "./kinds.mjs" */
/** @import { Selection } from "./maps.mjs" */
/** @import { State } from "./state.mjs" */
/** @import { Say } from "./text.mjs" */

/**
 * @typedef {object} Scene
 * @property {ViewFile} file
 * @property {State} state
 * @property {Say} say in whose words
 * @property {Question | null} question that is answered: of the place under the pointer, or of the part that was marked
 * @property {{side: Side, place: Place} | null} pointed where the pointer reads a value
 */

/** @type {HeaderPicture} where there is no reference */
const NO_PICTURE = { name: null, canvas: [1, 1], note: "" };

/**
 * The picture under a pane's map.
 * @param {ViewFile} file
 * @param {Pick<Selection, "item" | "reference">} selection
 * @param {Side} side
 */
export function pictureOf({ header: { pictures } }, { item, reference }, side) {
  return side === "generated" ? pictures.generated[item] : (pictures.reference[reference]?.[item] ?? NO_PICTURE);
}

/**
 * The mask of a picture, `[height, width]` of 0 and 1 at the size of its heat; null where there is none.
 * @param {ViewFile} file
 * @param {number} item
 * @returns {ArrayLike<number> | null}
 */
export function maskOf(file, item) {
  return file.tensors.get(`mask/${item}`)?.data ?? null;
}

/**
 * The part of the picture that a mask covers; null without a mask.
 * @param {ArrayLike<number> | null} mask
 */
export function areaOf(mask) {
  return mask && Array.from(mask).reduce((sum, part) => sum + part, 0) / mask.length;
}

/** @type {WeakMap<ViewFile, Map<number, string>>} */
const outlines = new WeakMap();

/**
 * The outline of a picture's mask as an SVG path; an empty one where there is no mask.
 * @param {ViewFile} file
 * @param {number} item
 */
export function maskOutline(file, item) {
  const byItem = outlines.get(file) ?? new Map();
  outlines.set(file, byItem);
  const mask = file.tensors.get(`mask/${item}`);
  if (!byItem.has(item)) byItem.set(item, mask ? outlineOf(mask.data, mask.shape[0], mask.shape[1]) : "");
  return byItem.get(item) ?? "";
}

/**
 * The 256 colours of a colormap, RGB.
 * @param {ViewFile} file
 * @param {string} name the first is used for one that the file does not have
 */
export function colorsOf(file, name) {
  const number = Math.max(0, file.header.colormaps.indexOf(name));
  return tensorOf(file, "colormaps").data.subarray(768 * number, 768 * (number + 1));
}
