/** IMACS of a map, at the size of its mask: `i2am_core/reading/metrics.py`. */

import { isFlat, strength } from "./heat.mjs";

/** @import { Range } from "./heat.mjs" */

export const PENALTY = 3;
export const THRESHOLD = 0.4;

/**
 * At most 1; negative where the attention falls outside; null for an empty or a full mask, and for a map that is flat
 * but for rounding: these have no score.
 * @param {ArrayLike<number>} values
 * @param {Range} range
 * @param {ArrayLike<number>} mask 0 and 1
 */
export function imacs(values, range, mask, penalty = PENALTY, threshold = THRESHOLD) {
  const { low, scale } = strength(range);
  const sums = [0, 0]; // outside, inside
  let area = 0;
  for (let i = 0; i < values.length; i++) {
    const part = Math.min(1, (values[i] - low) * scale);
    if (part > threshold) sums[mask[i]] += part;
    area += mask[i];
  }
  if (area === 0 || area === values.length || isFlat(range)) return null;
  return sums[1] / area - (penalty * sums[0]) / (values.length - area);
}
