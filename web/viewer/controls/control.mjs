/** What a control is. Each has a file of its own here; `listed.mjs` says where it stands. */

/** @import { Screen } from "../screen.mjs" */
/** @import { Viewer } from "../viewer.mjs" */

/**
 * @typedef {object} Made a control on the page
 * @property {HTMLElement} root
 * @property {(screen: Screen) => void} show makes it show what is on the screen
 */

/**
 * @typedef {object} Shape what is on the page of a control
 * @property {string} label its name, for people and for those who cannot see it
 * @property {string} [help] what it is good for, in a sentence
 * @property {(viewer: Viewer) => Made} make
 */

/**
 * A part of the state, kept in workflows under its key (so that stays).
 * @template Value
 * @typedef {object} Kept
 * @property {Value} start
 * @property {(saved: unknown) => Value} read what a workflow holds, or the start if that is none of its values
 */

/**
 * @template Value
 * @typedef {Shape & Kept<Value>} Control
 */

/**
 * @template {string | null} Value
 * @param {Value} start
 * @param {readonly Value[]} allowed
 * @returns {Kept<Value>}
 */
export function oneOf(start, allowed) {
  return { start, read: (saved) => allowed.find((one) => one === saved) ?? start };
}

/**
 * @template {number | null} Value
 * @param {Value} start
 * @returns {Kept<number | Value>}
 */
export function integer(start) {
  return { start, read: (saved) => (typeof saved === "number" && Number.isInteger(saved) ? saved : start) };
}

/**
 * @template Value
 * @param {Value} start
 * @param {(saved: unknown) => saved is Value} fits
 * @returns {Kept<Value>}
 */
export function thatFits(start, fits) {
  return { start, read: (saved) => (fits(saved) ? plain(saved) : start) };
}

/** @param {unknown} value @returns {value is boolean} */
export const isFlag = (value) => typeof value === "boolean";

/** @param {unknown} value @returns {value is number} */
export const isPart = (value) => typeof value === "number" && value >= 0 && value <= 1;

/**
 * A copy of what may be a proxy of Vue's, which structuredClone refuses.
 * @template Value
 * @param {Value} value
 * @returns {Value}
 */
function plain(value) {
  return JSON.parse(JSON.stringify(value));
}
