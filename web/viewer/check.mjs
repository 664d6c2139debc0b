/**
 * The header of a viewer's file against its tensors: all that the page relies on, checked once, when the file is read.
 * Nothing is made that is as large as the header says before it is known to be so large.
 */

import { CUTS, PARTS, ROUTES } from "./kinds.mjs";

/** @import { Tensor } from "./file.mjs" */

/** @typedef {Map<string, Tensor>} Tensors */

const SIDE = 65536; // of a grid, at most
const CANVAS = 4096; // px of a heat's side, at most
const WEIGHTS = ["fault", "fact", "fine"];
const MEASURES = ["share", "inside", "concentration"];
const SCOPES = ["whole image", "inpainting mask"];
const EFFECT_MEASURES = ["strength", "everywhere", "inside", "floor"];
const CERTAINTIES = ["measured", "rough", "too small to measure", "none"];

/**
 * @param {boolean} holds
 * @param {string} what is wrong otherwise
 */
export function check(holds, what) {
  if (!holds) throw new Error(`the file is damaged: ${what}. Queue the workflow again.`);
}

/** @param {unknown} value */
export const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** @param {unknown} value @param {number} [least] @param {number} [most] */
export const isCount = (value, least = 0, most = Number.MAX_SAFE_INTEGER) =>
  Number.isSafeInteger(value) && Number(value) >= least && Number(value) <= most;

/** @param {unknown} value */
const isText = (value) => typeof value === "string";

/** @param {unknown} value @param {number} [most] */
const isSize = (value, most = SIDE) =>
  Array.isArray(value) && value.length === 2 && value.every((side) => isCount(side, 1, most));

/** @param {unknown} value @param {(item: any) => boolean} fits @param {number} [least] */
const isList = (value, fits, least = 0) => Array.isArray(value) && value.length >= least && value.every(fits);

/**
 * @param {any} header
 * @param {Tensors} tensors
 * @throws {Error} in one sentence, for what does not fit
 */
export function checkHeader(header, tensors) {
  checkRun(header);
  checkParts(header);
  checkPictures(header, tensors);
  checkSheets(header, tensors);
  checkPairs(header, tensors);
  if (header.video !== undefined) checkVideo(header, tensors);
  if (header.effects !== undefined) checkEffects(header, tensors);
  if (header.made_by !== undefined) checkMadeBy(header.made_by);
  if (header.findings !== undefined) checkFindings(header);
}

/** @param {any} header */
function checkFindings({ findings, items, references, sigmas }) {
  /** @param {any} proof */
  const isProof = (proof) =>
    isObject(proof) &&
    isText(proof.shows) &&
    isCount(proof.reference, 0, Math.max(0, references.length - 1)) &&
    isList(proof.steps, (step) => isCount(step, 0, sigmas.length - 2));
  /** @param {any} one */
  const isFinding = (one) =>
    isObject(one) &&
    [one.key, one.sentence].every(isText) &&
    WEIGHTS.includes(one.weight) &&
    isCount(one.item, 0, items.length - 1) &&
    isObject(one.values) &&
    isList(one.tries, (advice) => isObject(advice) && isText(advice.sentence)) &&
    isProof(one.evidence);
  check(isList(findings, isFinding), "its findings are none");
}

/** @param {any} by */
function checkMadeBy(by) {
  const fits = isObject(by) && isObject(by.nodes) && isText(by.last) && Object.hasOwn(by.nodes, by.last);
  /** @param {any} node */
  const isNode = (node) => isObject(node) && isText(node.class_type) && isObject(node.inputs);
  check(fits && Object.values(by.nodes).every(isNode), "it does not say which settings made it");
}

