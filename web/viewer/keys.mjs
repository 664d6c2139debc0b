/** What keys do while the viewer has the focus. */

import { WHOLE_PICTURES } from "./controls/views.mjs";

/** @import { Viewer } from "./viewer.mjs" */

/** @type {Record<string, (viewer: Viewer) => void>} */
const KEYS = {
  ArrowLeft: (viewer) => viewer.moveAlong("step", -1),
  ArrowRight: (viewer) => viewer.moveAlong("step", 1),
  ArrowUp: (viewer) => viewer.moveAlong("layer", -1),
  ArrowDown: (viewer) => viewer.moveAlong("layer", 1),
  Home: (viewer) => viewer.moveToEnd("step", 0),
  End: (viewer) => viewer.moveToEnd("step", -1),
  "[": (viewer) => viewer.moveAlong("head", -1),
  "]": (viewer) => viewer.moveAlong("head", 1),
  " ": (viewer) => viewer.play(),
  0: (viewer) => viewer.change({ views: WHOLE_PICTURES }),
  f: (viewer) => viewer.fullScreen(),
  F: (viewer) => viewer.fullScreen(),
  Escape: (viewer) => viewer.change(viewer.state.thumbnails ? { thumbnails: null } : { ask: null }),
};

/**
 * Do what a key is for. Those that a field or a button has a use for itself are left to it.
 * @param {Viewer} viewer
 * @param {KeyboardEvent} event
 */
export function pressKey(viewer, event) {
  const act = KEYS[event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  const [target] = event.composedPath();
  if (isOf(target, "select, input, pre") && event.key !== "Escape") return;
  if (isOf(target, "button, summary") && event.key === " ") return;
  event.preventDefault();
  event.stopPropagation(); // or the canvas behind would act on it too
  act(viewer);
}

/**
 * @param {EventTarget | undefined} target
 * @param {string} selector
 */
function isOf(target, selector) {
  return target instanceof Element && target.matches(selector);
}
