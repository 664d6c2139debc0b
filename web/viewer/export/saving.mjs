/** What one takes away from a viewer: a report of the selection, a picture of the view, an animation of all steps. */

import { isEffect } from "../effects.mjs";
import { otherSide } from "../kinds.mjs";
import { referenceOf } from "../maps.mjs";
import { settled } from "../model.mjs";
import { modeOf } from "../mode.mjs";
import { overlayOf } from "../overlay.mjs";
import { describe, sidesOf } from "../screen.mjs";
import { WORDS } from "../controls/normalization.mjs";
import { colorsOf } from "../scene.mjs";
import { small } from "../words.mjs";
import { drawSheet, encode, save } from "./sheet.mjs";
import { animate } from "./webp.mjs";

/** @import { FileHeader, HeaderMadeBy } from "../header.d.ts" */
/** @import { Heat, Patch } from "../pane_maps.mjs" */
/** @import { Pane } from "../pane.mjs" */
/** @import { PaneScreen, Screen } from "../screen.mjs" */
/** @import { Viewer } from "../viewer.mjs" */

export const STEP_MS = 250; // of a step that is played, in the page and in an animation

/**
 * The selection and what it says, for notes and scripts.
 * @param {Screen} screen
 */
export function reportOf(screen) {
  const { file, state, panes } = screen;
  const { header } = file;
  return {
    picture: state.item,
    reference: { number: state.reference, name: referenceOf(header, state.reference).name },
    layer: state.layer === null ? "all" : header.layers[state.layer].name,
    head: state.head === null ? "all" : state.head,
    ...(file.header.video ? { frame: state.frame === null ? "all" : state.frame } : {}),
    normalization: state.kind,
    scope: header.items[state.item].scope,
    ...modeOf(state).report(screen),
    ranges: { generated: panes.generated.heat?.range ?? null, reference: panes.reference.heat?.range ?? null },
    asked: state.ask && { on: state.ask.side, box: state.ask.box },
    patches: state.ask ? panes[otherSide(state.ask.side)].patches.map(patchReport) : [],
    mechanism: header.mechanism,
    branch: header.branch,
  };
}

/** @param {Patch} patch */
const patchReport = ({ box, share, effect }) => (effect === undefined ? { box, share } : { box, effect });

/**
 * Draw the view as one picture.
 * @param {Viewer} viewer
 * @param {Screen} screen that its panes show
 */
function sheetOf(viewer, screen) {
  const { state } = screen;
  const panes = drawnIn(viewer, screen).map(
    ({ on, pane: { title, detail, message, outline, requested, heat, patches, wipe }, colors }) => ({
      picture: on.picture.hidden ? null : on.picture,
      heat: on.heat,
      overlay: overlayOf(state.style, state.opacity, heat !== null, !on.picture.hidden),
      wipe: wipe ? { ...wipeOn(on), at: wipe.at } : null,
      title,
      detail: message || detail,
      outline,
      boxes: requested ? [requested] : [],
      patches,
      legend: legendOf(screen, heat, colors),
    }),
  );
  return drawSheet(panes, [...footerOf(screen), ...(viewer.compared?.words ?? [])]);
}

/** Both pictures of a pane's wipe. @param {Pane} pane */
function wipeOn({ stage }) {
  /** @type {NodeListOf<HTMLImageElement>} */
  const [left, right] = stage.querySelectorAll(".wipe img");
  return { left, right };
}

/**
 * The panes that are seen, with what is drawn on each.
 * @param {Viewer} viewer
 * @param {Screen} screen
 * @returns {{on: Pane, pane: PaneScreen, colors?: ArrayLike<number>}[]}
 */
function drawnIn({ panes, comparison, compared }, screen) {
  if (compared) return comparison.drawn(compared);
  return sidesOf(screen).map((side) => ({ on: panes[side], pane: screen.panes[side] }));
}

/**
 * @param {Screen} screen
 * @param {Heat | null} heat
 * @param {ArrayLike<number>} [colors] where they are not those that a person chose
 */
function legendOf({ file, state }, heat, colors = colorsOf(file, state.colormap)) {
  if (!heat || state.style === "off") return null;
  return { colors, low: small(heat.range.low), high: small(heat.range.high) };
}

/** What the maps are of, what they come to, and which run made them. @param {Screen} screen */
export function footerOf(screen) {
  const { file, state, say, patches } = screen;
  const { name } = referenceOf(file.header, state.reference);
  const names = isEffect(state) && state.owner !== null ? [] : [name];
  const numbers = screen.numbers.map(({ words }) => words);
  const strongest = patches.map((words, number) => `${number + 1}: ${words}`);
  return [
    [say(WORDS[state.kind]), describe(screen)].join(" \u00b7 "),
    [...names, ...numbers].join(" \u00b7 "),
    ...(strongest.length ? [[say("strongest patches"), ...strongest].join(" \u00b7 ")] : []),
    `I2AM \u00b7 ${runWords(file.header)}`,
  ];
}

/** How the reference was given, and the settings of the run. @param {FileHeader} header */
export function runWords({ mechanism, branch, made_by: madeBy }) {
  return [mechanism, branch, ...(madeBy ? settingsOf(madeBy) : [])].filter(Boolean).join(" \u00b7 ");
}

/** The settings of samplers, by which a run is made again. @param {HeaderMadeBy} madeBy */
function settingsOf({ nodes }) {
  const others = Object.values(nodes).filter(({ class_type: type }) => !type.startsWith("I2AM_")); // ours select steps, too
  const inputs = others.flatMap((node) => Object.entries(node.inputs));
  const settings = inputs.filter(([name, value]) => SETTINGS.includes(name) && !Array.isArray(value));
  return [...new Set(settings.map(([name, value]) => `${name} ${value}`))];
}

const SETTINGS = ["seed", "noise_seed", "steps", "cfg", "guidance", "sampler_name", "scheduler", "denoise"];

/** @param {Viewer} viewer */
export async function savePicture(viewer) {
  const screen = viewer.drawScene(viewer.scene);
  await viewer.ready();
  save(await encode(sheetOf(viewer, screen), "image/png"), "i2am.png");
}

/**
 * All steps of this selection, one after the other, as an animated WebP.
 * @param {Viewer} viewer
 */
export async function saveAnimation(viewer) {
  viewer.play(false);
  const { opened: file, state } = viewer;
  const frames = [];
  let [width, height] = [0, 0];
  try {
    await viewer.ready();
    for (const step of modeOf(state).choices(file.header, state, "step").keys()) {
      const at = settled(file, { ...state, step, ask: null }, "step");
      const canvas = sheetOf(
        viewer,
        viewer.drawScene({ file, state: at, say: viewer.say, question: null, pointed: null }),
      );
      [width, height] = [canvas.width, canvas.height];
      frames.push(new Uint8Array(await (await encode(canvas, "image/webp")).arrayBuffer()));
    }
  } finally {
    viewer.draw();
  }
  save(new Blob([animate(frames, width, height, STEP_MS)], { type: "image/webp" }), "i2am_steps.webp");
}
