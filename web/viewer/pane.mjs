/**
 * One picture with its heat, the outline of its mask, and what was asked about. Pictures, heat and marks share one stage,
 * which is moved and enlarged as a whole. Pixels of the heat's canvas are the colours themselves; the paper's
 * overlay, (1 - 0.6 opacity) picture + opacity colours, is left to the browser's compositor.
 */

import { element } from "./dom.mjs";
import { boxOf, fit, pan, placeOf, transformOf, WHOLE, zoomAt } from "./geometry.mjs";

const CLICK = 4; // px that a pointer may move while it clicks
const WHEEL = 1.0015; // enlargement for each px of a wheel

export class Pane {
  /**
   * @param {string} side "generated" or "reference"
   * @param {object} on
   * @param {(box: number[]) => void} on.ask a point was clicked, or a box drawn
   * @param {(place: number[] | null) => void} on.hover
   * @param {(view: object) => void} on.view it was moved or enlarged
   */
  constructor(side, on) {
    this.side = side;
    this.on = on;
    this.view = WHOLE;
    this.size = [1, 1];
    this.boxSize = [0, 0]; // kept, since to ask for it while drawing would make the browser lay out the whole page
    this.title = element("strong");
    this.detail = element("span", { class: "detail" });
    this.legend = element(
      "div",
      { class: "legend" },
      element("span"),
      element("canvas", { width: 256, height: 1 }),
      element("span"),
    );
    this.picture = element("img", { alt: "", draggable: "false" });
    this.heat = element("canvas", { class: "heat" });
    this.marks = element("svg", {
      class: "marks",
      viewBox: "0 0 1 1",
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    });
    this.labels = element("div", { class: "labels", "aria-hidden": "true" });
    this.stage = element("div", { class: "stage" }, this.picture, this.heat, this.marks, this.labels);
    this.message = element("p", { class: "message", hidden: true });
    this.box = element("div", { class: "box", role: "img" }, this.stage, this.message);
    this.root = element(
      "figure",
      { class: `pane ${side}` },
      element("figcaption", {}, this.title, this.detail),
      this.box,
      this.legend,
    );
    this.listen();
  }

  /** @param {string | null} url @param {[number, number]} canvas height and width of the heat */
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

  move(view) {
    this.view = view;
    this.stage.style.transform = transformOf(view, this.size, ...this.boxSize);
    this.stage.style.setProperty("--zoom", view.zoom);
  }

  /** Draw with `fill(pixels)`, which writes words of RGBA, or nothing. @param {"heat" | "contours" | "off"} style */
  draw(fill, style, opacity) {
    this.heat.hidden = !fill || style === "off";
    const lights = !this.heat.hidden && style === "heat" && !this.picture.hidden;
    this.picture.style.opacity = lights ? 1 - 0.6 * opacity : 1;
    this.heat.style.opacity = lights ? opacity : 1;
    this.heat.classList.toggle("lights", lights);
    if (this.heat.hidden) return;
    fill(new Uint32Array(this.pixels.data.buffer));
    this.heat.getContext("2d").putImageData(this.pixels, 0, 0);
  }

  /** Colours of the legend, and what its ends stand for; without a range there is none. */
  explain(table, range) {
    this.legend.classList.toggle("empty", !range);
    if (!range) return;
    const strip = new ImageData(256, 1);
    for (let i = 0; i < 256; i++) strip.data.set([table[3 * i], table[3 * i + 1], table[3 * i + 2], 255], 4 * i);
    this.legend.children[1].getContext("2d").putImageData(strip, 0, 0);
    this.legend.children[0].textContent = range[0];
    this.legend.children[2].textContent = range[1];
  }

  say(words) {
    this.message.textContent = words;
    this.message.hidden = !words;
  }

  /** Outline of the mask, the box that was asked about, and numbered patches `{box, label}`. */
  mark(outline, asked, patches) {
    this.marks.replaceChildren();
    if (outline) this.marks.append(element("path", { class: "mask", d: outline }));
    for (const patch of patches) this.marks.append(rect("patch", patch.box));
    this.labels.replaceChildren();
    if (asked && asked[0] === asked[2]) this.label(asked, "point");
    else if (asked) this.marks.append(rect("asked halo", asked), rect("asked", asked));
    for (const { box, label } of patches) this.label(box, "number", label);
  }

  /** Something at the corner of a box that stays its size when the picture is enlarged. */
  label([left, top], name, words = "") {
    this.labels.append(element("span", { class: name, style: `left:${100 * left}%;top:${100 * top}%` }, words));
  }

  listen() {
    let start = null;
    const place = (event) => placeOf(event.clientX, event.clientY, this.stage.getBoundingClientRect());
    const far = (event) => Math.hypot(event.clientX - start.event.clientX, event.clientY - start.event.clientY) > CLICK;
    this.box.addEventListener("pointerdown", (event) => {
      if (event.button > 1) return;
      event.stopPropagation(); // or the canvas behind would move
      start = { event, at: place(event), view: this.view, pans: event.button === 1 || event.altKey || event.shiftKey };
      this.box.setPointerCapture(event.pointerId);
    });
    this.box.addEventListener("pointermove", (event) => {
      if (!start) return this.on.hover(place(event));
      if (start.pans) {
        const rect = this.stage.getBoundingClientRect();
        const [dx, dy] = [event.clientX - start.event.clientX, event.clientY - start.event.clientY];
        return this.on.view(pan(start.view, dx / rect.width, dy / rect.height));
      }
      if (far(event)) this.drag(boxOf(start.at, place(event)));
    });
    const end = (event) => {
      if (!start) return;
      if (!start.pans && event.type === "pointerup") this.on.ask(boxOf(start.at, far(event) ? place(event) : start.at));
      start = null;
      this.drag(null);
    };
    this.box.addEventListener("pointerup", end);
    this.box.addEventListener("pointercancel", end);
    this.box.addEventListener("pointerleave", () => start || this.on.hover(null));
    this.box.addEventListener("dblclick", () => this.on.view(WHOLE));
    this.box.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        event.stopPropagation();
        this.on.view(zoomAt(this.view, place(event), WHEEL ** -event.deltaY));
      },
      { passive: false },
    );
  }

  /** Show the box that is being drawn. */
  drag(box) {
    this.rubber?.remove();
    this.rubber = box && rect("rubber", box);
    if (box) this.marks.append(this.rubber);
  }
}

function rect(name, [left, top, right, bottom]) {
  return element("rect", {
    class: name,
    x: left,
    y: top,
    width: Math.max(right - left, 1e-4),
    height: Math.max(bottom - top, 1e-4),
  });
}

/** The outline of a mask `[height, width]` of 0 and 1, as an SVG path over a square of 1. */
export function outlineOf(mask, height, width) {
  const parts = [];
  const at = (x, y) => (x >= 0 && y >= 0 && x < width && y < height ? mask[y * width + x] : 0);
  for (let y = 0; y <= height; y++) {
    for (let x = 0, from = -1; x <= width; x++) {
      const edge = x < width && at(x, y) !== at(x, y - 1);
      if (edge && from < 0) from = x;
      if (!edge && from >= 0) {
        parts.push(`M${from / width} ${y / height}H${x / width}`);
        from = -1;
      }
    }
  }
  for (let x = 0; x <= width; x++) {
    for (let y = 0, from = -1; y <= height; y++) {
      const edge = y < height && at(x, y) !== at(x - 1, y);
      if (edge && from < 0) from = y;
      if (!edge && from >= 0) {
        parts.push(`M${x / width} ${from / height}V${y / height}`);
        from = -1;
      }
    }
  }
  return parts.join("");
}
