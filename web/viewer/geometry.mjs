/** Places in a picture, from 0 to 1 from its left and top, and what a pane shows of it. */

/** @typedef {[u: number, v: number]} Place */
/** @typedef {[left: number, top: number, right: number, bottom: number]} Box */
/** @typedef {[height: number, width: number]} Grid */

/**
 * @typedef {object} View
 * @property {number} zoom 1 is the whole picture
 * @property {number} x the place in the middle of the pane
 * @property {number} y
 */

/** @param {unknown} value @returns {value is View} */
export function isView(value) {
  const { zoom, x, y } = /** @type {Record<string, unknown>} */ (value ?? {});
  return [zoom, x, y].every(Number.isFinite) && Number(zoom) >= 1;
}

/** @type {View} */
export const WHOLE = { zoom: 1, x: 0.5, y: 0.5 };
const CLOSEST = 32;

/**
 * The largest `[width, height]` of a picture's shape that fits a box.
 * @param {number} width
 * @param {number} height
 * @param {number} boxWidth
 * @param {number} boxHeight
 * @returns {[width: number, height: number]}
 */
export function fit(width, height, boxWidth, boxHeight) {
  const scale = Math.min(boxWidth / width, boxHeight / height);
  return [width * scale, height * scale];
}

/**
 * Where a pointer is in a picture that is drawn in `rect`; outside, the nearest place on its edge.
 * @param {number} clientX
 * @param {number} clientY
 * @param {{left: number, top: number, width: number, height: number}} rect
 * @returns {Place}
 */
export function placeOf(clientX, clientY, rect) {
  /** @param {number} value */
  const inside = (value) => Math.max(0, Math.min(1, value));
  return [inside((clientX - rect.left) / rect.width), inside((clientY - rect.top) / rect.height)];
}

/**
 * A view nearer by `factor`, with the place `[u, v]` where it was.
 * @param {View} view
 * @param {Place} place
 * @param {number} factor
 */
export function zoomAt(view, [u, v], factor) {
  const zoom = Math.max(1, Math.min(CLOSEST, view.zoom * factor));
  return settleView({ zoom, x: u - ((u - view.x) * view.zoom) / zoom, y: v - ((v - view.y) * view.zoom) / zoom });
}

/**
 * A view moved by a part of the picture's drawn size.
 * @param {View} view
 * @param {number} du
 * @param {number} dv
 */
export function pan(view, du, dv) {
  return settleView({ ...view, x: view.x - du, y: view.y - dv });
}

/**
 * The picture always covers the middle of the pane, and lies in it as a whole when it is not enlarged.
 * @param {View} view
 * @returns {View}
 */
function settleView({ zoom, x, y }) {
  const margin = 0.5 / zoom;
  /** @param {number} value */
  const inside = (value) => Math.max(margin, Math.min(1 - margin, value));
  return { zoom, x: inside(x), y: inside(y) };
}

/**
 * The CSS transform, from its left top corner, of a picture of `[width, height]` in a pane.
 * @param {View} view
 * @param {[width: number, height: number]} size
 * @param {number} paneWidth
 * @param {number} paneHeight
 */
export function transformOf({ zoom, x, y }, [width, height], paneWidth, paneHeight) {
  return `translate(${paneWidth / 2 - x * width * zoom}px, ${paneHeight / 2 - y * height * zoom}px) scale(${zoom})`;
}

/**
 * A box from two corners; both are the same for a click.
 * @param {Place} one
 * @param {Place} other
 * @returns {Box}
 */
export function boxOf([u0, v0], [u1, v1]) {
  return [Math.min(u0, u1), Math.min(v0, v1), Math.max(u0, u1), Math.max(v0, v1)];
}

/**
 * The cells of a grid `[height, width]` that a box covers: those by more than half, or if there are none, those it
 * touches. As `i2am_core/regions.py` does with masks; a click is a box without size, and touches one cell.
 * @param {Box} box
 * @param {Grid} grid
 */
export function cellsOf([left, top, right, bottom], [height, width]) {
  const columns = covered(left, right, width);
  const rows = covered(top, bottom, height);
  const inside = [];
  const touched = [];
  for (const [y, tall] of rows) {
    for (const [x, wide] of columns) {
      touched.push(y * width + x);
      if (tall * wide > 0.5) inside.push(y * width + x);
    }
  }
  return inside.length ? inside : touched;
}

/**
 * The cells of `count` between `low` and `high`, and how much of each is covered.
 * @param {number} low
 * @param {number} high
 * @param {number} count
 */
function covered(low, high, count) {
  const first = Math.min(count - 1, Math.floor(low * count));
  const last = Math.max(first, Math.min(count - 1, Math.ceil(high * count) - 1));
  /** @type {[cell: number, part: number][]} */
  const parts = [];
  for (let cell = first; cell <= last; cell++) {
    parts.push([cell, Math.max(0, Math.min(high * count, cell + 1) - Math.max(low * count, cell))]);
  }
  return parts;
}
