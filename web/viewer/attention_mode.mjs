/** Maps of attention: its axes, and what a selection comes to. */

import { along, choices, frameCount, headsOf, measureOf, referenceOf, settle, stepsOf, varies } from "./maps.mjs";
import { answerTo, heatOfField, PAIRS, selectedMap } from "./pane_maps.mjs";
import { areaOf, maskOf, pictureOf } from "./scene.mjs";
import { imacs } from "./score.mjs";
import { noiseLeft, percent, small } from "./words.mjs";

/** @import { ViewFile } from "./file.mjs" */
/** @import { Axis, Measure } from "./maps.mjs" */
/** @import { Mode } from "./mode.mjs" */
/** @import { Scene } from "./scene.mjs" */
/** @import { State } from "./state.mjs" */
/** @import { Say } from "./text.mjs" */

/** @type {Mode} */
export const attention = {
  axes: ["step", "frame", "layer", "head"],
  reads: false,
  choices,
  selected: selectedMap,
  answer: answerTo,
  marked: ({ box }) => box,
  bars,
  numbers,
  settle(file, wanted, changed) {
    const state = settle(file.header, wanted, changed);
    return {
      ...state,
      measure: state.measure && measuresOf(file, state).includes(state.measure) ? state.measure : null,
    };
  },
  answers: ({ file, state: { item, reference } }) => file.header.pairs[`${item}/${reference}`]?.length > 0,
  owners: ({ file, say }) =>
    file.header.references.map(({ name, layers }, number) =>
      layers.length ? [number, `${number}: ${name}`] : [number, say("{0}: {1} (never read)", number, name), true],
    ),
  hint: ({ file, state, say }) =>
    referenceOf(file.header, state.reference).pairs_captured.length
      ? say("Click a picture, or draw a box on it, to ask about that part.")
      : say(PAIRS),
  report: ({ file, state }) => ({
    steps: stepsOf(file.header, state),
    imacs: scoreOf(file, state),
    ...Object.fromEntries(file.header.measures.map((name) => [name, measureOf(file, state, name)])),
  }),
};

/**
 * The measures that say anything of a picture and reference.
 * @param {ViewFile} file
 * @param {State} state
 */
export function measuresOf(file, state) {
  return file.header.measures.filter((name) => varies(file, state, name));
}

/**
 * @param {Axis} axis
 * @param {Scene} scene
 * @param {Measure} measure
 */
function bars(axis, scene, measure) {
  const { file, state } = scene;
  const value = state[axis];
  const at = value === null ? null : choices(file.header, state, axis).indexOf(value);
  const heights = along(file, state, axis, measure);
  const choice = choices(file.header, state, axis);
  /** @param {number} number */
  const words = (number) => {
    const bar = { ...scene, state: settle(file.header, { ...state, [axis]: choice[number] }, axis) };
    return `${barWords(heights[number], measure, scene.say)} \u00b7 ${LABELS[axis](bar)}`;
  };
  return { heights, at, label: LABELS[axis](scene), explained: "", value: words };
}

/**
 * A measure in words, for bars and tables.
 * @param {number} value
 * @param {Measure} measure
 * @param {Say} say
 */
export function barWords(value, measure, say) {
  if (Number.isNaN(value)) return say("nothing was captured here");
  return `${say(MEASURES[measure])} ${measure === "concentration" ? small(value) : percent(value)}`;
}

/** @type {Record<Measure, string>} */
export const MEASURES = { share: "share of attention", concentration: "concentration", inside: "inside the mask" };

/** What is selected on an axis, in words. @type {Record<Axis, (scene: Scene) => string>} */
const LABELS = { step: stepLabel, frame: frameLabel, layer: layerLabel, head: headLabel };

/** @param {Scene} scene */
function stepLabel({ file: { header }, state, say }) {
  const count = header.sigmas.length - 1;
  if (state.step === null) return say("mean of {0} steps", count);
  const [first, end] = stepsOf(header, state);
  const words =
    end - first === 1
      ? say("step {0} of {1}, number {2}", end, count, first)
      : say("steps {0} to {1} of {2}, numbers {3} to {4}", first + 1, end, count, first, end - 1);
  return [words, noiseLeft(header.sigmas, first, say)].filter(Boolean).join(" \u00b7 ");
}

/** Nothing where the file has no single frames. @param {Scene} scene */
function frameLabel({ file: { header }, state, say }) {
  const count = frameCount(header, state.layer);
  if (!count) return "";
  if (state.frame === null) return say("mean of {0} frames", count);
  return say("frame {0} of {1}, number {2}", state.frame + 1, count, state.frame);
}

/** @param {Scene} scene */
function layerLabel({ file: { header }, state, say }) {
  if (state.layer === null) return say("mean of {0} layers", referenceOf(header, state.reference).layers.length);
  const { name, grid } = header.layers[state.layer];
  return `${name} \u00b7 ${grid[1]}\u00d7${grid[0]}`;
}

/** @param {Scene} scene */
function headLabel({ file: { header }, state, say }) {
  if (!header.heads) return say("heads are not resolved");
  if (state.head === null) return say("mean of heads");
  const { head, of, layers } = headsOf(header, state.reference, state.layer)[state.head];
  return layers === 1 ? say("head {0} of {1}", head, of) : say("head {0} of {1}, in {2} layers", head, of, layers);
}

/** @param {Scene} scene */
function numbers({ file, state, say }) {
  const score = scoreOf(file, state);
  const inside = measureOf(file, state, "inside");
  const parts = [];
  if (varies(file, state, "share")) {
    const words = say("share {0}", percent(measureOf(file, state, "share")));
    parts.push({
      words,
      help: say("The part of the attention that the reference gets. Compare it between steps or layers."),
    });
  }
  if (score !== null) {
    const help = say(
      "1 is the best. Below 0, too much lies outside the mask. It is of 'where', whatever is displayed.",
    );
    parts.push({ words: say("IMACS {0}", score.toFixed(2)), help });
  }
  if (Number.isFinite(inside)) {
    const area = areaOf(maskOf(file, state.item));
    const help = area === null ? "" : say("By chance it would be {0}: the mask's part of the picture.", percent(area));
    parts.push({ words: say("inside the mask {0}", percent(inside)), help });
  }
  const words = say("concentration {0}", small(measureOf(file, state, "concentration")));
  return [...parts, { words, help: say("0: the same everywhere. 1: all in one place.") }];
}

/**
 * IMACS of the selection against the mask; null where there is no mask, or nothing to score. It is that of the paper's
 * normalization, as in I2AM IMACS: how a map is displayed does not change what it scores.
 * @param {ViewFile} file
 * @param {State} state
 */
export function scoreOf(file, state) {
  const mask = maskOf(file, state.item);
  const heat = mask && heatOfField(file, state, "r2g_paper", pictureOf(file, state, "generated").canvas);
  return mask && heat ? imacs(heat.values, heat.own, mask) : null;
}
