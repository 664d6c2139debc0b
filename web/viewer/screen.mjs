/** All that is on the screen, computed from a scene: no page is needed. What is drawn, saved and compared is this. */

import { measuresOf } from "./attention_mode.mjs";
import { otherSide, SIDES } from "./kinds.mjs";
import { modeOf } from "./mode.mjs";
import { maskOutline, pictureOf } from "./scene.mjs";
import { wiped } from "./predictions.mjs";
import { percent, small } from "./words.mjs";

/** @import { Box } from "./geometry.mjs" */
/** @import { Side } from "./kinds.mjs" */
/** @import { Axis, Measure } from "./maps.mjs" */
/** @import { Bars, NumberWords } from "./mode.mjs" */
/** @import { PaneMap } from "./pane_maps.mjs" */
/** @import { Wipe } from "./predictions.mjs" */
/** @import { Scene } from "./scene.mjs" */

/**
 * @typedef {object} Marks of a pane
 * @property {string} note what a person should know of its picture, where nothing else is said
 * @property {string} outline of the mask, an SVG path
 * @property {Box | null} requested the part that is asked about
 * @property {string} value under the pointer, in words
 * @property {Wipe} [wipe] two pictures in place of its own
 */

/** @typedef {PaneMap & Marks} PaneScreen */

/**
 * @typedef {object} Shows
 * @property {Record<Side, PaneScreen>} panes
 * @property {Record<Axis, Bars>} axes
 * @property {NumberWords[]} numbers what the selection comes to
 * @property {string} hint how to ask about a part; nothing where a part is asked about
 * @property {string[]} patches of the answer, the strongest first
 * @property {Measure[]} measures that say anything of this picture and reference
 * @property {Measure} measure that bars and tables show
 */

/** @typedef {Scene & Shows} Screen */

/** @type {readonly Axis[]} */
export const AXES = ["step", "frame", "layer", "head"];

/**
 * @param {Scene} scene
 * @returns {Screen}
 */
export function screenOf(scene) {
  const { file, state, question } = scene;
  const mode = modeOf(state);
  const measures = measuresOf(file, state);
  const measure = state.measure ?? measures[0] ?? "share";
  const panes = { generated: paneOf("generated", scene), reference: paneOf("reference", scene) };
  /** @param {Axis} axis */
  const bars = (axis) => mode.bars(axis, scene, measure);
  return {
    ...scene,
    panes,
    axes: { step: bars("step"), frame: bars("frame"), layer: bars("layer"), head: bars("head") },
    numbers: mode.numbers(scene),
    hint: state.ask ? "" : mode.hint(scene),
    patches: question ? panes[otherSide(question.side)].patches.map(patchWords) : [],
    measures,
    measure,
  };
}

/** @param {import("./pane_maps.mjs").Patch} patch */
const patchWords = ({ share, effect }) => (effect === undefined ? percent(share) : small(effect));

/**
 * @param {Side} side
 * @param {Scene} scene
 * @returns {PaneScreen}
 */
function paneOf(side, scene) {
  const { file, state, say, question, pointed } = scene;
  const mode = modeOf(state);
  const { canvas, note } = pictureOf(file, state, side);
  const isAnswer = question && question.side !== side;
  const pictures = side === "generated" && !isAnswer ? wiped(scene) : null;
  const map = pictures ?? (isAnswer ? mode.answer(question, scene, canvas) : mode.selected(side, scene, canvas));
  const value = pointed?.side === side && map.valueAt ? say("effect {0}", small(map.valueAt(pointed.place))) : "";
  const requested = question?.side === side ? mode.marked(question, scene) : null;
  return { ...map, note, outline: side === "generated" ? maskOutline(file, state.item) : "", requested, value };
}

/** The selection in one line. @param {Screen} screen */
export function describe({ state, axes }) {
  return modeOf(state)
    .axes.map((axis) => axes[axis].label)
    .filter(Boolean)
    .join(" \u00b7 ");
}

/** Those of both panes that have anything to show. @param {Scene} scene */
export function sidesOf({ file }) {
  return SIDES.filter((side) => side === "generated" || file.header.references.length > 0);
}
