/** Findings on the page: in which language, of which picture, and what of the viewer proves them. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { evidenceOf, findingsOf } from "../../web/viewer/evidence.mjs";
import { readFile } from "../../web/viewer/file.mjs";
import { changed } from "../../web/viewer/model.mjs";
import { sentencesIn } from "../../web/viewer/sentences.mjs";
import { START } from "../../web/viewer/state.mjs";

const bytes = readFileSync(new URL("./fixtures/effects.safetensors", import.meta.url));
const file = readFile(new Uint8Array(bytes).buffer);
const [measured] = file.header.effects.maps;

const finding = (parts = {}, proof = {}) => ({
  item: 0,
  key: "strength: weak",
  weight: "fault",
  sentence: "reference 0 ('a') hardly acts: without it, the picture changes by 0.07 latent units.",
  values: {
    name: "reference 0 ('a')",
    without: "without it",
    where: "the picture",
    strength: 0.07,
    least: 0.1,
    steps: "0",
  },
  of_thumb: true,
  of_run: false,
  tries: [{ sentence: "strength 2 on I2AM Steer", measures: false }],
  evidence: { shows: "effect", direction: "r2g", owner: 0, steps: [], reference: 0, ...proof },
  ...parts,
});

test("a finding leads to the map that proves it", () => {
  const proof = evidenceOf(file, finding({}, { owner: measured.owner, steps: [measured.steps[1]] }));
  const state = changed(file, { ...START, normalization: "share", layer: 0 }, proof);
  assert.equal(state.kind, "effect");
  assert.equal(state.step, 1);
  assert.equal(state.layer, null);
  const all = evidenceOf(file, finding({}, { owner: measured.owner, steps: measured.steps }));
  assert.equal(all.step, null);
});

test("one of attention leads to how much, in its steps", () => {
  const [first, end] = file.header.steps[1];
  const steps = Array.from({ length: end - first }, (_, n) => first + n);
  const proof = evidenceOf(file, finding({}, { shows: "attention", owner: null, steps }));
  assert.deepEqual([proof.normalization, proof.step, proof.owner], ["share", 1, null]);
  assert.equal(evidenceOf(file, finding({}, { shows: "attention", steps: [] })).step, null);
});

test("one of attention leads to where queries match, where the share is 1 everywhere", () => {
  const name = "measures/0/0/all";
  const measures = file.tensors.get(name);
  const all = { ...measures, data: measures.data.slice() };
  const [, rows] = measures.shape;
  all.data.fill(1, rows * file.header.measures.indexOf("share"), rows * (file.header.measures.indexOf("share") + 1));
  const alone = { ...file, tensors: new Map([...file.tensors, [name, all]]) };
  assert.equal(evidenceOf(alone, finding({}, { shows: "attention", owner: null })).normalization, "paper");
});

test("one of the whole run leads to no map", () => {
  assert.equal(evidenceOf(file, finding({}, { shows: "run" })), null);
});

test("a picture has its own findings, and those of the run once", () => {
  const findings = [
    finding(),
    finding({ item: 1, sentence: "b" }),
    ...[0, 1].map((item) => finding({ item, of_run: true, sentence: "c" })),
  ];
  assert.deepEqual(
    findingsOf({ findings }, 1).map((one) => one.sentence),
    ["b", "c"],
  );
  assert.deepEqual(findingsOf({}, 0), []);
});

test("sentences are in the language of the page", () => {
  const [english, chinese] = ["en", "zh-TW"].map(sentencesIn);
  assert.equal(english.finding(finding()), finding().sentence);
  assert.match(chinese.finding(finding()), /^参考图 0（'a'）.*0\.07.*0\.10/);
  assert.equal(chinese.finding(finding({ key: "of a newer version" })), finding().sentence);
  assert.equal(
    english.advice(finding().tries[0]),
    "Try: strength 2 on I2AM Steer (a guess, until a second run shows it).",
  );
  assert.match(chinese.advice(finding().tries[0]), /^可以尝试：将 I2AM Steer/);
  const second = { sentence: "strength 2 on I2AM Steer (reference 1 of I2AM Steer)", measures: true };
  assert.match(chinese.advice(second), /参考图 1/);
});
