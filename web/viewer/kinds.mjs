/** The sides, the parts and the ways that there are, by the names that workflows and files keep. */

/** @import { Box } from "./geometry.mjs" */
/** @import { HeaderEffect, HeaderRegions } from "./header.d.ts" */

/** @typedef {Exclude<HeaderEffect["owner"], number>} Part what can be taken away beside single references */
/** @typedef {HeaderEffect["route"]} Route */
/** @typedef {HeaderRegions["cut"]} Cut */
/** @typedef {"generated" | "reference"} Side one of the two panes, and the picture in it */
/** @typedef {{side: Side, box: Box}} Question about a part of one of the pictures, answered on the other */

/** @type {Part[]} */
export const PARTS = ["all references", "text", "conditioning"];
/** @type {Route[]} */
export const ROUTES = ["everything", "directly"];
/** @type {Cut[]} */
export const CUTS = ["taken away", "only this left"];
/** @type {readonly Side[]} */
export const SIDES = ["generated", "reference"];

/** @param {Side} side */
export function otherSide(side) {
  return side === "generated" ? "reference" : "generated";
}
