/** Which of its maps a file shows: what a person chose, or else what says most of the reference. */

import { effectsOf, hasAttention } from "./effects.mjs";
import { ALL, measureOf, settle } from "./maps.mjs";

/** @import { ViewFile } from "./file.mjs" */
/** @import { State } from "./state.mjs" */

/**
 * The kind of maps that a state shows in this file: effects only where some were measured, attention only
 * where any was captured.
 * @param {ViewFile} file
 * @param {State} state
 * @returns {State["kind"]}
 */
export function kindIn(file, state) {
  const measured = effectsOf(file.header).maps.length > 0;
  const { normalization: chosen } = state;
  if (chosen === "best" || (chosen === "effect" && !measured)) return best(file, state, measured);
  return measured && !hasAttention(file.header) ? "effect" : chosen;
}

/**
 * What it changed is what one wants to know; what was looked at tracks that better than where queries match, unless
 * nothing else could have been looked at.
 * @param {ViewFile} file
 * @param {State} state
 * @param {boolean} measured
 */
function best(file, state, measured) {
  return measured ? "effect" : attentionIn(file, settle(file.header, state));
}

/**
 * The kind of maps of attention that says most of a reference: where nothing else could have been looked at, its share is
 * 1 everywhere.
 * @param {ViewFile} file
 * @param {Pick<State, "item" | "reference">} selection
 */
export function attentionIn(file, { item, reference }) {
  const whole = { item, reference, layer: null, step: null, head: null };
  return measureOf(file, whole, "share") < ALL ? "share" : "paper";
}
