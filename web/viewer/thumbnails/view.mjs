/**
 * All thumbnails on the page: one canvas, and over it what is seen of a grid by those who see no canvas: the names of its
 * rows and columns, and the cell where the keyboard is.
 */

import { contextOf, element } from "../dom.mjs";
import { paletteOf } from "../heat.mjs";
import { colorsOf } from "../scene.mjs";
import { small } from "../words.mjs";
import { cellWords, thumbnailsOf } from "./grid.mjs";
import { cellAfter, cellAt, labelled, layoutOf } from "./layout.mjs";
import { paintAll } from "./painted.mjs";

/** @import { Screen } from "../screen.mjs" */
/** @import { Viewer } from "../viewer.mjs" */
/** @import { Made } from "../controls/control.mjs" */
/** @import { Thumbnails } from "./grid.mjs" */
/** @import { Layout } from "./layout.mjs" */

const [LEAST, MOST] = [16, 192]; // px of a thumbnail's sides
const FEWEST = 1.3; // of the size of text: the least side, so that labels of rows do not overlap
const WIDE = 0.6; // of the size of text, that a letter has
const LABEL = 24; // letters of a row's label, at most

let count = 0; // of views on the page: ids are of one of them

export class ThumbnailView {
  /**
   * @param {Viewer} viewer
   * @param {Made[]} menus of which grid, which side and which colours
   */
  constructor(viewer, menus) {
    this.viewer = viewer;
    this.menus = menus;
    /** @type {Thumbnails | null} */
    this.grid = null;
    /** @type {Layout | null} */
    this.layout = null;
    this.ratio = 1; // pixels of the canvas to those of the page
    /** @type {unknown[]} what is drawn */
    this.drawn = [];
    this.named = ""; // which rows and columns the page has the names of, and where
    /** @type {[row: number, column: number]} where the keyboard is */
    this.at = [0, 0];
    /** @type {HTMLElement | null} what it is opened by */
    this.opener = null;
    this.focuses = false; // when it is drawn: it was just opened
    this.id = `i2am-thumbnail-${count++}`;
    const { say } = viewer;
    this.title = element("strong");
    const close = element("button", { type: "button", onclick: () => this.close() }, say("Back to one map"));
    const bar = element("div", { class: "tools" }, ...menus.map(({ root }) => root), close);
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.lines = element("div", { class: "lines", role: "rowgroup" });
    this.cell = element("div", { class: "cell", role: "gridcell", id: this.id, "aria-selected": "true" });
    this.chosen = element("div", { class: "cursor", hidden: true });
    this.sheet = element("div", { class: "sheet", role: "presentation" }, this.canvas, this.chosen, this.lines);
    this.root = element("section", { class: "thumbnails", "aria-label": say("All maps at once") });
    this.area = element("div", { class: "area", role: "grid", tabindex: 0 }, this.sheet);
    this.message = element("p", { class: "note", hidden: true });
    this.words = element("p", { class: "reading" });
    this.low = element("span");
    this.strip = element("canvas", { width: 256, height: 1, "aria-hidden": "true" });
    this.high = element("span");
    this.legend = element("div", { class: "legend" }, this.low, this.strip, this.high);
    this.about = element("p", { class: "hint" });
    this.root.append(bar, this.title, this.area, this.message, this.words, this.legend, this.about);
    this.listen();
    this.observer = new ResizeObserver(() => this.viewer.draw());
    this.observer.observe(this.area);
  }

  listen() {
    this.area.addEventListener("keydown", (event) => this.press(event));
    this.canvas.addEventListener("pointermove", (event) => this.point(this.under(event)));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    this.canvas.addEventListener("click", (event) => {
      const at = this.under(event);
      if (at) this.enter(at);
    });
  }

  /** @param {KeyboardEvent} event */
  press(event) {
    if (!this.grid || event.ctrlKey || event.metaKey || event.altKey) return;
    const { rows, columns } = this.grid;
    const next = cellAfter(event.key, this.at, [rows.length, columns.length]);
    if (next) this.moveTo(next);
    else if (event.key === "Enter" || event.key === " ") this.enter(this.at);
    else return;
    event.preventDefault();
    event.stopPropagation(); // or the viewer would move along its axes
  }

  /** Show the map of a cell large. @param {[row: number, column: number]} at */
  enter(at) {
    const { viewer, grid } = this;
    const cell = grid?.cells[at[0]]?.[at[1]];
    if (!cell?.map) return this.point(at);
    viewer.change({ ...cell.parts, ask: null, wipe: null, thumbnails: null });
  }

