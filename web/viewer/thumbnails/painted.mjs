/** Thumbnails as pixels: all of them into one picture. */

import { isFlat, resize, restore, strength } from "../heat.mjs";

/** @import { Range } from "../heat.mjs" */
/** @import { MapRow } from "../maps.mjs" */
/** @import { Cell } from "./cell.mjs" */
/** @import { Layout } from "./layout.mjs" */

const [STROKE] = new Uint32Array(new Uint8Array([128, 128, 128, 150]).buffer); // where there is no map
const STROKES = 7; // px from one to the next

/**
 * Paint all thumbnails: each map by the common range or by its own; strokes where there is none; nothing where its own
 * range is flat.
 * @param {Uint32Array} pixels of the whole layout, all of them 0
 * @param {Layout} layout
 * @param {Cell[][]} cells
 * @param {Range | null} common
 * @param {Uint32Array} palette
 */
export function paintAll(pixels, { size: [width, height], left, top, whole: [stride] }, cells, common, palette) {
  cells.forEach((row, y) =>
    row.forEach(({ map, range }, x) => {
      const into = { pixels, stride, first: top[y] * stride + left[x], width, height };
      const spanned = common ?? range;
      if (!map || !spanned) strokes(into);
      else if (!isFlat(spanned)) paintOne(into, thumbnail(map, height, width), spanned, palette);
    }),
  );
}

/** A part of the pixels. @typedef {{pixels: Uint32Array, stride: number, first: number, width: number, height: number}} Part */

/** @param {Part} part @param {ArrayLike<number>} values @param {Range} range @param {Uint32Array} palette */
function paintOne({ pixels, stride, first, width, height }, values, range, palette) {
  const { low, scale } = strength(range);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0, out = first + y * stride; x < width; x++, i++, out++) {
      const level = (values[i] - low) * scale * 255 + 0.5;
      pixels[out] = palette[level < 0 ? 0 : level > 255 ? 255 : level | 0];
    }
  }
}

/** @param {Part} part */
function strokes({ pixels, stride, first, width, height }) {
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) if ((x + y) % STROKES === 0) pixels[first + y * stride + x] = STROKE;
  }
}

/**
 * The values of a map at the size of a thumbnail: as panes have them where that is larger, means of areas where it is
 * smaller, so that nothing falls between.
 * @param {MapRow} map
 * @param {number} toHeight
 * @param {number} toWidth
 */
export function thumbnail(map, toHeight, toWidth) {
  const { height, width } = map;
  const values = restore(map);
  if (height <= toHeight && width <= toWidth) return resize(values, height, width, toHeight, toWidth);
  return areaMeans(values, height, width, toHeight, toWidth);
}

/**
 * As torch.nn.functional.interpolate(mode="area"): each value is the mean of all cells that it touches.
 * @param {Float32Array} values
 * @param {number} height
 * @param {number} width
 * @param {number} toHeight
 * @param {number} toWidth
 */
function areaMeans(values, height, width, toHeight, toWidth) {
  const [rows, columns] = [spansOf(height, toHeight), spansOf(width, toWidth)];
  const means = new Float32Array(toHeight * toWidth);
  for (let y = 0, out = 0; y < toHeight; y++) {
    const [top, bottom] = [rows[2 * y], rows[2 * y + 1]];
    for (let x = 0; x < toWidth; x++, out++) {
      const [left, right] = [columns[2 * x], columns[2 * x + 1]];
      let sum = 0;
      for (let row = top; row < bottom; row++) {
        for (let i = row * width + left, end = row * width + right; i < end; i++) sum += values[i];
      }
      means[out] = sum / ((bottom - top) * (right - left));
    }
  }
  return means;
}

/** For each of `to` values the first of `from` that it touches, and the one after the last. @param {number} from @param {number} to */
function spansOf(from, to) {
  const spans = new Int32Array(2 * to);
  for (let n = 0; n < to; n++) {
    spans[2 * n] = Math.floor((n * from) / to);
    spans[2 * n + 1] = Math.ceil(((n + 1) * from) / to);
  }
  return spans;
}
