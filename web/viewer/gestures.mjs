/** What pointers do in a pane: they hover, click, draw a box, move the picture, and two of them pinch it. */

import { boxOf, pan, zoomAt } from "./geometry.mjs";

/** @import { Place, View } from "./geometry.mjs" */
/** @import { Pane } from "./pane.mjs" */

const CLICK = 4; // px that a pointer may move while it clicks
const WHEEL = 1.0015; // enlargement for each px of a wheel

/** @typedef {{x: number, y: number}} Point on the screen */
/** @typedef {Point & {at: Place, view: View, pans: boolean}} Press */
/** @typedef {{middle: Point, apart: number, at: Place, view: View, width: number, height: number}} Pinch */

export class Gestures {
  /** @param {Pane} pane */
  constructor(pane) {
    this.pane = pane;
    /** @type {Map<number, Point>} pointers that are down */
    this.down = new Map();
    /** @type {Press | null} */
    this.press = null;
    /** @type {Press | null} the one that has just ended, for the click that follows */
    this.last = null;
    /** @type {Pinch | null} */
    this.pinch = null;
    const { box } = pane;
    box.addEventListener("pointerdown", (event) => this.pressed(event));
    box.addEventListener("pointermove", (event) => this.moved(event));
    box.addEventListener("pointerup", (event) => this.released(event));
    box.addEventListener("pointercancel", (event) => this.released(event));
    box.addEventListener("pointerleave", () => this.press || pane.on.hover(null));
    box.addEventListener("click", (event) => this.clicked(event));
    box.addEventListener("dblclick", () => pane.on.whole());
    box.addEventListener("wheel", (event) => this.wheeled(event), { passive: false });
  }

  /** @param {PointerEvent} event */
  pressed(event) {
    if (event.button > 1) return;
    event.stopPropagation(); // or the canvas behind would move
    const { pane } = this;
    pane.box.focus({ preventScroll: true });
    pane.box.setPointerCapture(event.pointerId);
    const point = { x: event.clientX, y: event.clientY };
    this.down.set(event.pointerId, point);
    const pans = event.button === 1 || event.altKey || event.shiftKey;
    this.press = this.down.size === 1 ? { ...point, at: pane.placeAt(event), view: pane.view, pans } : null;
    this.pinch = this.down.size === 2 ? this.startPinch() : null;
    pane.drag(null);
  }

  /** @param {PointerEvent} event */
  moved(event) {
    const { pane, press } = this;
    if (!this.down.size) return pane.on.hover(pane.placeAt(event));
    this.down.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (this.pinch) return pane.on.view(this.pinched(this.pinch));
    if (press?.pans) {
      const { width, height } = pane.stage.getBoundingClientRect();
      return pane.on.view(pan(press.view, (event.clientX - press.x) / width, (event.clientY - press.y) / height));
    }
    return press && isFar(press, event) ? pane.drag(boxOf(press.at, pane.placeAt(event))) : undefined;
  }

  /** A box that was drawn is asked about. @param {PointerEvent} event */
  released(event) {
    const { pane, press } = this;
    this.down.delete(event.pointerId);
    this.pinch = null;
    if (press && !press.pans && event.type === "pointerup" && isFar(press, event))
      pane.on.ask(boxOf(press.at, pane.placeAt(event)));
    this.press = null;
    pane.drag(null);
    this.last = press;
  }

  /** A click asks; the second of a double click does not. @param {MouseEvent} event */
  clicked(event) {
    const { last, pane } = this;
    if (last && !last.pans && event.detail < 2 && !isFar(last, event)) pane.on.ask(boxOf(last.at, last.at));
  }

  /** @param {WheelEvent} event */
  wheeled(event) {
    event.preventDefault();
    event.stopPropagation();
    const { pane } = this;
    pane.on.view(zoomAt(pane.view, pane.placeAt(event), WHEEL ** -event.deltaY));
  }

  /** @returns {Pinch} */
  startPinch() {
    const { pane } = this;
    const { middle, apart } = this.span();
    const { width, height } = pane.stage.getBoundingClientRect();
    const at = pane.placeAt({ clientX: middle.x, clientY: middle.y });
    return { middle, apart, at, view: pane.view, width, height };
  }

  /** Two pointers: the place between them stays between them. @param {Pinch} start */
  pinched({ middle, apart, at, view, width, height }) {
    const now = this.span();
    const nearer = zoomAt(view, at, now.apart / Math.max(1, apart));
    const larger = nearer.zoom / view.zoom;
    return pan(nearer, (now.middle.x - middle.x) / width / larger, (now.middle.y - middle.y) / height / larger);
  }

  span() {
    const [one, other] = this.down.values();
    const middle = { x: (one.x + other.x) / 2, y: (one.y + other.y) / 2 };
    return { middle, apart: Math.hypot(one.x - other.x, one.y - other.y) };
  }
}

/**
 * @param {Point} start
 * @param {MouseEvent} event
 */
function isFar(start, event) {
  return Math.hypot(event.clientX - start.x, event.clientY - start.y) > CLICK;
}
