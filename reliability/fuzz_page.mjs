/**
 * Broken files of the viewer by the ten thousand, for the page's reader: each is refused in a sentence, or all that the page
 * looks up in it is there. `python -m reliability.fuzz --page` runs it; case n of a seed is the same everywhere.
 */

import { readFileSync } from "node:fs";
import { argv, exit, stderr } from "node:process";
import { fileURLToPath } from "node:url";

import { regionStrengths, specificEffect } from "../web/viewer/effect_regions.mjs";
import { certaintyOf, effectMap, effectMeasure, largestOverSteps, settleEffect } from "../web/viewer/effects.mjs";
import { readFile } from "../web/viewer/file.mjs";
import { kindIn } from "../web/viewer/shown_first.mjs";
import { along, choices, headsOf, mapOf, measureOf, rangeOverSteps, settle, varies } from "../web/viewer/maps.mjs";
import { specific } from "../web/viewer/specific.mjs";
import { START } from "../web/viewer/state.mjs";

const FILES = ["view", "effects", "effects_alone"].map(
  (name) => new URL(`../tests/web/fixtures/${name}.safetensors`, import.meta.url),
);
const SLOW_MS = 2000;
const SENTENCE = /^(the file is damaged|this is no file of|this file has format) ?.*[:.] ?.*\.$/su;
const BOX = [0.1, 0.1, 0.9, 0.9];
const HOSTILE = [
  ...[null, true, false, 0, 1, -1, 2, 0.5, 255, 65537, 1e9, 2 ** 31, 2 ** 53, 1e18, 1e308],
  ...["", "0", "a".repeat(300), "__proto__", "constructor", "U8", "F32", "toString"],
  ...[[], [0], [0, 0], [0, 1e9], [1, 1], [-1, -1], [[0, 1]], [[]], [1e9, 1e9], [0.5, 4], {}, { length: 1e9 }, { a: 1 }],
];

/** mulberry32 @param {number} seed */
function generator(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), 1 | state);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (n) => Math.floor(next() * n);
  return { next, below, choice: (list) => list[below(list.length)] };
}