/** @param {any} header */
function checkRun(header) {
  check(isList(header.sigmas, Number.isFinite, 2), "its sigmas are no numbers");
  const steps = header.sigmas.length - 1;
  check(
    isList(header.steps, Array.isArray, 1) && divides(header.steps, steps),
    "its groups of steps are not all steps",
  );
  const joint = isList(header.joint, Array.isArray) && (!header.joint.length || divides(header.joint, steps));
  check(joint, "its groups of steps with heads are not all steps");
  check(typeof header.heads === "boolean", "it does not say whether heads are resolved");
  check(isSize(header.grid) && isCount(header.frames, 1), "its grid has no size");
  check(
    isList(header.measures, (name) => MEASURES.includes(name)),
    "its measures are not known",
  );
  const texts = [header.mechanism, header.branch, header.summary];
  check(texts.every(isText) && isList(header.notes, isText), "its notes are no text");
  const counts = isObject(header.skipped) && Object.values(header.skipped).every((count) => isCount(count));
  const { missed_calls: missed = 0, all_observed: all = false } = header;
  check(counts && isCount(header.captured_calls) && isCount(missed), "its calls are not counted");
  check(typeof all === "boolean", "it does not say whether all calls were observed");
}

/**
 * Whether groups of steps follow one another and hold all.
 * @param {unknown[][]} groups
 * @param {number} steps
 */
function divides(groups, steps) {
  let end = 0;
  for (const [low, high, ...more] of groups) {
    if (low !== end || !isCount(high, end + 1, steps) || more.length) return false;
    end = Number(high);
  }
  return end === steps;
}

/**
 * Items, layers and references.
 * @param {any} header
 */
function checkParts({ items, layers, references, effects }) {
  check(
    isList(items, (item) => isObject(item) && SCOPES.includes(item.scope), 1),
    "its items have no scope",
  );
  /** @param {any} x */
  const isLayer = (x) => isObject(x) && isText(x.name) && isSize(x.grid) && isCount(x.frames, 1) && isCount(x.heads, 1);
  check(isList(layers, isLayer), "its layers have no size");
  /** @param {any} number */
  const isNumber = (number) => isCount(number, 0, layers.length - 1);
  /** @param {any} x */
  const isReference = (x) =>
    isObject(x) &&
    isText(x.name) &&
    isCount(x.tokens, 1) &&
    (x.grid === null || isSize(x.grid)) &&
    typeof x.approximate === "boolean" &&
    isList(x.layers, isNumber) &&
    isList(x.heads, (group) => isList(group, (count) => isCount(count, 1)) && group.length === 2) &&
    isList(x.pairs_captured, isNumber);
  const fewest = effects === undefined ? 1 : 0; // a run may have effects without any reference that I2AM can read
  check(isList(references, isReference, fewest), "its references are not described");
}

/**
 * @param {any} header
 * @param {Tensors} tensors
 */
function checkPictures({ pictures, items, references, colormaps, sigmas, predictions }, tensors) {
  /** @param {any} x */
  const isPicture = (x) =>
    isObject(x) && isSize(x.canvas, CANVAS) && isText(x.note) && (x.name === null || isImage(tensors.get(x.name)));
  /** @param {any} list */
  const isOfItems = (list) => isList(list, isPicture) && list.length === items.length;
  check(isObject(pictures) && isOfItems(pictures.generated), "its generated pictures are not there");
  const all = isList(pictures.reference, isOfItems) && pictures.reference.length === references.length;
  check(all, "its reference pictures are not there");
  check(isList(colormaps, isText, 1), "its colormaps have no names");
  checkTensor(tensors, "colormaps", Uint8Array, [colormaps.length, 256, 3]);
  /** @param {any} x */
  const isPair = (x) =>
    isObject(x) &&
    isCount(x.item, 0, items.length - 1) &&
    (PARTS.includes(x.owner) || isCount(x.owner, 0, references.length - 1)) &&
    isCount(x.step, 0, sigmas.length - 2) &&
    [x.picture_with, x.picture_without].every((name) => isImage(tensors.get(name)));
  check(predictions === undefined || isList(predictions, isPair), "its pictures with and without are not described");
  pictures.generated.forEach((/** @type {any} */ { canvas }, /** @type {number} */ item) => {
    if (tensors.has(`mask/${item}`)) checkTensor(tensors, `mask/${item}`, Uint8Array, canvas);
  });
}

/** @param {Tensor | undefined} tensor */
const isImage = (tensor) => tensor?.data instanceof Uint8Array && tensor.shape.length === 1;

/**
 * @param {Tensors} tensors
 * @param {string} name
 * @param {Function} ArrayOf its type
 * @param {(number | null)[]} shape null is any length but 0
 */
