/** Sentences of findings against those that Python makes of the same values (see tests/worded_fixture.py). */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { formatted, worded } from "../../web/viewer/findings.mjs";
import chinese from "../../web/viewer/findings_zh.mjs";

const expected = JSON.parse(readFileSync(new URL("./fixtures/worded.json", import.meta.url)));

test("a sentence is that of Python", () => {
  for (const [template, values, text] of expected.sentences) assert.equal(worded(template, values), text);
});

test("a number is that of Python, also in the middle of two", () => {
  for (const [spec, numbers] of Object.entries(expected.numbers)) {
    for (const [value, text] of numbers) assert.equal(formatted(value, spec), text, `${value} as ${spec}`);
  }
});

test("every sentence in Chinese is among them", () => {
  const templates = new Set(expected.sentences.map(([template]) => template));
  for (const template of Object.values(chinese.sentences)) assert.ok(templates.has(template), template);
});

test("what cannot be worded is an error", () => {
  assert.throws(() => worded("{name} acts", {}), /no value 'name'/);
  assert.throws(() => formatted(1, ">8"), /not formatted by '>8'/);
  assert.throws(() => formatted(NaN, ".2f"), /NaN where a number/);
  assert.throws(() => worded("{x:.2f}", { x: "many" }), /NaN where a number/);
});
