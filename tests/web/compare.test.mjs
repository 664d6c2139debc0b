/** Two runs compared, without a page: which maps belong together, what one has more, and what cannot be compared. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { comparedOf } from "../../web/viewer/compare/difference.mjs";
import { DIVERGING, enlarged } from "../../web/viewer/compare/diverging.mjs";
import { MISSING, sameIn } from "../../web/viewer/compare/same.mjs";
import { readFile } from "../../web/viewer/file.mjs";
import { restore } from "../../web/viewer/heat.mjs";
import { settingsInWords } from "../../web/viewer/made_by.mjs";
import { mapOf } from "../../web/viewer/maps.mjs";
import { settled } from "../../web/viewer/model.mjs";
import { START } from "../../web/viewer/state.mjs";
import { translated, translator } from "../../web/viewer/text.mjs";

const fixture = (name) => readFile(new Uint8Array(readFileSync(new URL(`./fixtures/${name}`, import.meta.url))).buffer);
const file = fixture("view.safetensors");
const effects = fixture("effects.safetensors");
const say = translator("en");

/** The file with another header, and some tensors changed. */
function changed(from, parts, tensors = {}) {
  return { header: { ...from.header, ...parts }, tensors: new Map([...from.tensors, ...Object.entries(tensors)]) };
}

/** The file with its maps on the picture so many times as large. */
function times(factor, from = file) {
  const larger = [...from.tensors]
    .filter(([name]) => /^range\/.*\/r2g_/.test(name))
    .map(([name, { shape, data }]) => [name, { shape, data: data.map((value) => value * factor) }]);
  return changed(from, {}, Object.fromEntries(larger));
}

const sceneOf = (one, parts = {}) => ({
  ...{
    file: one,
    state: settled(one, { ...START, normalization: "paper", ...parts }),
    say,
    question: null,
    pointed: null,
  },
});
const compare = (a, b, parts) => comparedOf(sceneOf(b, parts), a);
const near = (actual, wanted, tolerance) =>
  assert.ok(actual.length === wanted.length && actual.every((value, n) => Math.abs(value - wanted[n]) <= tolerance));

test("what B has more is on one scale with A and B, and 0 is white", () => {
  const { a, b, difference, words } = compare(file, times(3), { step: 1 });
  const values = restore(mapOf(file, sceneOf(file, { step: 1 }).state, "r2g_paper"));
  const { canvas } = file.header.pictures.generated[0];
  const expected = enlarged(
    values.map((value) => 2 * value),
    ...file.header.grid,
    ...canvas,
  );
  near(difference.pane.heat.values, expected, 1e-6);
  const { low, high } = difference.pane.heat.range;
  assert.equal(low, -high);
  assert.ok(Math.abs(high - 2 * Math.max(...values)) < 1e-6);
  assert.deepEqual(a.pane.heat.range, b.pane.heat.range);
  assert.equal(a.pane.heat.range.low, 0);
  assert.equal(difference.colors, DIVERGING);
  assert.match(words[0], /^A: .*concentration/);
  assert.match(words[1], /^B: /);
});

test("white is none, red more and blue less", () => {
  const at = (level) => [...DIVERGING.subarray(3 * level, 3 * level + 3)];
  assert.deepEqual(
    [at(0), at(255)],
    [
      [5, 48, 97],
      [103, 0, 31],
    ],
  );
  for (const middle of [at(127), at(128)]) assert.ok(Math.min(...middle) > 240);
});

test("differences are enlarged linearly, so that none gets another sign", () => {
  assert.deepEqual([...enlarged(Float32Array.of(0, 1), 1, 2, 1, 4)], [0, 0.25, 0.75, 1]);
  const large = enlarged(Float32Array.of(0, 0, 4, 0), 2, 2, 8, 8);
  assert.ok(Math.min(...large) === 0 && Math.max(...large) === 4);
});

test("the same run twice has no difference, which is said", () => {
  const { pane } = compare(file, times(1), {}).difference;
  assert.equal(pane.heat, null);
  assert.match(pane.message, /^No difference: nowhere more than .*, which the files do not resolve\.$/);
});

test("steps are those of the same part of the schedule", () => {
  const sigmas = Array.from({ length: 9 }, (_, n) => 8 - n);
  const twice = changed(file, {
    sigmas,
    steps: [
      [0, 2],
      [2, 4],
      [4, 6],
      [6, 8],
    ],
    joint: [],
  });
  for (const step of [0, 1, 2, 3]) assert.equal(sameIn(twice, file, sceneOf(file, { step }).state).state.step, step);
  const { a, b } = compare(twice, times(2), { step: 1 });
  assert.match(a.pane.detail, /^steps 3 to 4 of 8/);
  assert.match(b.pane.detail, /^step 2 of 4/);
  const halves = changed(file, {
    steps: [
      [0, 1],
      [1, 2],
      [2, 3],
      [3, 4],
    ],
    sigmas: sigmas.slice(0, 5),
  });
  assert.equal(sameIn(halves, twice, sceneOf(twice, { step: 3 }).state).state.step, 3);
  assert.equal(sameIn(twice, file, sceneOf(file, { step: null }).state).state.step, null);
});

test("references and layers are the same by their names", () => {
  const [reference] = file.header.references;
  const other = { ...reference, name: "another", layers: [] };
  const moved = changed(file, { references: [other, reference] });
  assert.equal(sameIn(moved, file, START).state.reference, 1);
  const twins = changed(file, { references: [reference, reference] });
  assert.equal(sameIn(twins, file, START).state.reference, 0);
  assert.equal(sameIn(file, twins, { ...START, reference: 1 }).missing, "reference");
  const named = changed(file, { layers: file.header.layers.map((layer) => ({ ...layer, name: `${layer.name}!` })) });
  assert.equal(sameIn(named, file, { ...START, layer: 1 }).missing, "layer");
  const turned = changed(file, { layers: [...file.header.layers].reverse() });
  assert.equal(sameIn(turned, file, { ...START, layer: 1 }).state.layer, 0);
  assert.equal(sameIn(turned, file, { ...START, layer: 0, head: 1 }).state.head, 1);
  const headless = changed(file, { heads: false });
  assert.equal(sameIn(headless, file, { ...START, head: 1 }).missing, "head");
});

