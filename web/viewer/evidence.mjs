/** Where to look for what a finding says: the state of the viewer that shows it. */

import { effectsOf } from "./effects.mjs";
import { attentionIn } from "./shown_first.mjs";

/** @import { ViewFile } from "./file.mjs" */
/** @import { FileHeader, HeaderFinding } from "./header.d.ts" */
/** @import { State } from "./state.mjs" */

/**
 * What of the state shows the proof of a finding; null where that is the account of the run, in the notes.
 * @param {ViewFile} file
 * @param {HeaderFinding} finding
 * @returns {Partial<State> | null}
 */
export function evidenceOf(file, { item, evidence: { shows, owner, steps, reference } }) {
  if (shows === "run") return null;
  const { header } = file;
  /** @type {Partial<State>} */
  const whole = { item, reference, layer: null, head: null, frame: null, ask: null };
  if (shows === "attention")
    return {
      ...whole,
      normalization: attentionIn(file, { item, reference }),
      owner: null,
      step: groupOf(header, steps),
    };
  const part = typeof owner === "number" ? null : owner;
  const effect = effectsOf(header).maps.find((one) => one.owner === (part ?? reference));
  const step = effect && steps.length === 1 ? effect.steps.indexOf(steps[0]) : -1;
  return { ...whole, normalization: "effect", owner: part, route: effect?.route, step: step < 0 ? null : step };
}

/**
 * The group of steps that are these and no others; null where there is none, which is the mean of all.
 * @param {FileHeader} header
 * @param {number[]} steps
 */
function groupOf(header, steps) {
  const group = header.steps.findIndex(([first, end]) => steps[0] === first && steps.length === end - first);
  return group < 0 ? null : group;
}

/**
 * The findings of a picture, and those of the whole run, each once.
 * @param {FileHeader} header
 * @param {number} item
 */
export function findingsOf(header, item) {
  const of = (header.findings ?? []).filter((one) => one.of_run || one.item === item);
  return of.filter((one, number) => of.findIndex(({ sentence }) => sentence === one.sentence) === number);
}
