/** IMACS of heat in [0, 1] against a mask of the same size: `i2am_core/metrics.py`. */

export const PENALTY = 3;
export const THRESHOLD = 0.4;

/** At most 1; negative where the attention falls outside; null for an empty or a full mask, which has no score. */
export function imacs(heat, mask, penalty = PENALTY, threshold = THRESHOLD) {
  let inside = 0;
  let outside = 0;
  let area = 0;
  for (let i = 0; i < heat.length; i++) {
    const kept = heat[i] > threshold ? heat[i] : 0;
    if (mask[i]) {
      inside += kept;
      area++;
    } else outside += kept;
  }
  if (area === 0 || area === heat.length) return null;
  return inside / area - (penalty * outside) / (heat.length - area);
}
