/** A table of a measure as colours: hovering reads a value, a click goes there. */

import { contextOf, element } from "../dom.mjs";

export class Table {
  /**
   * @param {(row: number, column: number) => void} onPick
   * @param {(row: number, column: number) => string} describe
   */
  constructor(onPick, describe) {
    this.canvas = element("canvas", { role: "application", tabindex: 0 });
    /** @type {[row: number, column: number]} where the keyboard is */
    this.cell = [0, 0];
    this.cursor = element("div", { class: "cursor", hidden: true });
    this.title = element("span", { class: "name" });
    const cells = element("div", { class: "cells" }, this.canvas, this.cursor);
    this.root = element("div", { class: "table" }, this.title, cells);
    this.canvas.addEventListener("pointermove", (event) => (this.canvas.title = describe(...this.cellAt(event))));
    this.canvas.addEventListener("click", (event) => onPick(...this.cellAt(event)));
    this.canvas.addEventListener("keydown", (event) => {
      const cell = this.cellAfter(event.key);
      if (!cell) return;
      event.preventDefault();
      event.stopPropagation(); // or the viewer would move along its axes
      this.cell = cell; // the next key may come before this one is drawn
      onPick(...cell);
    });
  }

  /**
   * The cell that a key goes to.
   * @param {string} key
   * @returns {[row: number, column: number] | null}
   */
  cellAfter(key) {
    const [row, column] = this.cell;
    const [last, end] = [this.canvas.height - 1, this.canvas.width - 1];
    /** @type {Record<string, [row: number, column: number]>} */
    const cells = {
      ArrowUp: [Math.max(0, row - 1), column],
      ArrowDown: [Math.min(last, row + 1), column],
      ArrowLeft: [row, Math.max(0, column - 1)],
      ArrowRight: [row, Math.min(end, column + 1)],
      Home: [row, 0],
      End: [row, end],
    };
    return cells[key] ?? null;
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
    this.cell = [row ?? 0, column ?? 0];
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
