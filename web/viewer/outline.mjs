/** The outline of a mask. */

/**
 * As an SVG path over a square of 1.
 * @param {ArrayLike<number>} mask `[height, width]` of 0 and 1
 * @param {number} height
 * @param {number} width
 */
export function outlineOf(mask, height, width) {
  const parts = [];
  /** @param {number} x @param {number} y */
  const at = (x, y) => (x >= 0 && y >= 0 && x < width && y < height ? mask[y * width + x] : 0);
  for (let y = 0; y <= height; y++) {
    for (let x = 0, from = -1; x <= width; x++) {
      const edge = x < width && at(x, y) !== at(x, y - 1);
      if (edge && from < 0) from = x;
      if (!edge && from >= 0) {
        parts.push(`M${from / width} ${y / height}H${x / width}`);
        from = -1;
      }
    }
  }
  for (let x = 0; x <= width; x++) {
    for (let y = 0, from = -1; y <= height; y++) {
      const edge = y < height && at(x, y) !== at(x - 1, y);
      if (edge && from < 0) from = y;
      if (!edge && from >= 0) {
        parts.push(`M${x / width} ${from / height}V${y / height}`);
        from = -1;
      }
    }
  }
  return parts.join("");
}
