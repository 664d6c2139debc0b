/** Maps as colours: restored from bytes, resized like PyTorch does (`i2am_core/reading/aggregate.py`), painted. */

/** @import { MapRow } from "./maps.mjs" */

/** @typedef {{low: number, high: number}} Range the lowest and the highest value */

const SHARPNESS = -0.75; // of the cubic kernel, as in torch.nn.functional.interpolate(mode="bicubic")

/**
 * The values of a map.
 * @param {Pick<MapRow, "levels" | "low" | "high">} map
 */
export function restore({ levels, low, high }) {
  const values = new Float32Array(levels.length);
  const step = (high - low) / 255;
  for (let i = 0; i < levels.length; i++) values[i] = low + levels[i] * step;
  return values;
}

/**
 * Bicubic resize of `values [height, width]` to `[toHeight, toWidth]`, clamped at 0. Maps of that size pass unchanged.
 * @param {Float32Array} values
 * @param {number} height
 * @param {number} width
 * @param {number} toHeight
 * @param {number} toWidth
 */
export function resize(values, height, width, toHeight, toWidth) {
  if (height === toHeight && width === toWidth) return values;
  return clamp(resampled(values, height, width, toHeight, toWidth));
}

/**
 * The end of a mean: nothing below 0. Changes the values in place.
 * @param {Float32Array} values
 */
export function clamp(values) {
  for (let i = 0; i < values.length; i++) if (values[i] < 0) values[i] = 0;
  return values;
}

/**
 * As `resize`, of maps that go on into a mean: not clamped, so that the mean of all is what it would be of finer maps.
 * @param {Float32Array} values
 * @param {number} height
 * @param {number} width
 * @param {number} toHeight
 * @param {number} toWidth
 */
export function resampled(values, height, width, toHeight, toWidth) {
  if (height === toHeight && width === toWidth) return values;
  const columns = weights(width, toWidth);
  const rows = weights(height, toHeight);
  const wide = new Float32Array(height * toWidth);
  for (let y = 0, out = 0; y < height; y++) {
    const start = y * width;
    for (let x = 0; x < toWidth; x++, out++) {
      const k = 4 * x;
      wide[out] =
        columns.weight[k] * values[start + columns.index[k]] +
        columns.weight[k + 1] * values[start + columns.index[k + 1]] +
        columns.weight[k + 2] * values[start + columns.index[k + 2]] +
        columns.weight[k + 3] * values[start + columns.index[k + 3]];
    }
  }
  const resized = new Float32Array(toHeight * toWidth);
  for (let y = 0, out = 0; y < toHeight; y++) {
    const k = 4 * y;
    const [w0, w1, w2, w3] = rows.weight.subarray(k, k + 4);
    const [r0, r1, r2, r3] = Array.from(rows.index.subarray(k, k + 4), (row) => row * toWidth);
    for (let x = 0; x < toWidth; x++, out++) {
      resized[out] = w0 * wide[r0 + x] + w1 * wide[r1 + x] + w2 * wide[r2 + x] + w3 * wide[r3 + x];
    }
  }
  return resized;
}

/** @typedef {{index: Int32Array, weight: Float32Array}} Weights for each place, four places and their weights */

/** @type {Map<string, Weights>} */
const weightsBySizes = new Map();

/**
 * For each of `to` places, four places of `from` and their weights.
 * @param {number} from
 * @param {number} to
 */
function weights(from, to) {
  const key = `${from}/${to}`;
  let result = weightsBySizes.get(key);
  if (!result) {
    if (weightsBySizes.size > 100) weightsBySizes.clear();
    result = computeWeights(from, to);
    weightsBySizes.set(key, result);
  }
  return result;
}

/** @param {number} from @param {number} to @returns {Weights} */
function computeWeights(from, to) {
  const index = new Int32Array(4 * to);
  const weight = new Float32Array(4 * to);
  for (let i = 0; i < to; i++) {
    const place = ((i + 0.5) * from) / to - 0.5;
    const left = Math.floor(place);
    for (let tap = 0; tap < 4; tap++) {
      index[4 * i + tap] = Math.max(0, Math.min(from - 1, left - 1 + tap));
      weight[4 * i + tap] = cubic(Math.abs(place - (left - 1 + tap)));
    }
  }
  return { index, weight };
}

