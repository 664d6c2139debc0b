/** Buttons with a sign of 16 x 16 px, drawn with lines. */

import { element, svgElement } from "./dom.mjs";

export const LINK = "M7 9.5 9.5 7M6.5 5 8 3.5a3 3 0 0 1 4.5 4.5L11 9.5M9.5 11 8 12.5A3 3 0 0 1 3.5 8L5 6.5";
export const WHOLE_PICTURE = "M3 3h10v10H3zM5.5 10.5l5-5M7.5 5.5h3v3";
export const PIN = "M5.5 2.5h5M6.5 2.5v5l-2 2.5h7l-2-2.5v-5M8 10v4";
export const FULL = "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10";
export const PLAY = "M5 3.5v9l7-4.5z";
export const PAUSE = "M5.5 3.5v9M10.5 3.5v9";

/**
 * @param {string} path an SVG path
 * @param {string} name for the tooltip, and for those who cannot see it
 * @param {() => void} onclick
 */
export function iconButton(path, name, onclick) {
  const sign = svgElement("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, svgElement("path", { d: path }));
  return element("button", { type: "button", class: "icon", title: name, "aria-label": name, onclick }, sign);
}

/**
 * Give a button another sign and name.
 * @param {HTMLButtonElement} button
 * @param {string} path
 * @param {string} name
 */
export function setIcon(button, path, name) {
  button.querySelector("path")?.setAttribute("d", path);
  button.title = name;
  button.setAttribute("aria-label", name);
}