function checkTensor(tensors, name, ArrayOf, shape) {
  const tensor = tensors.get(name);
  check(tensor !== undefined, `it has no '${name}'`);
  const got = /** @type {Tensor} */ (tensor);
  const fits =
    got.shape.length === shape.length && shape.every((n, i) => (n === null ? got.shape[i] > 0 : n === got.shape[i]));
  check(fits && got.data instanceof ArrayOf, `'${name}' has another shape or type than its header says`);
  return got;
}

/**
 * The sheets of each reference: the mean of its layers, and each of these; as many rows as `rowOf` may ask for.
 * @param {any} header
 * @param {Tensors} tensors
 */
function checkSheets({ items, references, layers, steps, joint, heads: resolved }, tensors) {
  references.forEach((/** @type {any} */ reference, /** @type {number} */ number) => {
    if (!reference.layers.length) return;
    const all = reference.heads.reduce((/** @type {number} */ sum, /** @type {number[]} */ [of]) => sum + of, 0);
    const sheets = [["all", all], ...reference.layers.map((/** @type {number} */ n) => [n, layers[n].heads])];
    for (let item = 0; item < items.length; item++) {
      for (const [layer, heads] of sheets) {
        const rows = 1 + steps.length + (resolved ? heads * (1 + joint.length) : 0);
        checkSheet(tensors, `${item}/${number}/${layer}`, rows);
      }
    }
  });
}

/**
 * @param {Tensors} tensors
 * @param {string} place of the sheet, in the names of tensors
 * @param {number} rows
 */
function checkSheet(tensors, place, rows) {
  check(tensors.has(`maps/${place}/r2g_paper`), `it has no 'maps/${place}/r2g_paper'`);
  for (const field of ["r2g_paper", "r2g_share", "g2r_paper", "g2r_share"]) {
    if (!tensors.has(`maps/${place}/${field}`)) continue;
    checkTensor(tensors, `maps/${place}/${field}`, Uint8Array, [rows, null, null]);
    checkTensor(tensors, `range/${place}/${field}`, Float32Array, [rows, 2]);
  }
  checkTensor(tensors, `measures/${place}`, Float32Array, [MEASURES.length, rows]);
}

/**
 * Single frames: of the mean of a reference's layers, and of those of its layers that the header names.
 * @param {any} header
 * @param {Tensors} tensors
 */
function checkVideo({ video, items, references, layers }, tensors) {
  const known = isObject(video) && isCount(video.frames, 2, SIDE);
  const listed = known && isList(video.layers, (number) => isCount(number, 0, layers.length - 1));
  check(listed, "its frames are not described");
  references.forEach((/** @type {any} */ reference, /** @type {number} */ number) => {
    if (!reference.layers.length) return;
    for (const layer of ["all", ...reference.layers.filter((/** @type {number} */ n) => video.layers.includes(n))]) {
      for (let item = 0; item < items.length; item++) checkFrames(tensors, `${item}/${number}/${layer}`, video.frames);
    }
  });
}

/**
 * @param {Tensors} tensors
 * @param {string} place of the sheet, in the names of tensors
 * @param {number} frames
 */
function checkFrames(tensors, place, frames) {
  for (const field of ["r2g_paper", "r2g_share"]) {
    checkTensor(tensors, `frames/${place}/${field}`, Uint8Array, [frames, null, null]);
    checkTensor(tensors, `frame_range/${place}/${field}`, Float32Array, [frames, 2]);
  }
  checkTensor(tensors, `frame_measures/${place}`, Float32Array, [MEASURES.length, frames]);
}

/**
 * The pair maps that the header says are in the file.
 * @param {any} header
 * @param {Tensors} tensors
 */
function checkPairs({ pairs, items, references, layers }, tensors) {
  check(isObject(pairs), "its pair maps are not listed");
  for (const [place, numbers] of Object.entries(pairs)) {
    const [item, reference, ...more] = place.split("/").map(Number);
    const known = item in items && reference in references && !more.length;
    const paired = known && isList(numbers, (n) => references[reference].pairs_captured.includes(n));
    check(paired, "it lists pair maps of what it does not have");
    for (const number of numbers) checkPairsOf(tensors, `${place}/${number}`, layers[number]);
  }
}

