/** Maps as colours: restored from bytes, resized like PyTorch does (`i2am_core/levels.py`), stretched, painted. */

const SHARPNESS = -0.75; // of the cubic kernel, as in torch.nn.functional.interpolate(mode="bicubic")

/** The values of a map of `maps.mjs`. */
export function restore({ levels, low, high }) {
  const values = new Float32Array(levels.length);
  const step = (high - low) / 255;
  for (let i = 0; i < levels.length; i++) values[i] = low + levels[i] * step;
  return values;
}

/** Bicubic resize of `values [height, width]` to `[toHeight, toWidth]`, clamped at 0. Maps of that size pass unchanged. */
export function resize(values, height, width, toHeight, toWidth) {
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
      const value = w0 * wide[r0 + x] + w1 * wide[r1 + x] + w2 * wide[r2 + x] + w3 * wide[r3 + x];
      resized[out] = value > 0 ? value : 0;
    }
  }
  return resized;
}

const known = new Map();

/** For each of `to` places, four places of `from` and their weights. */
function weights(from, to) {
  const key = `${from}/${to}`;
  if (!known.has(key)) {
    if (known.size > 100) known.clear();
    known.set(key, computeWeights(from, to));
  }
  return known.get(key);
}

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

function cubic(distance) {
  const a = SHARPNESS;
  if (distance <= 1) return ((a + 2) * distance - (a + 3)) * distance * distance + 1;
  if (distance < 2) return ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a;
  return 0;
}

/** Values stretched to [0, 1]: by their own range, or by one given. A flat map becomes 0. */
export function stretch(values, range = rangeOf(values)) {
  const stretched = new Float32Array(values.length);
  const spread = range.high - range.low;
  if (spread > 0) {
    for (let i = 0; i < values.length; i++) {
      stretched[i] = Math.max(0, Math.min(1, (values[i] - range.low) / spread));
    }
  }
  return stretched;
}

export function rangeOf(values) {
  let low = Infinity;
  let high = -Infinity;
  for (let i = 0; i < values.length; i++) {
    if (values[i] < low) low = values[i];
    if (values[i] > high) high = values[i];
  }
  return { low, high };
}

/**
 * Paint heat in [0, 1] over the whole of `pixels` (RGBA).
 * @param {Uint8Array} table 256 colours, RGB
 */
export function paint(heat, table, pixels) {
  for (let i = 0, out = 0; i < heat.length; i++, out += 4) {
    const color = 3 * Math.round(heat[i] * 255);
    pixels[out] = table[color];
    pixels[out + 1] = table[color + 1];
    pixels[out + 2] = table[color + 2];
    pixels[out + 3] = 255;
  }
}

const CONTOURS = [0.25, 0.5, 0.75];
const LINE = 2; // px

/** Paint only the lines at a quarter, half and three quarters of the range; the rest is transparent. */
export function paintContours(heat, height, width, table, pixels) {
  pixels.fill(0);
  const band = Uint8Array.from(heat, (value) => CONTOURS.filter((line) => value > line).length);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const right = band[x + LINE < width ? i + LINE : i];
      const below = band[y + LINE < height ? i + LINE * width : i];
      const top = Math.max(band[i], right, below);
      if (top === Math.min(band[i], right, below)) continue;
      const color = 3 * Math.round(CONTOURS[top - 1] * 255);
      pixels.set([table[color], table[color + 1], table[color + 2], 255], 4 * i);
    }
  }
}
