/** Messages of the map so far: what they say, and that others do no harm. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { differences } from "../../web/viewer/made_by.mjs";
import { enlarged, inferno, meanOf, soFarIn } from "../../web/viewer/so_far.mjs";

const MAP = {
  reference: 0,
  name: "a face",
  normalization: "share",
  grid: [2, 3],
  range: [0.1, 0.4],
  levels: Buffer.from([0, 51, 102, 153, 204, 255]).toString("hex"),
};
const MESSAGE = {
  prompt_id: "p",
  capture: "3:6",
  sampler: "7",
  viewers: ["8", "3:9"],
  step: 3,
  steps: 20,
  items: 1,
  maps: [MAP],
};

test("a message is read", () => {
  const { maps, ...about } = soFarIn(MESSAGE);
  const { capture, sampler, viewers, step, steps, items } = MESSAGE;
  assert.deepEqual(about, { prompt: "p", capture, sampler, viewers, step, steps, items });
  const [{ values, grid, name }] = maps;
  assert.deepEqual([grid, name], [[2, 3], "a face"]);
  for (const [n, value] of [0.1, 0.16, 0.22, 0.28, 0.34, 0.4].entries()) assert.ok(Math.abs(values[n] - value) < 1e-6);
});

test("what is none is null, and never an error", () => {
  for (const other of [undefined, null, 3, "text", [], {}, [MESSAGE]]) assert.equal(soFarIn(other), null);
  for (const key of Object.keys(MESSAGE)) {
    for (const bad of [undefined, null, {}, [null], -1, 0.5])
      assert.equal(soFarIn({ ...MESSAGE, [key]: bad }), null, `${key} ${bad}`);
  }
  for (const key of Object.keys(MAP)) {
    for (const bad of [undefined, null, {}, [null], "!", [0, 1], [1e9, 1e9]].filter(
      (x) => key !== "name" || x !== "!",
    )) {
      if (key === "range" && bad?.length === 2) continue; // these are a range
      assert.equal(soFarIn({ ...MESSAGE, maps: [MAP, { ...MAP, [key]: bad }] }), null, `${key} ${bad}`);
    }
  }
});

test("a map becomes as large as a picture, and keeps its form", () => {
  const { canvas, values, range } = enlarged(soFarIn(MESSAGE).maps[0]);
  assert.deepEqual(canvas, [340, 510]);
  assert.equal(values.length, 340 * 510);
  assert.ok(range.low >= 0 && range.high < 0.5);
});

test("a map has a mean", () => {
  assert.ok(Math.abs(meanOf(soFarIn(MESSAGE).maps[0]) - 0.25) < 1e-6);
});

test("its colours go from dark to bright", () => {
  const table = inferno();
  const light = Array.from(
    { length: 256 },
    (_, i) => 0.3 * table[3 * i] + 0.6 * table[3 * i + 1] + 0.1 * table[3 * i + 2],
  );
  assert.ok(light.every((value, i) => i === 0 || value >= light[i - 1] - 1));
  assert.deepEqual([...table.slice(0, 3)], [0, 0, 4]);
  assert.ok(table[765] > 240 && table[766] > 245);
});

test("a result does not depend on whether the map so far was sent", () => {
  const graph = (inputs) => ({ last: "1", nodes: { 1: { class_type: "I2AM_Capture", inputs } } });
  assert.deepEqual(differences(graph({ every: 1, live: false }), graph({ every: 1, live: true })), []);
  assert.deepEqual(differences(graph({ every: 1 }), graph({ every: 1, live: true })), []);
  assert.equal(differences(graph({ every: 1, live: false }), graph({ every: 2, live: true })).length, 1);
});
