/** What maps can be of: attention, or effects. Each is a mode, which says all that differs between the two. */

import { attention } from "./attention_mode.mjs";
import { effect } from "./effect_mode.mjs";
import { isEffect } from "./effects.mjs";

/** @import { Option } from "./dom.mjs" */
/** @import { ViewFile } from "./file.mjs" */
/** @import { Box, Grid } from "./geometry.mjs" */
/** @import { Header } from "./header.d.ts" */
/** @import { Question, Side } from "./kinds.mjs" */
/** @import { Axis, Measure } from "./maps.mjs" */
/** @import { PaneMap } from "./pane_maps.mjs" */
/** @import { Scene } from "./scene.mjs" */
/** @import { State } from "./state.mjs" */

/**
 * @typedef {object} Bars of an axis, to scrub along
 * @property {number[]} heights one for each value of the axis; not a number where there is none
 * @property {number | null} at the bar that is selected; null is all
 * @property {string} label what is selected, in words
 * @property {string} explained why there is no such axis; empty where there is
 * @property {(number: number) => string} value of a bar, in words, and then which it is: the end may be cut off
 */

/** A number in words, and what a good one is. @typedef {{words: string, help: string}} NumberWords */

/**
 * @typedef {object} Mode
 * @property {readonly Axis[]} axes that it has
 * @property {boolean} reads whether the pointer reads values of its maps
 * @property {(file: ViewFile, wanted: State, changed?: string) => State} settle the nearest state that the file has
 * @property {(header: Header, state: State, axis: Axis) => number[]} choices what an axis offers
 * @property {(scene: Scene) => Option[]} owners whose map it may be
 * @property {(side: Side, scene: Scene, canvas: Grid) => PaneMap} selected
 * @property {(question: Question, scene: Scene, canvas: Grid) => PaneMap} answer on the other picture
 * @property {(scene: Scene) => boolean} answers whether a part that is pointed at has an answer
 * @property {(question: Question, scene: Scene) => Box} marked what of the picture a question is about
 * @property {(axis: Axis, scene: Scene, measure: Measure) => Bars} bars
 * @property {(scene: Scene) => NumberWords[]} numbers what the selection comes to
 * @property {(scene: Scene) => string} hint how to ask about a part
 * @property {(scene: Scene) => object} report the numbers, for scripts
 */

/**
 * @param {Pick<State, "kind">} state
 * @returns {Mode}
 */
export function modeOf(state) {
  return isEffect(state) ? effect : attention;
}