  close() {
    this.viewer.change({ thumbnails: null });
  }

  /** @param {MouseEvent} event */
  under({ offsetX, offsetY }) {
    return this.layout && cellAt(this.layout, offsetX * this.ratio, offsetY * this.ratio);
  }

  /** Read a cell; with null, that where the keyboard is. @param {[row: number, column: number] | null} at */
  point(at) {
    if (this.grid) this.words.textContent = cellWords(this.viewer.scene, this.grid, at ?? this.at);
  }

  /** @param {Screen} screen */
  show(screen) {
    const { viewer } = this;
    if (!viewer.isAtOnce) return this.hide();
    if (!this.root.isConnected) viewer.pair.after(this.root);
    viewer.pair.hidden = true;
    for (const menu of this.menus) menu.show(screen);
    this.render(screen);
    if (this.focuses) this.area.focus({ preventScroll: true });
    this.focuses = false;
  }

  /** The focus goes back to where all this was opened: from there, keys go along the axes again. */
  hide() {
    const hadFocus = this.root.matches(":focus-within");
    this.root.remove();
    delete this.viewer.body.dataset.thumbnails;
    if (hadFocus) this.opener?.focus({ preventScroll: true });
    this.drawn = [];
    this.grid = null;
  }

  /** @param {Screen} screen */
  render(screen) {
    const { file, state } = screen;
    const { clientWidth, clientHeight } = this.area;
    const { item, reference, owner, route, kind, layer, step, frame, head } = state;
    const { thumbnails, thumbnailSide, thumbnailScale, colormap } = state;
    /** @type {unknown[]} */
    const drawn = [file, item, reference, owner, route, kind, layer, step, frame, head, thumbnails, thumbnailSide];
    drawn.push(thumbnailScale, colormap, clientWidth, clientHeight, devicePixelRatio);
    if (drawn.every((one, n) => one === this.drawn[n])) return;
    this.drawn = drawn;
    const grid = thumbnailsOf(screen);
    if (!grid) return;
    this.grid = grid;
    this.viewer.body.dataset.thumbnails = grid.name;
    this.title.textContent = grid.title;
    this.area.setAttribute("aria-label", grid.title);
    this.message.textContent = grid.message;
    this.message.hidden = !grid.message;
    this.area.hidden = Boolean(grid.message);
    if (!grid.message) this.draw(grid, colorsOf(file, colormap));
    this.explain(grid, colorsOf(file, colormap));
  }

  /** @param {Thumbnails} grid @param {ArrayLike<number>} colors */
  draw(grid, colors) {
    const text = parseFloat(getComputedStyle(this.root).fontSize);
    const label = Math.min(LABEL, Math.max(...grid.rows.map((row) => row.label.length))) * WIDE * text + 8;
    const top = 1.5 * text;
    const ratio = Math.min(2, Math.max(1, devicePixelRatio));
    const space = /** @type {[number, number]} */ (
      [this.area.clientWidth - label, this.area.clientHeight - top].map((side) => Math.max(1, side) * ratio)
    );
    const bounds = /** @type {[number, number]} */ ([Math.max(LEAST, FEWEST * text) * ratio, MOST * ratio]);
    const layout = layoutOf([grid.rows.length, grid.columns.length], grid.means, grid.canvas, space, bounds);
    [this.layout, this.ratio] = [layout, ratio];
    this.paint(grid, layout, colors);
    const [width, height] = layout.whole.map((side) => side / ratio);
    this.sheet.style.cssText = `--label:${label}px;--top:${top}px;width:${label + width}px;height:${top + height}px`;
    this.canvas.style.cssText = `width:${width}px;height:${height}px`;
    this.name(grid, layout);
    this.place(this.chosen, grid.chosen);
    this.chosen.hidden = grid.chosen.includes(-1);
    this.moveTo(this.nearest(grid));
  }

  /** @param {Thumbnails} grid @param {Layout} layout @param {ArrayLike<number>} colors */
  paint({ cells, common }, layout, colors) {
    const [width, height] = layout.whole;
    const image = new ImageData(width, height);
    paintAll(new Uint32Array(image.data.buffer), layout, cells, common, paletteOf(colors));
    this.canvas.width = width;
    this.canvas.height = height;
    contextOf(this.canvas).putImageData(image, 0, 0);
  }