/** @param {number} distance */
function cubic(distance) {
  const a = SHARPNESS;
  if (distance <= 1) return ((a + 2) * distance - (a + 3)) * distance * distance + 1;
  if (distance < 2) return ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a;
  return 0;
}

/**
 * @param {ArrayLike<number>} values
 * @returns {Range}
 */
export function rangeOf(values) {
  let low = Infinity;
  let high = -Infinity;
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return { low, high };
}

const FLAT = 2 ** -10; // of the largest value: what rounding may make of equal ones, as in i2am_core/reading/metrics.py

/**
 * Whether all values of a range are the same, but for rounding.
 * @param {Range} range
 */
export function isFlat({ low, high }) {
  return !(high - low > FLAT * Math.max(Math.abs(low), Math.abs(high)));
}

/**
 * How strong a value is, from 0 to 1, in a range: `(value - low) * scale`, to be cut off at both ends. In a flat map
 * nothing is.
 * @param {Range} range
 */
export function strength(range) {
  return { low: range.low, scale: isFlat(range) ? 0 : 1 / (range.high - range.low) };
}

/**
 * 256 colours, RGB, as words of RGBA pixels on this machine.
 * @param {ArrayLike<number>} table
 */
export function paletteOf(table) {
  const bytes = new Uint8ClampedArray(4 * 256);
  for (let i = 0; i < 256; i++) bytes.set([table[3 * i], table[3 * i + 1], table[3 * i + 2], 255], 4 * i);
  return new Uint32Array(bytes.buffer);
}

/**
 * Paint values over the whole of `pixels` (words, as in `palette`).
 * @param {ArrayLike<number>} values
 * @param {Range} range
 * @param {Uint32Array} palette
 * @param {Uint32Array} pixels
 */
export function paint(values, range, palette, pixels) {
  const { low, scale } = strength(range);
  for (let i = 0; i < values.length; i++) {
    const level = (values[i] - low) * scale * 255 + 0.5;
    pixels[i] = palette[level < 0 ? 0 : level > 255 ? 255 : level | 0];
  }
}

const LINE = 2; // px of a contour
const [HALO] = new Uint32Array(new Uint8Array([0, 0, 0, 160]).buffer); // beside it, so that it is seen on any picture

/**
 * Paint only lines, at a quarter, half and three quarters of the range, with a dark halo; the rest is transparent.
 * @param {ArrayLike<number>} values
 * @param {Range} range
 * @param {Uint32Array} palette
 * @param {Uint32Array} pixels
 * @param {number} width
 */
export function paintContours(values, range, palette, pixels, width) {
  const { low, scale } = strength(range);
  const band = new Uint8Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const part = (values[i] - low) * scale;
    band[i] = part > 0.75 ? 3 : part > 0.5 ? 2 : part > 0.25 ? 1 : 0;
  }
  for (let i = 0, x = 0; i < values.length; i++, x = x + 1 < width ? x + 1 : 0) {
    const here = band[i];
    const right = x + LINE < width ? band[i + LINE] : here;
    const below = i + LINE * width < values.length ? band[i + LINE * width] : here;
    const top = Math.max(here, right, below);
    pixels[i] = top > Math.min(here, right, below) ? palette[64 * top] : 0;
  }
  paintHalo(pixels, width);
}

/**
 * Darken the pixels beside those that are painted.
 * @param {Uint32Array} pixels
 * @param {number} width
 */
function paintHalo(pixels, width) {
  const lines = pixels.slice();
  for (let i = 0, x = 0; i < lines.length; i++, x = x + 1 < width ? x + 1 : 0) {
    if (lines[i]) continue;
    const beside = (x > 0 && lines[i - 1]) || (x + 1 < width && lines[i + 1]) || lines[i - width] || lines[i + width];
    if (beside) pixels[i] = HALO;
  }
}