const apart = (bytes) => {
  const length = new DataView(bytes.buffer).getUint32(0, true);
  return [JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length))), bytes.subarray(8 + length)];
};
const together = (entries, tensors) => {
  const text = new TextEncoder().encode(typeof entries === "string" ? entries : JSON.stringify(entries));
  const bytes = new Uint8Array(8 + text.length + tensors.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  bytes.set(tensors, 8 + text.length);
  return bytes;
};

/** Change something somewhere in a tree: each level down is as likely as to stop. */
function edit(draw, tree) {
  const keys = Object.keys(tree);
  if (!keys.length) return;
  const key = draw.choice(keys);
  const value = tree[key];
  if (typeof value === "object" && value && Object.keys(value).length && draw.next() < 0.6) return edit(draw, value);
  const what = draw.below(6);
  if (what === 0) {
    if (Array.isArray(tree)) tree.splice(Number(key), 1);
    else delete tree[key];
  } else if (what === 1 && Array.isArray(tree)) tree.push(value);
  else if (what === 2 && Number.isInteger(value)) tree[key] += draw.choice([-1, 1, 2, 100, 1e9]);
  else tree[key] = draw.choice(HOSTILE);
}

const MUTATIONS = {
  "bits flipped"(draw, bytes) {
    for (let n = draw.choice([1, 1, 2, 8]); n--;) bytes[draw.below(bytes.length)] ^= 1 << draw.below(8);
    return bytes;
  },
  "bytes of the header"(draw, bytes) {
    const length = 8 + new DataView(bytes.buffer).getUint32(0, true);
    for (let n = draw.choice([1, 1, 2, 4]); n--;) bytes[draw.below(length)] = draw.below(256);
    return bytes;
  },
  "length of the header"(draw, bytes) {
    new DataView(bytes.buffer).setBigUint64(
      0,
      draw.choice([0n, 1n, 2n ** 63n, 2n ** 64n - 1n, 2n ** 32n, 5000n]),
      true,
    );
    return bytes;
  },
  overwritten(draw, bytes) {
    const start = draw.below(bytes.length);
    return bytes.fill(draw.choice([0, 255, 34, 91]), start, start + draw.choice([1, 4, 64, 512]));
  },
  truncated: (draw, bytes) => bytes.slice(0, draw.below(bytes.length)),
  extended: (draw, bytes) => new Uint8Array([...bytes, ...bytes.slice(0, 1 + draw.below(100))]),
  "tensor's entry"(draw, bytes) {
    const [entries, tensors] = apart(bytes);
    const name = draw.choice(Object.keys(entries).filter((key) => key !== "__metadata__"));
    const field = draw.choice(["dtype", "shape", "data_offsets", "", "name", "gone"]);
    if (field === "gone") delete entries[name];
    else if (field === "name") [entries[name + "0"], entries[name]] = [entries[name], undefined];
    else if (field === "shape" && draw.next() < 0.5) entries[name].shape.reverse();
    else if (field) entries[name][field] = draw.choice([...HOSTILE, "I32", "U8", "F32", "F64"]);
    else entries[name] = draw.choice(HOSTILE);
    return together(entries, tensors);
  },
  "header's fields"(draw, bytes) {
    const [entries, tensors] = apart(bytes);
    const header = JSON.parse(entries.__metadata__.i2am_view);
    for (let n = draw.choice([1, 1, 1, 2, 3]); n--;) edit(draw, header);
    entries.__metadata__.i2am_view = JSON.stringify(header);
    return together(entries, tensors);
  },
  "header's text"(draw, bytes) {
    const [entries, tensors] = apart(bytes);
    const text = entries.__metadata__.i2am_view;
    const place = draw.below(text.length);
    const what = draw.choice([
      "NaN,",
      "1e999,",
      "[".repeat(2000),
      "9".repeat(500),
      '"items":1e9,',
      " ",
      "\0",
      '"__proto__":{},',
    ]);
    entries.__metadata__.i2am_view = draw.choice([text.slice(0, place) + what + text.slice(place), what, {}, 1, null]);
    return together(entries, tensors);
  },
  "values of a tensor"(draw, bytes) {
    const [, tensors] = apart(bytes);
    const values = new DataView(bytes.buffer, bytes.length - tensors.length);
    for (let n = draw.choice([1, 2, 50]); n--;) {
      const place = 4 * draw.below(Math.floor(tensors.length / 4));
      if (draw.next() < 0.5) values.setInt32(place, draw.choice([-1, 1e9, 24, -(2 ** 31)]), true);
      else values.setFloat32(place, draw.choice([NaN, Infinity, -Infinity, 1e38, -1]), true);
    }
    return bytes;
  },
};

/** All that the page looks up in a file, as far as it lies in a few selections. */
function use(file, draw) {
  const { header } = file;
  for (let round = 0; round < 4; round++) {
    const pick = (n) => (round ? draw.below(n) : null);
    const wanted = {
      ...START,
      item: draw.below(3),
      reference: draw.below(3),
      layer: pick(3),
      step: pick(5),
      head: pick(7),
    };
    const selection = settle(header, wanted);
    for (const field of ["r2g_paper", "r2g_share", "g2r_paper", "g2r_share"]) {
      const map = mapOf(file, selection, field);
      if (map && map.levels.length !== map.height * map.width) throw new Error("a map has another size than it says");
      rangeOverSteps(file, selection, field);
    }
    for (const measure of header.measures) {
      if (typeof measureOf(file, selection, measure) !== "number") throw new Error("a measure is no number");
      varies(file, selection, measure);
      for (const axis of ["step", "layer", "head"]) along(file, selection, axis, measure);
    }
    headsOf(header, selection.reference, selection.layer);
    choices(header, selection, "head");
    for (const side of ["generated", "reference"]) specific(file, selection, side, BOX);
    useEffects(file, draw, { ...wanted, normalization: "effect", kind: "effect" });
  }
}

/** What it looks up of effects, where the file has any. */
function useEffects(file, draw, wanted) {
  kindIn(file, { ...wanted, normalization: "best" });
  if (kindIn(file, wanted) !== "effect") return;
  for (const owner of [null, "text", "conditioning", "all references"]) {
    const cut = draw.choice(["taken away", "only this left"]);
    const route = draw.choice(["everything", "directly"]);
    const selection = settleEffect(file.header, { ...wanted, owner, cut, route });
    const map = effectMap(file, selection);
    if (map && map.levels.length !== map.height * map.width) throw new Error("a map has another size than it says");
    if (typeof effectMeasure(file, selection, "floor") !== "number") throw new Error("a measure is no number");
    certaintyOf(file.header, selection).length;
    largestOverSteps(file, selection);
    regionStrengths(file, selection);
    for (const side of ["generated", "reference"]) specificEffect(file, selection, side, BOX);
  }
}

/**
 * Try so many cases from one of this number on.
 * @returns {{outcomes: Record<string, number>, failures: string[]}} of a failure what it was
 */
export function fuzz(mutations, seed, first = 0) {
  const originals = FILES.map((file) => new Uint8Array(readFileSync(file)));
  const outcomes = { refused: 0, read: 0, "raw error": 0, late: 0, slow: 0 };
  const failures = [];
  for (let number = first; number < first + mutations; number++) {
    const draw = generator(seed * 1_000_003 + number);
    const name = draw.choice(Object.keys(MUTATIONS));
    const bytes = MUTATIONS[name](draw, new Uint8Array(draw.choice(originals)));
    const start = performance.now();
    let [outcome, reason, file] = ["read", "", null];
    try {
      file = readFile(bytes.slice().buffer);
    } catch (error) {
      outcome = error.constructor === Error && SENTENCE.test(error.message) ? "refused" : "raw error";
      reason = error.stack;
    }
    try {
      if (file) use(file, draw);
    } catch (error) {
      [outcome, reason] = ["late", error.stack];
    }
    if (performance.now() - start > SLOW_MS) outcome = "slow";
    outcomes[outcome]++;
    if (!["refused", "read"].includes(outcome)) failures.push(`case ${number}: ${name}: ${outcome}: ${reason}`);
    if ((number - first) % 20000 === 19999) stderr.write(`${number + 1 - first} of ${mutations}\n`);
  }
  return { outcomes, failures };
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  const [mutations, seed, first] = argv.slice(2).map(Number);
  const { outcomes, failures } = fuzz(mutations || 1000, seed || 0, first || 0);
  for (const failure of failures.slice(0, 20)) console.log(failure);
  console.log(`| ${mutations || 1000} files of the viewer | ${Object.keys(outcomes).join(" | ")} |`);
  console.log("|---|" + "---:|".repeat(Object.keys(outcomes).length));
  console.log(`| the page's reader | ${Object.values(outcomes).join(" | ")} |`);
  exit(failures.length ? 1 : 0);
}
