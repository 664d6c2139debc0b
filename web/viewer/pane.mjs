/**
 * One picture with its heat, the outline of its mask, and what is asked about. Pictures, heat and marks share one stage,
 * which is moved and enlarged as a whole. Pixels of the heat's canvas are the colours themselves; how they are laid over
 * the picture is left to the browser's compositor: (1 - opacity) picture + opacity colours, or as the paper adds them,
 * (1 - 0.6 opacity) picture + opacity colours.
 */

import { contextOf, element, svgElement } from "./dom.mjs";
import { paint, paintContours, paletteOf } from "./heat.mjs";
import { overlayOf } from "./overlay.mjs";
import { colorsOf } from "./scene.mjs";
import { small } from "./words.mjs";
import { fit, placeOf, transformOf, WHOLE } from "./geometry.mjs";
import { Cursor } from "./cursor.mjs";
import { Gestures } from "./gestures.mjs";

/** @import { Box, Grid, Place, View } from "./geometry.mjs" */
/** @import { Side } from "./kinds.mjs" */
/** @import { Scene } from "./scene.mjs" */
/** @import { PaneScreen } from "./screen.mjs" */
/** @import { State } from "./state.mjs" */

/**
 * What a person does in a pane.
 * @typedef {object} PaneEvents
 * @property {(box: Box) => void} ask a point was clicked, or a box drawn
 * @property {(place: Place | null) => void} hover
 * @property {(view: View) => void} view it was moved or enlarged
 * @property {() => void} whole it was clicked twice, to be seen as a whole
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
    this.crosshair = element("div", { class: "crosshair", hidden: true });
    const over = [
      this.picture,
      this.heat,
      this.marks,
      this.labels,
      element("div", { class: "cursors" }, this.crosshair),
    ];
    this.stage = element("div", { class: "stage" }, ...over);
    this.message = element("p", { class: "message", hidden: true });
    this.value = element("span", { class: "value", hidden: true });
    this.box = element("div", { class: "box", role: "application", tabindex: 0 }, this.stage, this.message, this.value);
    const caption = element("figcaption", {}, this.title, this.detail);
    this.root = element("figure", { class: `pane ${side}` }, caption, this.box, this.legend);
    this.gestures = new Gestures(this);
    this.cursor = new Cursor(this);
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
   * @param {ArrayLike<number>} [colors] 256 of them, RGB, where they are not those that a person chose
   */
  render({ file, state }, { title, detail, message, note, heat, patches, outline, requested, value }, colors) {
    const table = colors ?? colorsOf(file, state.colormap);
    const draw = state.style === "contours" && !colors ? paintContours : paint;
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
    const overlay = overlayOf(style, opacity, fill !== null, !this.picture.hidden);
    this.heat.hidden = !overlay.heat;
    this.picture.style.opacity = String(overlay.pictureOpacity);
    this.heat.style.opacity = String(overlay.heatOpacity);
    this.heat.classList.toggle("adds", overlay.adds);
    if (!overlay.heat || !fill) return;
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
    for (const name of ["halo", "mask"])
      if (outline) this.marks.append(svgElement("path", { class: name, d: outline }));
    for (const { box } of patches) this.marks.append(rectangle("halo", box), rectangle("patch", box));
    this.labels.replaceChildren();
    if (requested && requested[0] === requested[2]) this.label(requested, "point");
    else if (requested) this.marks.append(rectangle("halo", requested), rectangle("asked", requested));
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

  /**
   * Show the cursor of the keyboard.
   * @param {Place | null} place
   */
  cursorAt(place) {
    this.crosshair.hidden = !place;
    if (place) [this.crosshair.style.left, this.crosshair.style.top] = place.map((part) => `${100 * part}%`);
  }

  /**
   * Where in the picture a pointer is.
   * @param {{clientX: number, clientY: number}} pointer
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
 * @param {string} name
 * @param {Box} box
 */
function rectangle(name, [left, top, right, bottom]) {
  const [width, height] = [Math.max(right - left, 1e-4), Math.max(bottom - top, 1e-4)];
  return svgElement("rect", { class: name, x: left, y: top, width, height });
}
