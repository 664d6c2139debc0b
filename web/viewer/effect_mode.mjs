/** Maps of effects: the steps in which they were measured, how large they are, and whose. */

import { effectAnswer, markedPart, selectedEffect } from "./effect_panes.mjs";
import {
  certaintyOf,
  choicesOf,
  effectMeasure,
  effectOf,
  effectsOf,
  ownerOf,
  ownersOf,
  regionsOf,
  settleEffect,
} from "./effects.mjs";
import { PARTS } from "./kinds.mjs";
import { areaOf, maskOf } from "./scene.mjs";
import { noiseLeft, small } from "./words.mjs";

/** @import { Option } from "./dom.mjs" */
/** @import { EffectMeasure } from "./effects.mjs" */
/** @import { HeaderReference } from "./header.d.ts" */
/** @import { Part } from "./kinds.mjs" */
/** @import { Axis } from "./maps.mjs" */
/** @import { Bars, Mode } from "./mode.mjs" */
/** @import { Scene } from "./scene.mjs" */

/** Why an effect cannot be scrubbed through layers and heads. */
const NO_AXIS = "An effect is of the whole model: nothing is taken away from one layer or head alone.";

/** @type {Mode} */
export const effect = {
  axes: ["step"],
  reads: true,
  choices: choicesOf,
  selected: selectedEffect,
  answer: effectAnswer,
  marked: markedPart,
  bars,
  owners,
  numbers,
  report,
  settle: (file, wanted) => settleEffect(file.header, wanted),
  answers: ({ file, state }) => Boolean(regionsOf(file.header, state)?.in_file),
  hint: ({ file, state, say }) =>
    regionsOf(file.header, state)
      ? say("Click the picture: which parts changed that spot? Click the reference: where did that part change it?")
      : "",
};

/**
 * @param {Axis} axis
 * @param {Scene} scene
 * @returns {Bars}
 */
function bars(axis, scene) {
  const { file, state, say } = scene;
  if (axis !== "step") {
    if (axis === "frame") return { heights: [], at: null, label: "", explained: "", value: () => "" };
    const label = say(axis === "layer" ? "effect: no layers" : "effect: no heads");
    return { heights: [], at: null, label, explained: say(NO_AXIS), value: () => "" };
  }
  const heights = choicesOf(file.header, state, axis).map((step) =>
    effectMeasure(file, { ...state, step }, "strength"),
  );
  /** @param {number} step */
  const value = (step) =>
    `${say("effect {0}", small(heights[step]))} \u00b7 ${stepLabel({ ...scene, state: { ...state, step } })}`;
  return { heights, at: state.step, label: stepLabel(scene), explained: "", value };
}

/** @param {Scene} scene */
function stepLabel({ file: { header }, state, say }) {
  const measured = effectOf(header, state)?.steps ?? [];
  if (state.step === null) return say("mean of the {0} measured steps", measured.length);
  const step = measured[state.step];
  const words = say("step {0} of {1}, number {2}", step + 1, header.sigmas.length - 1, step);
  return [words, noiseLeft(header.sigmas, step, say)].filter(Boolean).join(" \u00b7 ");
}

/** The references, and what else was taken away. @param {Scene} scene @returns {Option[]} */
function owners({ file: { header }, say }) {
  const measured = ownersOf(header);
  /** @type {Record<Part, string>} */
  const words = {
    "all references": say("all references"),
    text: say("the text"),
    conditioning: say("compared with 'without'"),
  };
  /** @type {(reference: HeaderReference, number: number) => Option} */
  const optionOf = ({ name }, number) =>
    measured.includes(number)
      ? [number, `${number}: ${name}`]
      : [number, say("{0}: {1} (not measured)", number, name), true];
  /** @type {Option[]} */
  const parts = PARTS.filter((part) => measured.includes(part)).map((part) => [part, words[part]]);
  return [...header.references.map(optionOf), ...parts];
}

/** How large the effect is, and where. @param {Scene} scene */
function numbers({ file, state, say }) {
  /** @param {EffectMeasure} name */
  const value = (name) => effectMeasure(file, state, name);
  const masked = file.header.items[state.item].scope === "inpainting mask";
  const words = masked
    ? say("effect {0} in the mask, {1} everywhere", small(value("strength")), small(value("everywhere")))
    : say("effect {0}", small(value("strength")));
  const parts = [
    { words, help: say("What the prediction changes by without it. Ten times the noise floor or more is measured.") },
    {
      words: say("noise floor {0}", small(value("floor"))),
      help: say("What the prediction changes by where nothing is taken away."),
    },
  ];
  const area = areaOf(maskOf(file, state.item));
  if (area !== null && certaintyOf(file.header, state) === "measured" && Number.isFinite(value("inside"))) {
    const [inside, of] = [value("inside"), area].map((one) => `${Math.round(100 * one)} %`);
    const help = say("By chance it would be {0}: the mask's part of the picture.", of);
    parts.push({ words: say("{0} in the mask ({1} of the area)", inside, of), help });
  }
  return parts;
}

/** @param {Scene} scene */
function report({ file, state }) {
  const measured = effectOf(file.header, state)?.steps ?? [];
  const { measures } = effectsOf(file.header);
  const about = {
    of: ownerOf(state),
    route: state.route,
    regions: state.cut,
    certainty: certaintyOf(file.header, state),
    ...Object.fromEntries(measures.map((name) => [name, effectMeasure(file, state, name)])),
  };
  return { steps: state.step === null ? measured : [measured[state.step]], imacs: null, effect: about };
}
