/** Places in a picture, from 0 to 1 from its left and top, and what a pane shows of it. */

export const WHOLE = { zoom: 1, x: 0.5, y: 0.5 };
const CLOSEST = 32;

/** The largest `[width, height]` of a picture's shape that fits a box. */
export function fit(width, height, boxWidth, boxHeight) {
  const scale = Math.min(boxWidth / width, boxHeight / height);
  return [width * scale, height * scale];
}

/** Where a pointer is in a picture that is drawn in `rect`; outside, the nearest place on its edge. */
export function placeOf(clientX, clientY, rect) {
  const inside = (value) => Math.max(0, Math.min(1, value));
  return [inside((clientX - rect.left) / rect.width), inside((clientY - rect.top) / rect.height)];
}

/** A view `{zoom, x, y}` (`x, y`: the place in the middle of the pane) nearer by `factor`, with `[u, v]` where it was. */
export function zoomAt(view, [u, v], factor) {
  const zoom = Math.max(1, Math.min(CLOSEST, view.zoom * factor));
  return settleView({ zoom, x: u - ((u - view.x) * view.zoom) / zoom, y: v - ((v - view.y) * view.zoom) / zoom });
}

/** A view moved by a part of the picture's drawn size. */
export function pan(view, du, dv) {
  return settleView({ ...view, x: view.x - du, y: view.y - dv });
}

/** The picture always covers the middle of the pane, and lies in it as a whole when it is not enlarged. */
function settleView({ zoom, x, y }) {
  const margin = 0.5 / zoom;
  const inside = (value) => Math.max(margin, Math.min(1 - margin, value));
  return { zoom, x: inside(x), y: inside(y) };
}

/** The CSS transform, from its left top corner, of a picture of `[width, height]` in a pane. */
export function transformOf({ zoom, x, y }, [width, height], paneWidth, paneHeight) {
  return `translate(${paneWidth / 2 - x * width * zoom}px, ${paneHeight / 2 - y * height * zoom}px) scale(${zoom})`;
}

/** A box `[left, top, right, bottom]` from two corners; both are the same for a click. */
export function boxOf([u0, v0], [u1, v1]) {
  return [Math.min(u0, u1), Math.min(v0, v1), Math.max(u0, u1), Math.max(v0, v1)];
}

/**
 * The cells of a grid `[height, width]` that a box covers: those by more than half, or if there are none, those it
 * touches. As `i2am_core/regions.py` does with masks; a click is a box without size, and touches one cell.
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

/** `[cell, covered part]` of each of `count` cells between `low` and `high`. */
function covered(low, high, count) {
  const first = Math.min(count - 1, Math.floor(low * count));
  const last = Math.max(first, Math.min(count - 1, Math.ceil(high * count) - 1));
  const parts = [];
  for (let cell = first; cell <= last; cell++) {
    parts.push([cell, Math.max(0, Math.min(high * count, cell + 1) - Math.max(low * count, cell))]);
  }
  return parts;
}
