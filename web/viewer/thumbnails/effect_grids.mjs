/** All maps of effects at once: of whatever was taken away, in each measured step and in each picture. */

import { selectedEffect } from "../effect_panes.mjs";
import { effectMap, effectMeasure, effectOf, effectsOf, ownerOf, ownersOf } from "../effects.mjs";
import { modeOf } from "../mode.mjs";
import { pictureLine, spanWords } from "./attention_grids.mjs";
import { emptyCell } from "./cell.mjs";

/** @import { Owner } from "../effects.mjs" */
/** @import { Side } from "../kinds.mjs" */
/** @import { Scene } from "../scene.mjs" */
/** @import { State } from "../state.mjs" */
/** @import { Cell, Grids, Line, Plan } from "./cell.mjs" */

/** @type {Grids} */
export const effectGrids = { "steps x references": ownersAndSteps, "pictures x references": picturesAndOwners };

/** @param {Scene} scene @param {Side} side @returns {Plan} */
function ownersAndSteps(scene, side) {
  const { file, state, say } = scene;
  const owners = ownersOf(file.header);
  const steps = [null, ...measuredSteps(scene)];
  return {
    rows: ownerLines(scene),
    columns: steps.map((step) => stepLine(scene, step)),
    means: [false, true],
    chosen: [owners.indexOf(ownerOf(state)), steps.indexOf(numberOf(scene))],
    fixed: pictureLine(state.item, say).name,
    cell: (row, column) => cellOf(scene, side, owners[row], state.item, steps[column]),
  };
}

/** @param {Scene} scene @param {Side} side @returns {Plan} */
function picturesAndOwners(scene, side) {
  const { file, state, say } = scene;
  const owners = ownersOf(file.header);
  const step = numberOf(scene);
  return {
    rows: file.header.items.map((_, item) => pictureLine(item, say)),
    columns: ownerLines(scene),
    means: [false, false],
    chosen: [state.item, owners.indexOf(ownerOf(state))],
    fixed: stepLine(scene, step).name,
    cell: (item, column) => cellOf(scene, side, owners[column], item, step),
  };
}

/**
 * The cell of what was taken away in a step of the run; null is the mean of all in which it was.
 * @param {Scene} scene
 * @param {Side} side
 * @param {Owner} owner
 * @param {number} item
 * @param {number | null} step
 * @returns {Cell}
 */
function cellOf(scene, side, owner, item, step) {
  const { file, say } = scene;
  /** @type {State} */
  const wanted = {
    ...scene.state,
    item,
    ...(typeof owner === "number" ? { reference: owner, owner: null } : { owner }),
  };
  const at = step === null ? null : (effectOf(file.header, wanted)?.steps ?? []).indexOf(step);
  const parts = { item, reference: wanted.reference, owner: wanted.owner, step: at };
  if (at === -1 || side === "reference") return emptyCell(parts, say("nothing was measured here"));
  const state = { ...wanted, step: at };
  const { message } = selectedEffect("generated", { ...scene, state }, [1, 1]);
  const map = effectMap(file, state);
  if (message || !map) return emptyCell(parts, message ?? "");
  const inside = () => effectMeasure(file, state, "inside");
  return { parts, map, range: { low: 0, high: map.high }, missing: "", inside };
}

/** The steps in which anything was measured by the selected route. @param {Scene} scene */
function measuredSteps({ file, state }) {
  const all = effectsOf(file.header).maps.filter(({ route }) => route === state.route);
  return [...new Set(all.flatMap(({ steps }) => steps))].sort((a, b) => a - b);
}

/** The step of the run that the state shows. @param {Scene} scene */
function numberOf({ file, state }) {
  return state.step === null ? null : (effectOf(file.header, state)?.steps[state.step] ?? null);
}

/** What was taken away, as the menu has it. @param {Scene} scene @returns {Line[]} */
function ownerLines(scene) {
  const words = new Map(
    modeOf(scene.state)
      .owners(scene)
      .map(([owner, name]) => [owner, name]),
  );
  return ownersOf(scene.file.header).map((owner) => {
    const name = words.get(owner) ?? String(owner);
    return { label: name, name };
  });
}

/** @param {Scene} scene @param {number | null} step @returns {Line} */
function stepLine({ file: { header }, say }, step) {
  if (step === null) return { label: say("mean"), name: say("mean of the measured steps") };
  const span = spanWords([step, step + 1]);
  return { label: span, name: say("step {0} of {1}", span, header.sigmas.length - 1) };
}
