/** What one looks at, as it is kept in the workflow. */

import { WHOLE } from "./geometry.mjs";

/** @import { Box, View } from "./geometry.mjs" */
/** @import { Measure, Selection } from "./maps.mjs" */

/** @import { HeaderEffect, HeaderRegions } from "./header.d.ts" */

/** @typedef {Exclude<HeaderEffect["owner"], number>} Part what can be taken away beside single references */
/** @typedef {HeaderEffect["route"]} Route */
/** @typedef {HeaderRegions["cut"]} Cut */

/** @type {Part[]} */
export const PARTS = ["all references", "text", "conditioning"];
/** @type {Route[]} */
export const ROUTES = ["everything", "directly"];
/** @type {Cut[]} */
export const CUTS = ["taken away", "only this left"];

/** @typedef {"generated" | "reference"} Side one of the two panes, and the picture in it */

/** @typedef {{side: Side, box: Box}} Question about a part of one of the pictures, answered on the other */

/**
 * @typedef {object} Looks how maps are drawn
 * @property {"paper" | "share" | "effect"} normalization what maps are of: attention, in two ways, or effects
 * @property {Part | null} owner whose effect: null is the selected reference
 * @property {Route} route of an effect
 * @property {Cut} cut how the effects of parts of a reference were measured
 * @property {"each map" | "over time"} scale
 * @property {"heat" | "contours" | "off"} style
 * @property {string} colormap
 * @property {number} opacity
 * @property {Measure | null} measure that bars and tables show; null is the first that says anything
 * @property {boolean} matrix whether the tables are open
 * @property {boolean} linked whether both panes move together
 * @property {Record<Side, View>} views
 * @property {Question | null} ask
 */

/** @typedef {Selection & Looks} State */

/** @type {State} */
export const START = {
  item: 0,
  reference: 0,
  layer: null,
  step: null,
  head: null,
  normalization: "paper",
  owner: null,
  route: "everything",
  cut: "taken away",
  scale: "each map",
  style: "heat",
  colormap: "jet",
  opacity: 0.5,
  measure: null,
  matrix: false,
  linked: false,
  views: { generated: WHOLE, reference: WHOLE },
  ask: null,
};

/** @type {readonly Side[]} */
export const SIDES = ["generated", "reference"];

/** @param {Side} side */
export function otherSide(side) {
  return side === "generated" ? "reference" : "generated";
}

/**
 * A whole state from what a workflow holds, which may be of another version or of no version at all.
 * @param {unknown} saved
 * @returns {State}
 */
export function stateFrom(saved) {
  const from = record(saved);
  return {
    item: integer(from.item, START.item),
    reference: integer(from.reference, START.reference),
    layer: integer(from.layer, START.layer),
    step: integer(from.step, START.step),
    head: integer(from.head, START.head),
    normalization: oneOf(from.normalization, ["paper", "share", "effect"], START.normalization),
    owner: oneOf(from.owner, [null, ...PARTS], START.owner),
    route: oneOf(from.route, ROUTES, START.route),
    cut: oneOf(from.cut, CUTS, START.cut),
    scale: oneOf(from.scale, ["each map", "over time"], START.scale),
    style: oneOf(from.style, ["heat", "contours", "off"], START.style),
    colormap: typeof from.colormap === "string" ? from.colormap : START.colormap,
    opacity: isPart(from.opacity) ? from.opacity : START.opacity,
    measure: oneOf(from.measure, [null, "share", "concentration", "inside"], START.measure),
    matrix: typeof from.matrix === "boolean" ? from.matrix : START.matrix,
    linked: typeof from.linked === "boolean" ? from.linked : START.linked,
    views: areViews(from.views) ? copy(from.views) : START.views,
    ask: isQuestion(from.ask) ? copy(from.ask) : START.ask,
  };
}

/**
 * @param {unknown} value
 * @returns {Record<string, unknown>}
 */
function record(value) {
  return typeof value === "object" && value !== null ? { ...value } : {};
}

/**
 * @template {number | null} Default
 * @param {unknown} value
 * @param {Default} otherwise
 * @returns {number | Default}
 */
function integer(value, otherwise) {
  return typeof value === "number" && Number.isInteger(value) ? value : otherwise;
}

/**
 * @template {string | null} Value
 * @param {unknown} value
 * @param {Value[]} allowed
 * @param {Value} otherwise
 */
function oneOf(value, allowed, otherwise) {
  return allowed.find((one) => one === value) ?? otherwise;
}

/**
 * Of what may be a proxy of Vue's, which structuredClone refuses.
 * @template Value
 * @param {Value} value
 * @returns {Value}
 */
function copy(value) {
  return JSON.parse(JSON.stringify(value));
}

/** @param {unknown} value @returns {value is Record<Side, View>} */
function areViews(value) {
  const { generated, reference } = record(value);
  return isView(generated) && isView(reference);
}

/** @param {unknown} value @returns {value is View} */
function isView(value) {
  const { zoom, x, y } = record(value);
  return [zoom, x, y].every(Number.isFinite) && Number(zoom) >= 1;
}

/** @param {unknown} value @returns {value is Question} */
function isQuestion(value) {
  const { side, box } = record(value);
  return SIDES.some((one) => one === side) && Array.isArray(box) && box.length === 4 && box.every(isPart);
}

/** @param {unknown} value @returns {value is number} */
function isPart(value) {
  return typeof value === "number" && value >= 0 && value <= 1;
}
