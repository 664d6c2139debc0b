/** A table of a measure as colours: hovering reads a value, a click goes there. */

import { contextOf, element } from "../dom.mjs";

export class Table {
  /**
   * @param {(row: number, column: number) => void} onPick
   * @param {(row: number, column: number) => string} describe
   */
  constructor(onPick, describe) {
    this.canvas = element("canvas", { role: "img" });
    this.cursor = element("div", { class: "cursor", hidden: true });
    this.title = element("span", { class: "name" });
    const cells = element("div", { class: "cells" }, this.canvas, this.cursor);
    this.root = element("div", { class: "table" }, this.title, cells);
    this.canvas.addEventListener("pointermove", (event) => (this.canvas.title = describe(...this.cellAt(event))));
    this.canvas.addEventListener("click", (event) => onPick(...this.cellAt(event)));
  }

  /**
   * @param {MouseEvent} event
   * @returns {[row: number, column: number]}
   */
  cellAt({ clientX, clientY }) {
    const rect = this.canvas.getBoundingClientRect();
    const row = Math.floor(((clientY - rect.top) / rect.height) * this.canvas.height);
    const column = Math.floor(((clientX - rect.left) / rect.width) * this.canvas.width);
    return [Math.max(0, Math.min(this.canvas.height - 1, row)), Math.max(0, Math.min(this.canvas.width - 1, column))];
  }

  /**
   * @param {string} title
   * @param {number[][]} rows values, or not a number
   * @param {ArrayLike<number>} colors 256 of them, RGB
   * @param {[row: number | null, column: number | null]} chosen
   */
  set(title, rows, colors, [row, column]) {
    const height = rows.length;
    const width = Math.max(0, ...rows.map((values) => values.length));
    this.root.hidden = !height || !width;
    if (this.root.hidden) return;
    this.title.textContent = title;
    this.canvas.setAttribute("aria-label", title);
    this.canvas.width = width;
    this.canvas.height = height;
    contextOf(this.canvas).putImageData(painted(rows, width, colors), 0, 0);
    this.cursor.hidden = row === null && column === null;
    [this.cursor.style.top, this.cursor.style.height] = spanOf(row, height);
    [this.cursor.style.left, this.cursor.style.width] = spanOf(column, width);
  }
}

/**
 * A pixel for each value; what is not a number stays transparent.
 * @param {number[][]} rows
 * @param {number} width
 * @param {ArrayLike<number>} colors
 */
function painted(rows, width, colors) {
  const pixels = new ImageData(width, rows.length);
  const captured = rows.flat().filter((value) => !Number.isNaN(value));
  const [low, high] = [Math.min(...captured), Math.max(...captured)];
  rows.forEach((values, y) =>
    values.forEach((value, x) => {
      if (Number.isNaN(value)) return;
      const color = 3 * (high > low ? Math.round((255 * (value - low)) / (high - low)) : 0);
      pixels.data.set([colors[color], colors[color + 1], colors[color + 2], 255], 4 * (y * width + x));
    }),
  );
  return pixels;
}

/**
 * Where one of `count` is in CSS, and how long; null is all of them.
 * @param {number | null} number
 * @param {number} count
 * @returns {[start: string, length: string]}
 */
function spanOf(number, count) {
  return number === null ? ["0%", "100%"] : [`${(100 * number) / count}%`, `${100 / count}%`];
}