/**
 * @param {Tensors} tensors
 * @param {string} place in the names of tensors
 * @param {any} layer
 */
function checkPairsOf(tensors, place, { grid, frames }) {
  const positions = checkTensor(tensors, `pair_rows/${place}`, Int32Array, [null]);
  const count = positions.data.length;
  const cells = grid[0] * grid[1] * frames;
  check(
    positions.data.every((cell) => cell >= 0 && cell < cells),
    `'pair_rows/${place}' leaves the grid of its layer`,
  );
  const [, height, width] = checkTensor(tensors, `pairs/${place}/g2r`, Uint8Array, [count, null, null]).shape;
  checkTensor(tensors, `pairs/${place}/r2g`, Uint8Array, [height * width, count]);
  checkTensor(tensors, `pair_range/${place}/g2r`, Float32Array, [count, 2]);
  checkTensor(tensors, `pair_range/${place}/r2g`, Float32Array, [height * width, 2]);
}

/**
 * What was measured of effects, with a map and measures for each picture.
 * @param {any} header
 * @param {Tensors} tensors
 */
function checkEffects({ effects, items, references, sigmas, grid }, tensors) {
  check(isObject(effects) && isList(effects.measures, isText), "its effects are not described");
  check(effects.measures.join() === EFFECT_MEASURES.join(), "its measures of effects are not known");
  check(
    isObject(effects.unmeasured) && Object.values(effects.unmeasured).every(isText),
    "its effects are not described",
  );
  /** @param {any} step */
  const isStep = (step) => isCount(step, 0, sigmas.length - 2);
  /** @param {any} number */
  const isReference = (number) => isCount(number, 0, references.length - 1);
  /** @param {any} x */
  const isEffect = (x) =>
    isObject(x) &&
    (isReference(x.owner) || PARTS.includes(x.owner)) &&
    ROUTES.includes(x.route) &&
    isList(x.steps, isStep, 1) &&
    isList(x.certainty, (list) => isList(list, (one) => CERTAINTIES.includes(one))) &&
    x.certainty.length === items.length &&
    x.certainty.every((/** @type {any} */ list) => list.length === 1 + x.steps.length);
  check(isList(effects.maps, isEffect), "its effects are not described");
  /** @param {any} x */
  const isRegions = (x) =>
    isObject(x) &&
    isReference(x.reference) &&
    CUTS.includes(x.cut) &&
    ROUTES.includes(x.route) &&
    isStep(x.step) &&
    isSize(x.grid) &&
    typeof x.in_file === "boolean";
  check(isList(effects.regions, isRegions), "its effects of regions are not described");
  for (let item = 0; item < items.length; item++) {
    checkTensor(tensors, `effect_floor/${item}`, Float32Array, grid);
    for (const one of effects.maps)
      checkEffect(tensors, `${item}/${one.owner}/${one.route}`, 1 + one.steps.length, grid);
    for (const one of effects.regions) checkRegions(tensors, `${item}/${one.reference}/${one.cut}`, one, grid);
  }
}

/**
 * @param {Tensors} tensors
 * @param {string} place in the names of tensors
 * @param {number} rows
 * @param {number[]} grid
 */
function checkEffect(tensors, place, rows, grid) {
  checkTensor(tensors, `effects/${place}`, Uint8Array, [rows, ...grid]);
  checkTensor(tensors, `effect_range/${place}`, Float32Array, [rows, 2]);
  checkTensor(tensors, `effect_measures/${place}`, Float32Array, [EFFECT_MEASURES.length, rows]);
}

/**
 * @param {Tensors} tensors
 * @param {string} place in the names of tensors
 * @param {any} regions
 * @param {number[]} grid
 */
function checkRegions(tensors, place, { grid: [rows, columns], in_file: inFile }, grid) {
  checkTensor(tensors, `region_strengths/${place}`, Float32Array, [rows, columns]);
  if (!inFile) return;
  checkTensor(tensors, `regions/${place}`, Uint8Array, [rows * columns, ...grid]);
  checkTensor(tensors, `region_range/${place}`, Float32Array, [rows * columns, 2]);
}
