/**
 * One picture with its heat, the outline of its mask, and what is asked about. Pictures, heat and marks share one stage,
 * which is moved and enlarged as a whole. Pixels of the heat's canvas are the colours themselves; the paper's
 * overlay, (1 - 0.6 opacity) picture + opacity colours, is left to the browser's compositor.
 */

import { contextOf, element, svgElement } from "./dom.mjs";
import { paint, paintContours, paletteOf } from "./heat.mjs";
import { colorsOf } from "./scene.mjs";
import { small } from "./words.mjs";
import { boxOf, fit, pan, placeOf, transformOf, WHOLE, zoomAt } from "./geometry.mjs";

/** @import { Box, Grid, Place, View } from "./geometry.mjs" */
/** @import { Side } from "./kinds.mjs" */
/** @import { Scene } from "./scene.mjs" */
/** @import { PaneScreen } from "./screen.mjs" */
/** @import { State } from "./state.mjs" */

const CLICK = 4; // px that a pointer may move while it clicks
const WHEEL = 1.0015; // enlargement for each px of a wheel

/**
 * What a person does in a pane.
 * @typedef {object} PaneEvents
 * @property {(box: Box) => void} ask a point was clicked, or a box drawn
 * @property {(place: Place | null) => void} hover
 * @property {(view: View) => void} view it was moved or enlarged
 */

