/** What one looks at, as it is kept in the workflow. */

import { WHOLE } from "./geometry.mjs";

export const START = {
  item: 0,
  reference: 0,
  layer: null,
  step: null,
  head: null,
  normalization: "paper",
  scale: "each map",
  style: "heat",
  colormap: "jet",
  opacity: 0.5,
  measure: null,
  matrix: false,
  linked: false,
  views: { generated: WHOLE, reference: WHOLE },
  ask: null,
};

const ALLOWED = {
  normalization: ["paper", "share"],
  scale: ["each map", "over time"],
  style: ["heat", "contours", "off"],
  measure: [null, "share", "concentration", "inside"],
};

/** A whole state from what a workflow holds, which may be of another version or of no version at all. */
export function stateFrom(kept) {
  const state = { ...START };
  if (typeof kept !== "object" || kept === null) return state;
  for (const key of ["item", "reference"]) if (Number.isInteger(kept[key])) state[key] = kept[key];
  for (const key of ["layer", "step", "head"]) if (Number.isInteger(kept[key])) state[key] = kept[key];
  for (const [key, values] of Object.entries(ALLOWED)) if (values.includes(kept[key])) state[key] = kept[key];
  for (const key of ["matrix", "linked"]) if (typeof kept[key] === "boolean") state[key] = kept[key];
  if (typeof kept.colormap === "string") state.colormap = kept.colormap;
  if (kept.opacity >= 0 && kept.opacity <= 1) state.opacity = kept.opacity;
  if (isView(kept.views?.generated) && isView(kept.views?.reference)) state.views = copy(kept.views);
  if (["generated", "reference"].includes(kept.ask?.side) && isBox(kept.ask.box)) state.ask = copy(kept.ask);
  return state;
}

/** Of what may be a proxy of Vue's, which structuredClone refuses. */
function copy(value) {
  return JSON.parse(JSON.stringify(value));
}

function isView(view) {
  return [view?.zoom, view?.x, view?.y].every(Number.isFinite) && view.zoom >= 1;
}

function isBox(box) {
  return Array.isArray(box) && box.length === 4 && box.every((side) => side >= 0 && side <= 1);
}
