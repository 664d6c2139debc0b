/** How strongly picture and heat are drawn over one another. */

/** @import { Style } from "./controls/style.mjs" */

/**
 * @typedef {object} Overlay
 * @property {boolean} heat whether there is any heat
 * @property {number} pictureOpacity
 * @property {number} heatOpacity
 * @property {boolean} adds whether the heat is light over the picture, and not colours on it
 */

/**
 * @param {Style} style
 * @param {number} opacity
 * @param {boolean} hasHeat
 * @param {boolean} hasPicture without one, there is nothing to see through to
 * @returns {Overlay}
 */
export function overlayOf(style, opacity, hasHeat, hasPicture) {
  const overlay = { heat: hasHeat && style !== "off", pictureOpacity: 1, heatOpacity: 1, adds: false };
  if (!overlay.heat || !hasPicture || style === "contours") return overlay;
  if (style === "blend") return { ...overlay, heatOpacity: opacity };
  return { ...overlay, pictureOpacity: 1 - 0.6 * opacity, heatOpacity: opacity, adds: true }; // of the paper
}
