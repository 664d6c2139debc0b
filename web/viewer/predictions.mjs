/** The pictures with and without what was taken away, as the model predicted them in one step. */

import { isEffect, ownerOf } from "./effects.mjs";

/** @import { HeaderPrediction } from "./header.d.ts" */
/** @import { PaneMap } from "./pane_maps.mjs" */
/** @import { Scene } from "./scene.mjs" */

/** Two pictures by the names of their tensors, and where one ends and the other begins, from 0 to 1. @typedef {{left: string, right: string, at: number}} Wipe */

/**
 * The pair of what is selected; none where none was decoded, or maps are of attention.
 * @param {Pick<Scene, "file" | "state">} scene
 * @returns {HeaderPrediction | undefined}
 */
export function predictionOf({ file, state }) {
  const owner = ownerOf(state);
  if (!isEffect(state)) return undefined;
  return file.header.predictions?.find((one) => one.item === state.item && one.owner === owner);
}

/**
 * The pane of the generated picture while it is wiped; null while it is not.
 * @param {Scene} scene
 * @returns {(PaneMap & {wipe: Wipe}) | null}
 */
export function wiped(scene) {
  const { file, state, say } = scene;
  const pair = predictionOf(scene);
  if (!pair || state.wipe === null) return null;
  const step = say("step {0} of {1}, number {2}", pair.step + 1, file.header.sigmas.length - 1, pair.step);
  return {
    title: say("With it, and without it"),
    detail: say("what the model would paint, as seen from {0}", step),
    heat: null,
    patches: [],
    wipe: { left: pair.picture_with, right: pair.picture_without, at: state.wipe },
  };
}
