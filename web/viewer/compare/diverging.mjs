/** Differences as colours: red is more, blue less, white none, as in `i2am_core/showing/render.py`. */

/** The 11 colours between which matplotlib's RdBu_r is straight (ColorBrewer's RdBu, by Cynthia Brewer). */
const CORNERS = [
  [5, 48, 97],
  [33, 102, 172],
  [67, 147, 195],
  [146, 197, 222],
  [209, 229, 240],
  [247, 247, 247],
  [253, 219, 199],
  [244, 165, 130],
  [214, 96, 77],
  [178, 24, 43],
  [103, 0, 31],
];

/** 256 colours, RGB. */
export const DIVERGING = Uint8Array.from({ length: 3 * 256 }, (_, i) => {
  const at = (Math.floor(i / 3) / 255) * (CORNERS.length - 1);
  const corner = Math.min(CORNERS.length - 2, Math.floor(at));
  const [from, to] = [CORNERS[corner][i % 3], CORNERS[corner + 1][i % 3]];
  return Math.round(from + (at - corner) * (to - from));
});

/**
 * Differences `[height, width]` at another size, linearly: so none gets another sign, as between the cells of `resize`.
 * @param {Float32Array} values
 * @param {number} height
 * @param {number} width
 * @param {number} tall
 * @param {number} wide
 */
export function enlarged(values, height, width, tall, wide) {
  const [rows, columns] = [places(height, tall), places(width, wide)];
  const large = new Float32Array(tall * wide);
  let out = 0;
  for (const [above, below, down] of rows) {
    for (const [left, right, along] of columns) {
      const upper = values[above * width + left] * (1 - along) + values[above * width + right] * along;
      const lower = values[below * width + left] * (1 - along) + values[below * width + right] * along;
      large[out++] = upper * (1 - down) + lower * down;
    }
  }
  return large;
}

/**
 * The two cells that each pixel is between, and how far it is from the first.
 * @param {number} cells
 * @param {number} pixels
 * @returns {[first: number, second: number, part: number][]}
 */
function places(cells, pixels) {
  return Array.from({ length: pixels }, (_, pixel) => {
    const at = Math.max(0, ((pixel + 0.5) * cells) / pixels - 0.5);
    const first = Math.min(cells - 1, Math.floor(at));
    return [first, Math.min(cells - 1, first + 1), at - first];
  });
}
