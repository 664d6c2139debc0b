/** What one takes away from a viewer: a report of the selection, a picture of the view, an animation of all steps. */

import { certaintyOf, choicesOf, effectMeasure, effectOf, effectsOf, isEffect, ownerOf } from "./effects.mjs";
import { measureOf, referenceOf, stepsOf } from "./maps.mjs";
import { drawSheet, encode, save } from "./sheet.mjs";
import { otherSide, SIDES } from "./state.mjs";
import { animate } from "./webp.mjs";

/** @import { Patch } from "./pane_maps.mjs" */
/** @import { Viewer } from "./viewer.mjs" */

export const STEP_MS = 250; // of a step that is played, in the page and in an animation

/**
 * The selection and what it says, for notes and scripts.
 * @param {Viewer} viewer
 */
export function reportOf(viewer) {
  const { state, opened: file } = viewer;
  const { header } = file;
  const maps = viewer.paneMaps();
  return {
    picture: state.item,
    reference: { number: state.reference, name: referenceOf(header, state.reference).name },
    steps: isEffect(state) ? measuredSteps(viewer) : stepsOf(header, state),
    layer: state.layer === null ? "all" : header.layers[state.layer].name,
    head: state.head === null ? "all" : state.head,
    normalization: state.normalization,
    scope: header.items[state.item].scope,
    imacs: viewer.score(),
    ...(isEffect(state)
      ? { effect: effectReport(viewer) }
      : Object.fromEntries(header.measures.map((name) => [name, measureOf(file, state, name)]))),
    ranges: { generated: maps.generated.heat?.range ?? null, reference: maps.reference.heat?.range ?? null },
    asked: state.ask && { on: state.ask.side, box: state.ask.box },
    patches: state.ask ? maps[otherSide(state.ask.side)].patches.map(patchReport) : [],
    mechanism: header.mechanism,
    branch: header.branch,
  };
}

/** @param {Patch} patch */
const patchReport = ({ box, share, effect }) => (effect === undefined ? { box, share } : { box, effect });

/**
 * The steps that an effect was measured in, of those that are selected.
 * @param {Viewer} viewer
 */
function measuredSteps({ state, opened }) {
  const steps = effectOf(opened.header, state)?.steps ?? [];
  return state.step === null ? steps : [steps[state.step]];
}

/** @param {Viewer} viewer */
function effectReport({ state, opened }) {
  const { measures } = effectsOf(opened.header);
  return {
    of: ownerOf(state),
    route: state.route,
    regions: state.cut,
    certainty: certaintyOf(opened.header, state),
    ...Object.fromEntries(measures.map((name) => [name, effectMeasure(opened, state, name)])),
  };
}

/**
 * Draw the view as one picture.
 * @param {Viewer} viewer
 */
function sheetOf(viewer) {
  const { state, opened: file } = viewer;
  const visible = SIDES.filter((side) => !viewer.panes[side].root.hidden);
  const panes = visible.map((side) => {
    const pane = viewer.panes[side];
    return {
      picture: pane.picture.hidden ? null : pane.picture,
      heat: pane.heat,
      visible: !pane.heat.hidden,
      lights: pane.heat.classList.contains("lights"),
      opacity: state.opacity,
      title: pane.title.textContent,
      detail: pane.detail.textContent,
      outline: viewer.pictures.outlines[side],
      boxes: state.ask?.side === side ? [viewer.marked(state.ask)] : [],
    };
  });
  const { name } = referenceOf(file.header, state.reference);
  const names = isEffect(state) && state.owner !== null ? [] : [name];
  return drawSheet(panes, [viewer.controls.describe(), [...names, viewer.controls.scores()].join(" \u00b7 ")]);
}

/** @param {Viewer} viewer */
export async function savePicture(viewer) {
  viewer.drawNow();
  await viewer.ready();
  save(await encode(sheetOf(viewer), "image/png"), "i2am.png");
}

/**
 * All steps of this selection, one after the other, as an animated WebP.
 * @param {Viewer} viewer
 */
export async function saveAnimation(viewer) {
  viewer.play(false);
  const before = viewer.state;
  const frames = [];
  let [width, height] = [0, 0];
  try {
    await viewer.ready();
    for (let step = 0; step < choicesOf(viewer.opened.header, before, "step").length; step++) {
      viewer.state = viewer.settled({ ...before, step, ask: null }, "step");
      viewer.drawNow();
      const canvas = sheetOf(viewer);
      [width, height] = [canvas.width, canvas.height];
      frames.push(new Uint8Array(await (await encode(canvas, "image/webp")).arrayBuffer()));
    }
  } finally {
    viewer.state = before;
    viewer.draw();
  }
  save(new Blob([animate(frames, width, height, STEP_MS)], { type: "image/webp" }), "i2am_steps.webp");
}