  /** Where the keyboard begins: at the map that was large. @param {Thumbnails} grid @returns {[number, number]} */
  nearest({ rows, columns, chosen }) {
    const [row, column] = chosen.includes(-1) ? this.at : chosen;
    return [Math.min(rows.length - 1, row), Math.min(columns.length - 1, column)];
  }

  /** The names of rows and columns. @param {Thumbnails} grid @param {Layout} layout */
  name(grid, layout) {
    const { ratio } = this;
    const named = JSON.stringify([grid.rows, grid.columns, layout, ratio]);
    if (named === this.named) return;
    this.named = named;
    const widest = Math.max(...grid.columns.map(({ label }) => label.length));
    const text = parseFloat(getComputedStyle(this.root).fontSize);
    const isLong = widest * WIDE * text > 6 * text; // names: they are cut, and not left out
    const every = isLong ? 1 : labelled(layout, (widest * WIDE * text + 4) * ratio);
    const columns = grid.columns.map(({ label, name }, n) => {
      const style = `left:${layout.left[n] / ratio}px;width:${layout.size[0] / ratio}px`;
      const role = { role: "columnheader", "aria-colindex": n + 2, title: name, style };
      const words = n === 0 || n % every === 0 ? label : "";
      return element("span", { ...role, "aria-label": name, class: isLong ? "long" : "" }, words);
    });
    const rows = grid.rows.map(({ label, name }, n) => {
      const height = `${layout.size[1] / ratio}px`;
      const style = `top:${layout.top[n] / ratio}px;height:${height};line-height:${height}`;
      const header = element("span", { role: "rowheader", "aria-colindex": 1, title: name }, label);
      return element("div", { class: "line", role: "row", "aria-rowindex": n + 2, style }, header);
    });
    const first = element("div", { class: "names", role: "row", "aria-rowindex": 1 }, ...columns);
    this.lines.replaceChildren(first, ...rows);
    this.area.setAttribute("aria-rowcount", String(rows.length + 1));
    this.area.setAttribute("aria-colcount", String(columns.length + 1));
  }

  /** Put the keyboard on a cell. @param {[row: number, column: number]} at */
  moveTo(at) {
    const { grid } = this;
    if (!grid) return;
    this.at = at;
    const words = cellWords(this.viewer.scene, grid, at);
    // Another element: one that only has another name is not read out again.
    const cell = /** @type {HTMLDivElement} */ (this.cell.cloneNode());
    cell.setAttribute("aria-label", words);
    cell.setAttribute("aria-colindex", String(at[1] + 2));
    cell.id = `${this.id}-${at.join("-")}`;
    this.cell.remove();
    this.cell = cell;
    this.lines.children[at[0] + 1].append(cell);
    this.place(cell, [0, at[1]]);
    this.area.setAttribute("aria-activedescendant", cell.id);
    this.words.textContent = words;
    if (this.root.contains(this.area)) cell.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /** @param {HTMLElement} mark @param {[row: number, column: number]} at */
  place({ style }, [row, column]) {
    if (!this.layout) return;
    const { left, top, size } = this.layout;
    const [x, y, width, height] = [left[column], top[row], ...size].map((side) => side / this.ratio);
    style.cssText = `left:calc(var(--label) + ${x}px);top:${y}px;width:${width}px;height:${height}px`;
  }

  /** What colours stand for. @param {Thumbnails} grid @param {ArrayLike<number>} colors */
  explain({ common, message, cells, unlike, dim }, colors) {
    const { say } = this.viewer;
    const strip = new ImageData(256, 1);
    for (let i = 0; i < 256; i++) strip.data.set([colors[3 * i], colors[3 * i + 1], colors[3 * i + 2], 255], 4 * i);
    contextOf(this.strip).putImageData(strip, 0, 0);
    this.legend.classList.toggle("empty", Boolean(message));
    this.low.textContent = common ? small(common.low) : say("lowest of each");
    this.high.textContent = common ? small(common.high) : say("highest of each");
    const alone = common ? "" : say("Each map has its own colours: do not compare one with another.");
    const dark =
      dim && common ? say("Dark maps are weak beside the strongest: to see each, choose its own scale.") : "";
    const striped = cells.flat().some(({ map }) => !map) ? say("Striped: no map; point at it to read why.") : "";
    const click = message ? "" : say("Click a map, or press Enter, to see it large.");
    const larger =
      unlike && common
        ? say("A coarse map has larger values, since it has fewer cells: compare maps of one size.")
        : "";
    this.about.textContent = [click, alone, larger, dark, striped].filter(Boolean).join(" ");
  }
}
