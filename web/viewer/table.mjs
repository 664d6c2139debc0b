/** A table of a measure as colours: hover reads a value, click goes there. */

import { element } from "./dom.mjs";

export class Table {
  /** @param {(row: number, column: number) => void} onPick @param {(row: number, column: number) => string} describe */
  constructor(onPick, describe) {
    this.canvas = element("canvas", { role: "img" });
    this.cursor = element("div", { class: "cursor", hidden: true });
    this.title = element("span", { class: "name" });
    this.root = element(
      "div",
      { class: "table" },
      this.title,
      element("div", { class: "cells" }, this.canvas, this.cursor),
    );
    const at = (event) => {
      const rect = this.canvas.getBoundingClientRect();
      const row = Math.floor(((event.clientY - rect.top) / rect.height) * this.canvas.height);
      const column = Math.floor(((event.clientX - rect.left) / rect.width) * this.canvas.width);
      return [Math.max(0, Math.min(this.canvas.height - 1, row)), Math.max(0, Math.min(this.canvas.width - 1, column))];
    };
    this.canvas.addEventListener("pointermove", (event) => (this.canvas.title = describe(...at(event))));
    this.canvas.addEventListener("click", (event) => onPick(...at(event)));
  }

  /**
   * @param {string} title
   * @param {number[][]} rows values, or not a number
   * @param {Uint8Array} colors 256 of them, RGB
   * @param {[number | null, number | null]} chosen row and column
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
    const pixels = new ImageData(width, height);
    const known = rows.flat().filter((value) => !Number.isNaN(value));
    const [low, high] = [Math.min(...known), Math.max(...known)];
    rows.forEach((values, y) =>
      values.forEach((value, x) => {
        if (Number.isNaN(value)) return;
        const color = 3 * (high > low ? Math.round((255 * (value - low)) / (high - low)) : 0);
        pixels.data.set([colors[color], colors[color + 1], colors[color + 2], 255], 4 * (y * width + x));
      }),
    );
    this.canvas.getContext("2d").putImageData(pixels, 0, 0);
    this.cursor.hidden = row === null && column === null;
    const place = (number, count) =>
      number === null ? ["0%", "100%"] : [`${(100 * number) / count}%`, `${100 / count}%`];
    [this.cursor.style.top, this.cursor.style.height] = place(row, height);
    [this.cursor.style.left, this.cursor.style.width] = place(column, width);
  }
}