export class Pane {
  /**
   * @param {Side} side
   * @param {PaneEvents} on
   */
  constructor(side, on) {
    this.side = side;
    this.on = on;
    this.view = WHOLE;
    /** @type {[width: number, height: number]} */
    this.size = [1, 1];
    /** @type {[width: number, height: number]} kept: to ask for it while drawing makes the browser lay out the page */
    this.boxSize = [0, 0];
    this.pixels = new ImageData(1, 1);
    /** @type {SVGElement | null} */
    this.rubber = null;
    this.title = element("strong");
    this.detail = element("span", { class: "detail" });
    this.low = element("span");
    this.strip = element("canvas", { width: 256, height: 1 });
    this.high = element("span");
    this.legend = element("div", { class: "legend" }, this.low, this.strip, this.high);
    this.picture = element("img", { alt: "", draggable: "false" });
    this.heat = element("canvas", { class: "heat" });
    const overAll = { viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" };
    this.marks = svgElement("svg", { class: "marks", ...overAll });
    this.labels = element("div", { class: "labels", "aria-hidden": "true" });
    this.stage = element("div", { class: "stage" }, this.picture, this.heat, this.marks, this.labels);
    this.message = element("p", { class: "message", hidden: true });
    this.value = element("span", { class: "value", hidden: true });
    this.box = element("div", { class: "box", role: "img" }, this.stage, this.message, this.value);
    const caption = element("figcaption", {}, this.title, this.detail);
    this.root = element("figure", { class: `pane ${side}` }, caption, this.box, this.legend);
    this.listen();
  }

  /**
   * @param {string | null} url of the picture
   * @param {Grid} canvas size of the heat
   */
  show(url, [height, width]) {
    this.picture.hidden = !url;
    if (url) this.picture.src = url;
    else this.picture.removeAttribute("src");
    this.stage.classList.toggle("bare", !url);
    this.heat.width = width;
    this.heat.height = height;
    this.pixels = new ImageData(width, height);
    this.layout();
  }

  /** Fit the stage into the box; called when the box has another size. */
  layout() {
    const { clientWidth, clientHeight } = this.box;
    this.boxSize = [clientWidth, clientHeight];
    if (!clientWidth || !clientHeight) return;
    this.size = fit(this.heat.width, this.heat.height, clientWidth, clientHeight);
    this.stage.style.width = `${this.size[0]}px`;
    this.stage.style.height = `${this.size[1]}px`;
    this.move(this.view);
  }

  /** @param {View} view */
  move(view) {
    this.view = view;
    this.stage.style.transform = transformOf(view, this.size, ...this.boxSize);
    this.stage.style.setProperty("--zoom", String(view.zoom));
  }

  /**
   * Draw what is on the screen of this pane.
   * @param {Scene} scene
   * @param {PaneScreen} pane
   */
  render({ file, state }, { title, detail, message, note, heat, patches, outline, requested, value }) {
    const table = colorsOf(file, state.colormap);
    const draw = state.style === "contours" ? paintContours : paint;
    this.caption(title, detail, message ?? note);
    this.draw(
      heat && ((pixels) => draw(heat.values, heat.range, paletteOf(table), pixels, this.heat.width)),
      state.style,
      state.opacity,
    );
    this.explain(table, heat && state.style !== "off" ? [small(heat.range.low), small(heat.range.high)] : null);
    this.mark(outline, requested, patches);
    this.read(value);
    this.move(state.views[this.side]);
  }

  /**
   * Draw the heat with `fill`, which writes words of RGBA; with null there is none.
   * @param {((pixels: Uint32Array) => void) | null} fill
   * @param {State["style"]} style
   * @param {number} opacity
   */
  draw(fill, style, opacity) {
    const visible = fill !== null && style !== "off";
    const lights = visible && style === "heat" && !this.picture.hidden;
    this.heat.hidden = !visible;
    this.picture.style.opacity = String(lights ? 1 - 0.6 * opacity : 1);
    this.heat.style.opacity = String(lights ? opacity : 1);
    this.heat.classList.toggle("lights", lights);
    if (!visible) return;
    fill(new Uint32Array(this.pixels.data.buffer));
    contextOf(this.heat).putImageData(this.pixels, 0, 0);
  }

  /**
   * Colours of the legend, and what its ends stand for; without a range there is none.
   * @param {ArrayLike<number>} table
   * @param {[low: string, high: string] | null} range
   */
  explain(table, range) {
    this.legend.classList.toggle("empty", !range);
    if (!range) return;
    const strip = new ImageData(256, 1);
    for (let i = 0; i < 256; i++) strip.data.set([table[3 * i], table[3 * i + 1], table[3 * i + 2], 255], 4 * i);
    contextOf(this.strip).putImageData(strip, 0, 0);
    [this.low.textContent, this.high.textContent] = range;
  }

  /**
   * What is over the picture and its heat, in words.
   * @param {string} title
   * @param {string} detail
   * @param {string} message
   */
  caption(title, detail, message) {
    this.title.textContent = title;
    this.detail.textContent = detail;
    this.detail.title = detail;
    this.box.setAttribute("aria-label", `${title}. ${detail}`);
    this.message.textContent = message;
    this.message.hidden = !message;
  }

  /**
   * The value under the pointer, in words; without one there is none.
   * @param {string} words
   */
  read(words) {
    this.value.textContent = words;
    this.value.hidden = !words;
  }

  /**
   * @param {string} outline of the mask, an SVG path
   * @param {Box | null} requested the box that is asked about
   * @param {{box: Box, label: string}[]} patches
   */
  mark(outline, requested, patches) {
    this.marks.replaceChildren();
    if (outline) this.marks.append(svgElement("path", { class: "mask", d: outline }));
    for (const patch of patches) this.marks.append(rectangle("patch", patch.box));
    this.labels.replaceChildren();
    if (requested && requested[0] === requested[2]) this.label(requested, "point");
    else if (requested) this.marks.append(rectangle("asked halo", requested), rectangle("asked", requested));
    for (const { box, label } of patches) this.label(box, "number", label);
  }

  /**
   * Something at the corner of a box that stays its size when the picture is enlarged.
   * @param {Box} box
   * @param {string} name
   * @param {string} [words]
   */
  label([left, top], name, words = "") {
    this.labels.append(element("span", { class: name, style: `left:${100 * left}%;top:${100 * top}%` }, words));
  }

  listen() {
    this.listenToPress();
    this.box.addEventListener("dblclick", () => this.on.view(WHOLE));
    this.box.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        event.stopPropagation();
        this.on.view(zoomAt(this.view, this.placeAt(event), WHEEL ** -event.deltaY));
      },
      { passive: false },
    );
  }

  /** A press asks, draws a box to ask about, or moves the picture; without one, the pointer hovers. */
  listenToPress() {
    /** @type {{x: number, y: number, at: Place, view: View, pans: boolean} | null} */
    let start = null;
    this.box.addEventListener("pointerdown", (event) => {
      if (event.button > 1) return;
      event.stopPropagation(); // or the canvas behind would move
      const pans = event.button === 1 || event.altKey || event.shiftKey;
      start = { x: event.clientX, y: event.clientY, at: this.placeAt(event), view: this.view, pans };
      this.box.setPointerCapture(event.pointerId);
    });
    this.box.addEventListener("pointermove", (event) => {
      if (!start) return this.on.hover(this.placeAt(event));
      if (start.pans) {
        const { width, height } = this.stage.getBoundingClientRect();
        return this.on.view(pan(start.view, (event.clientX - start.x) / width, (event.clientY - start.y) / height));
      }
      return isFar(start, event) ? this.drag(boxOf(start.at, this.placeAt(event))) : undefined;
    });
    /** @param {PointerEvent} event */
    const end = (event) => {
      if (!start) return;
      if (!start.pans && event.type === "pointerup")
        this.on.ask(boxOf(start.at, isFar(start, event) ? this.placeAt(event) : start.at));
      start = null;
      this.drag(null);
    };
    this.box.addEventListener("pointerup", end);
    this.box.addEventListener("pointercancel", end);
    this.box.addEventListener("pointerleave", () => start || this.on.hover(null));
  }

  /**
   * Where in the picture a pointer is.
   * @param {MouseEvent} event
   */
  placeAt({ clientX, clientY }) {
    return placeOf(clientX, clientY, this.stage.getBoundingClientRect());
  }

  /**
   * Show the box that is being drawn.
   * @param {Box | null} box
   */
  drag(box) {
    this.rubber?.remove();
    this.rubber = box && rectangle("rubber", box);
    if (this.rubber) this.marks.append(this.rubber);
  }
}

/**
 * @param {{x: number, y: number}} start
 * @param {MouseEvent} event
 */
function isFar(start, event) {
  return Math.hypot(event.clientX - start.x, event.clientY - start.y) > CLICK;
}

/**
 * @param {string} name
 * @param {Box} box
 */
function rectangle(name, [left, top, right, bottom]) {
  const [width, height] = [Math.max(right - left, 1e-4), Math.max(bottom - top, 1e-4)];
  return svgElement("rect", { class: name, x: left, y: top, width, height });
}
