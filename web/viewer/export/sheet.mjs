/** What is on the screen as a picture to keep: both panes side by side, with their words. */

import { contextOf } from "../dom.mjs";

/** @import { Box } from "../geometry.mjs" */
/** @import { Overlay } from "../overlay.mjs" */

/**
 * @typedef {object} SheetPane
 * @property {HTMLImageElement | null} picture
 * @property {HTMLCanvasElement} heat
 * @property {Overlay} overlay
 * @property {string} title
 * @property {string} detail
 * @property {string} outline of the mask, an SVG path
 * @property {Box[]} boxes that are asked about
 */

const PANE = 512;
const GAP = 16;
const LINE = 22;

/**
 * Draw panes on a canvas, and lines of words below them.
 * @param {SheetPane[]} panes
 * @param {string[]} footer
 */
export function drawSheet(panes, footer) {
  const heights = panes.map(({ heat }) => Math.round((PANE * heat.height) / heat.width));
  const canvas = document.createElement("canvas");
  canvas.width = even(panes.length * (PANE + GAP) + GAP);
  canvas.height = even(Math.max(...heights) + 2 * LINE + GAP + footer.length * LINE + GAP);
  const context = contextOf(canvas);
  context.fillStyle = "#181a1f";
  context.fillRect(0, 0, canvas.width, canvas.height);
  panes.forEach((pane, number) => drawPane(context, pane, GAP + number * (PANE + GAP), 2 * LINE + 6, heights[number]));
  const below = Math.max(...heights) + 2 * LINE + GAP;
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
  if (pane.overlay.heat) {
    context.globalAlpha = pane.overlay.heatOpacity;
    context.globalCompositeOperation = pane.overlay.adds ? "lighter" : "source-over";
    context.drawImage(pane.heat, 0, 0, PANE, height);
  }
  context.globalAlpha = 1;
  context.globalCompositeOperation = "source-over";
  context.lineWidth = 2;
  if (pane.outline) stroke(context, pane.outline, PANE, height, "#ffffff", [6, 4]);
  for (const [x0, y0, x1, y1] of pane.boxes) {
    context.strokeStyle = "#ffffff";
    context.setLineDash([]);
    context.strokeRect(x0 * PANE, y0 * height, Math.max(3, (x1 - x0) * PANE), Math.max(3, (y1 - y0) * height));
  }
  context.restore();
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {string} path over a square of 1
 * @param {number} width
 * @param {number} height
 * @param {string} color
 * @param {number[]} dashes
 */
function stroke(context, path, width, height, color, dashes) {
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
  context.font = `${weight}14px system-ui, sans-serif`;
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
