/** Numbers as people read them: steps are counted from 1. */

/** @import { Say } from "./text.mjs" */

/**
 * Three digits that count, or "–" for what is not a number.
 * @param {number} value
 */
export function small(value) {
  if (!Number.isFinite(value)) return "\u2013";
  if (value === 0) return "0";
  return Math.abs(value) >= 0.01 && Math.abs(value) < 1000
    ? String(Number(value.toPrecision(3)))
    : value.toExponential(1);
}

/**
 * How much of the noise that a run began with is left at a step, in words.
 * @param {readonly number[]} sigmas
 * @param {number} step
 * @param {Say} say
 */
export function noiseLeft(sigmas, step, say) {
  return sigmas[0] > 0 ? say("noise left {0}", percent(sigmas[step] / sigmas[0])) : "";
}

/** @param {number} part of 1 */
export function percent(part) {
  if (!Number.isFinite(part)) return "\u2013";
  return `${Number((100 * part).toPrecision(part >= 0.1 ? 3 : 2))} %`;
}