test("what A lacks is said in its place", () => {
  const { a, difference } = compare(file, effects, { normalization: "effect" });
  assert.equal(a.pane.message, MISSING.map);
  assert.equal(a.pane.heat, null);
  assert.equal(difference.pane.heat, null);
  for (const words of Object.values(MISSING)) assert.ok(translated.includes(words), words);
});

/** The file with the effect of its reference measured in other steps, or of another certainty. */
function effectsWith(parts) {
  const maps = effects.header.effects.maps.map((one) => (one.owner === 0 ? { ...one, ...parts } : one));
  return changed(effects, { effects: { ...effects.header.effects, maps } });
}

test("effects are compared in the steps that both have", () => {
  const others = effectsWith({ steps: [0, 3] });
  const missing = (step) => sameIn(others, effects, sceneOf(effects, { normalization: "effect", step }).state).missing;
  assert.deepEqual([null, 0, 1].map(missing), ["step", undefined, "step"]);
  const sigmas = Array.from({ length: 9 }, (_, n) => 8 - n);
  const twice = changed(effectsWith({ steps: [1, 5] }), { sigmas });
  const there = (step) => sameIn(twice, effects, sceneOf(effects, { normalization: "effect", step }).state);
  assert.deepEqual([there(0).state.step, there(1).state.step, there(null).state.step], [0, 1, null]);
});

test("an effect that is too small in one run counts as 0 there, which is said", () => {
  const weak = effectsWith({ certainty: [["rough", "rough", "rough"]] });
  const state = { normalization: "effect", step: 0 };
  const { a, b, difference } = compare(weak, effects, state);
  assert.match(a.pane.message, /^Too weak for a map/);
  assert.equal(difference.pane.detail, "A is too small to measure, and counts as 0");
  const most = Math.max(...difference.pane.heat.values);
  assert.ok(Math.min(...difference.pane.heat.values) >= 0 && Math.abs(most - b.pane.heat.range.high) < 0.1 * most);
  assert.equal(compare(weak, changed(weak, {}), state).difference.pane.message, "Both are too small to measure.");
});

test("regions are compared where they were measured in the same way", () => {
  const state = { normalization: "effect", compared: "reference" };
  const name = "region_strengths/0/0/taken away";
  const tensor = effects.tensors.get(name);
  const stronger = changed(effects, {}, { [name]: { ...tensor, data: tensor.data.map((x) => 2 * x) } });
  assert.ok(Math.min(...compare(effects, stronger, state).difference.pane.heat.values) > 0);
  const regions = effects.header.effects.regions.map((one) => ({ ...one, step: 1 }));
  const later = changed(effects, { effects: { ...effects.header.effects, regions } });
  assert.match(compare(later, stronger, state).difference.pane.message, /^The parts were measured otherwise/);
});

test("maps of another form, grid or scope are not compared", () => {
  const { pictures } = file.header;
  const wide = changed(file, {
    pictures: { ...pictures, generated: [{ ...pictures.generated[0], canvas: [16, 32] }] },
  });
  assert.match(compare(wide, file).difference.pane.message, /another form/);
  const maps = file.tensors.get("maps/0/0/all/r2g_paper");
  const coarse = { shape: [maps.shape[0], 3, 2], data: maps.data.slice(0, maps.shape[0] * 6) };
  const other = changed(file, {}, { "maps/0/0/all/r2g_paper": coarse });
  assert.match(compare(other, file).difference.pane.message, /other grids \(2\u00d73 in A, 4\u00d76 in B\)/);
  const whole = changed(file, { items: [{ scope: "whole image" }] });
  assert.match(compare(whole, file, { compared: "reference" }).difference.pane.message, /^One is of the whole picture/);
});

test("masks that differ are said", () => {
  const mask = file.tensors.get("mask/0");
  const other = changed(times(2), {}, { "mask/0": { ...mask, data: mask.data.map((value) => 1 - value) } });
  assert.equal(compare(file, other).difference.pane.detail, "the masks differ");
  assert.equal(compare(file, times(2)).difference.pane.detail, "");
});

test("the value under the pointer is read in all three", () => {
  const scene = { ...sceneOf(times(3)), pointed: { side: "generated", place: [0.5, 0.5] } };
  const { a, b, difference } = comparedOf(scene, file);
  const [one, other, more] = [a, b, difference].map(({ pane }) => Number(pane.value.match(/[\d.e-]+$/)[0]));
  assert.match(difference.pane.value, /^B - A /);
  assert.ok(Math.abs(other - 3 * one) < 0.05 * other && Math.abs(more - (other - one)) < 0.1 * more);
});

test("settings that differ are said, the first of many", () => {
  const one = (n) => ({ place: `${n}.seed`, node: "KSampler", input: "seed", was: n, is: n + 1 });
  assert.equal(settingsInWords([], say), "A and B have the same settings.");
  assert.equal(settingsInWords([one(3)], say), "KSampler seed: 3 in A, 4 in B");
  assert.equal(settingsInWords([{ ...one(3), is: undefined }], say), "KSampler seed: connected otherwise");
  assert.match(settingsInWords([1, 2, 3, 4, 5].map(one), say), /2 more settings differ\.$/);
});
