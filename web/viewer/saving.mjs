/** What one takes away from a viewer: a report of the selection, a picture of the view, an animation of all steps. */

import { measureOf, stepsOf } from "./maps.mjs";
import { drawSheet, encode, save } from "./sheet.mjs";
import { otherSide, SIDES } from "./state.mjs";
import { animate } from "./webp.mjs";

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
    reference: { number: state.reference, name: header.references[state.reference].name },
    steps: stepsOf(header, state),
    layer: state.layer === null ? "all" : header.layers[state.layer].name,
    head: state.head === null ? "all" : state.head,
    normalization: state.normalization,
    scope: header.items[state.item].scope,
    imacs: viewer.score(),
    ...Object.fromEntries(header.measures.map((name) => [name, measureOf(file, state, name)])),
    ranges: { generated: maps.generated.heat?.range ?? null, reference: maps.reference.heat?.range ?? null },
    asked: state.ask && { on: state.ask.side, box: state.ask.box },
    patches: state.ask ? maps[otherSide(state.ask.side)].patches.map(({ box, share }) => ({ box, share })) : [],
    mechanism: header.mechanism,
    branch: header.branch,
  };
}

/**
 * Draw the view as one picture.
 * @param {Viewer} viewer
 */
function sheetOf(viewer) {
  const { state, opened: file } = viewer;
  const panes = SIDES.map((side) => {
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
      boxes: state.ask?.side === side ? [state.ask.box] : [],
    };
  });
  const { name } = file.header.references[state.reference];
  return drawSheet(panes, [viewer.controls.describe(), `${name} \u00b7 ${viewer.controls.scores()}`]);
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
    for (let step = 0; step < viewer.opened.header.steps.length; step++) {
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
