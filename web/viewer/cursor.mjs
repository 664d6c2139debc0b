/** A pane by the keyboard: arrows move a cursor over the picture, with Shift they span a box, and Enter asks about it. */

import { boxOf, zoomAt } from "./geometry.mjs";

/** @import { Place } from "./geometry.mjs" */
/** @import { Pane } from "./pane.mjs" */

const STRIDE = 1 / 24; // of what is in view
const NEARER = 1.25;

/** @type {Record<string, [dx: number, dy: number]>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Cursor {
  /** @param {Pane} pane */
  constructor(pane) {
    this.pane = pane;
    /** @type {Place | null} */
    this.at = null;
    /** @type {Place | null} the other corner of a box that is being spanned */
    this.anchor = null;
    pane.box.addEventListener("keydown", (event) => this.press(event));
    pane.box.addEventListener("blur", () => this.leave());
    pane.box.addEventListener("pointerdown", () => this.leave());
  }

  /** @param {KeyboardEvent} event */
  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = ARROWS[event.key];
    if (arrow) this.move(arrow, event.shiftKey);
    else if (event.key === "Enter" && this.at) this.ask(this.at);
    else if (event.key === "+" || event.key === "-") this.zoom(event.key === "+" ? NEARER : 1 / NEARER);
    else return;
    event.preventDefault();
    event.stopPropagation(); // or the viewer would move along its axes
  }

  /** @param {[dx: number, dy: number]} arrow @param {boolean} spans */
  move([dx, dy], spans) {
    const { zoom, x, y } = this.pane.view;
    const from = this.at ?? this.pane.gestures.last?.at ?? [x, y];
    this.anchor = spans ? (this.anchor ?? from) : null;
    /** @param {number} value */
    const inside = (value) => Math.max(0, Math.min(1, value));
    this.at = [inside(from[0] + (dx * STRIDE) / zoom), inside(from[1] + (dy * STRIDE) / zoom)];
    this.pane.drag(this.anchor && boxOf(this.anchor, this.at));
    this.pane.cursorAt(this.at);
    this.pane.on.hover(this.at);
  }

  /** @param {Place} at */
  ask(at) {
    this.pane.on.ask(boxOf(this.anchor ?? at, at));
    this.anchor = null;
    this.pane.drag(null);
  }

  /** @param {number} factor */
  zoom(factor) {
    const { view, on } = this.pane;
    on.view(zoomAt(view, this.at ?? [view.x, view.y], factor));
  }

  leave() {
    if (!this.at) return;
    [this.at, this.anchor] = [null, null];
    this.pane.drag(null);
    this.pane.cursorAt(null);
    this.pane.on.hover(null);
  }
}
