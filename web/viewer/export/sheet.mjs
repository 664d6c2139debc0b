/** What is on the screen as a picture to keep: both panes side by side, with their words. */

import { contextOf } from "../dom.mjs";

/** @import { Box } from "../geometry.mjs" */
/** @import { Overlay } from "../overlay.mjs" */

/**
 * @typedef {object} SheetPane
 * @property {HTMLImageElement | null} picture
 * @property {HTMLCanvasElement} heat
 * @property {Overlay} overlay
 * @property {{left: CanvasImageSource, right: CanvasImageSource, at: number} | null} wipe two pictures in place of its own
 * @property {string} title
 * @property {string} detail or why there is no map
 * @property {string} outline of the mask, an SVG path
 * @property {Box[]} boxes that are asked about
 * @property {{box: Box, label: string}[]} patches of the answer
 * @property {{colors: ArrayLike<number>, low: string, high: string} | null} legend 256 colours, RGB, and what their ends stand for
 */

const PANE = 512;
const GAP = 16;
const LINE = 22;
const STRIP = 8; // px of the legend

/**
 * Draw panes on a canvas, and lines of words below them.
 * @param {SheetPane[]} panes
 * @param {string[]} footer
 */
export function drawSheet(panes, footer) {
  const heights = panes.map(({ heat }) => Math.round((PANE * heat.height) / heat.width));
  const canvas = document.createElement("canvas");
  canvas.width = even(panes.length * (PANE + GAP) + GAP);
  canvas.height = even(Math.max(...heights) + 3 * LINE + GAP + footer.length * LINE + GAP);
  const context = contextOf(canvas);
  context.fillStyle = "#181a1f";
  context.fillRect(0, 0, canvas.width, canvas.height);
  panes.forEach((pane, number) => drawPane(context, pane, GAP + number * (PANE + GAP), 2 * LINE + 6, heights[number]));
  const below = Math.max(...heights) + 3 * LINE + GAP;
  footer.forEach((line, number) =>
    write(context, line, GAP, below + (number + 0.5) * LINE, "#b8bcc6", canvas.width - 2 * GAP),
  );
  return canvas;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {SheetPane} pane
 * @param {number} left
 * @param {number} top
 * @param {number} height
 */
function drawPane(context, pane, left, top, height) {
  write(context, pane.title, left, LINE * 0.75, "#ffffff", PANE, "600 ");
  write(context, pane.detail, left, LINE * 1.6, "#b8bcc6", PANE);
  context.save();
  context.translate(left, top);
  context.beginPath();
  context.rect(0, 0, PANE, height);
  context.clip();
  context.fillStyle = "#000000";
  context.fillRect(0, 0, PANE, height);
  if (pane.picture) {
    context.globalAlpha = pane.overlay.pictureOpacity;
    context.drawImage(pane.picture, 0, 0, PANE, height);
  }
  if (pane.wipe) drawWipe(context, pane.wipe, height);
  if (pane.overlay.heat) {
    context.globalAlpha = pane.overlay.heatOpacity;
    context.globalCompositeOperation = pane.overlay.adds ? "lighter" : "source-over";
    context.drawImage(pane.heat, 0, 0, PANE, height);
  }
  context.globalAlpha = 1;
  context.globalCompositeOperation = "source-over";
  if (pane.outline) {
    stroke(context, pane.outline, PANE, height, HALO, 4, []);
    stroke(context, pane.outline, PANE, height, "#ffffff", 2, [6, 4]);
  }
  for (const box of pane.boxes) drawBox(context, box, height);
  for (const { box, label } of pane.patches) {
    drawBox(context, box, height);
    context.fillStyle = HALO;
    context.fillRect(box[0] * PANE - 7, box[1] * height - 9, 14, 18);
    write(context, label, box[0] * PANE - 4, box[1] * height, "#ffffff", 12);
  }
  context.restore();
  if (pane.legend) drawLegend(context, pane.legend, left, top + height + LINE / 2);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {{left: CanvasImageSource, right: CanvasImageSource, at: number}} wipe
 * @param {number} height of the pane
 */
function drawWipe(context, { left, right, at }, height) {
  context.globalAlpha = 1;
  context.drawImage(left, 0, 0, PANE, height);
  context.save();
  context.beginPath();
  context.rect(at * PANE, 0, PANE, height);
  context.clip();
  context.drawImage(right, 0, 0, PANE, height);
  context.restore();
  context.fillStyle = "#ffffff";
  context.fillRect(at * PANE - 1, 0, 2, height);
}

const HALO = "rgb(0 0 0 / 80%)";

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Box} box
 * @param {number} height of the pane
 */
function drawBox(context, [x0, y0, x1, y1], height) {
  context.setLineDash([]);
  for (const [color, width] of /** @type {[string, number][]} */ ([
    [HALO, 4],
    ["#ffffff", 2],
  ])) {
    context.strokeStyle = color;
    context.lineWidth = width;
    context.strokeRect(x0 * PANE, y0 * height, Math.max(3, (x1 - x0) * PANE), Math.max(3, (y1 - y0) * height));
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {{colors: ArrayLike<number>, low: string, high: string}} legend
 * @param {number} left
 * @param {number} middle
 */
function drawLegend(context, { colors, low, high }, left, middle) {
  context.font = FONT;
  const [from, to] = [left + context.measureText(low).width + 8, left + PANE - context.measureText(high).width - 8];
  write(context, low, left, middle, "#b8bcc6", PANE);
  write(context, high, to + 8, middle, "#b8bcc6", PANE);
  for (let i = 0; i < 256; i++) {
    context.fillStyle = `rgb(${colors[3 * i]} ${colors[3 * i + 1]} ${colors[3 * i + 2]})`;
    const [start, end] = [i, i + 1].map((one) => Math.round(from + (one * (to - from)) / 256));
    context.fillRect(start, middle - STRIP / 2, end - start, STRIP);
  }
}

const FONT = "14px system-ui, sans-serif";

/**
 * @param {CanvasRenderingContext2D} context
 * @param {string} path over a square of 1
 * @param {number} width
 * @param {number} height
 * @param {string} color
 * @param {number} thick
 * @param {number[]} dashes
 */
function stroke(context, path, width, height, color, thick, dashes) {
  context.lineWidth = thick;
  const scaled = new Path2D();
  scaled.addPath(new Path2D(path), new DOMMatrix([width, 0, 0, height, 0, 0]));
  context.strokeStyle = color;
  context.setLineDash(dashes);
  context.stroke(scaled);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {string} text
 * @param {number} x
 * @param {number} y
 * @param {string} color
 * @param {number} width
 * @param {string} [weight]
 */
function write(context, text, x, y, color, width, weight = "") {
  context.font = weight + FONT;
  context.textBaseline = "middle";
  context.fillStyle = color;
  context.fillText(text, x, y, width);
}

/** @param {number} value */
function even(value) {
  return value + (value % 2);
}

/**
 * The file of a canvas.
 * @param {HTMLCanvasElement} canvas
 * @param {string} type
 * @returns {Promise<Blob>}
 */
export function encode(canvas, type) {
  return new Promise((resolve, reject) => {
    canvas.toBlob(
      (blob) => (blob ? resolve(blob) : reject(new Error(`this browser cannot write ${type}.`))),
      type,
      0.92,
    );
  });
}

/**
 * Offer a file under a name.
 * @param {Blob} blob
 * @param {string} name
 */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000); // the download has begun by then
}
