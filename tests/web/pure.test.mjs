/** The viewer's pure parts against what i2am_core says of the same file (fixtures, see view_fixture.py). */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

import { regionEdges, regionStrengths, specificEffect } from "../../web/viewer/effect_regions.mjs";
import {
  certaintyFor,
  certaintyOf,
  choicesOf,
  cutsOf,
  effectMap,
  effectMeasure,
  largestOverSteps,
  ownersOf,
  regionsOf,
  settleEffect,
} from "../../web/viewer/effects.mjs";
import { specific, strongest } from "../../web/viewer/specific.mjs";
import { checkHeader } from "../../web/viewer/check.mjs";
import { download, Gone, readFile } from "../../web/viewer/file.mjs";
import { boxOf, cellsOf, fit, pan, placeOf, transformOf, WHOLE, zoomAt } from "../../web/viewer/geometry.mjs";
import {
  paint,
  paintContours,
  paletteOf,
  rangeOf,
  resampled,
  resize,
  restore,
  strength,
} from "../../web/viewer/heat.mjs";
import {
  along,
  choices,
  headsOf,
  mapOf,
  measureOf,
  rangeOverSteps,
  rowOf,
  settle,
  stepsOf,
  varies,
} from "../../web/viewer/maps.mjs";
import { BELOW, BUTTONS, MENUS, STATE } from "../../web/viewer/controls/listed.mjs";
import { imacs } from "../../web/viewer/score.mjs";
import { differences, inWords, settingsInWords } from "../../web/viewer/made_by.mjs";
import { changed, hasJoint, nextAlong, settled as settledIn } from "../../web/viewer/model.mjs";
import { callWords } from "../../web/viewer/controls/notes.mjs";
import { footerOf } from "../../web/viewer/export/saving.mjs";
import { barsOf } from "../../web/viewer/controls/scrubber.mjs";
import { overlayOf } from "../../web/viewer/overlay.mjs";
import { describe, screenOf, sidesOf } from "../../web/viewer/screen.mjs";
import { START, stateFrom } from "../../web/viewer/state.mjs";
import { kindIn } from "../../web/viewer/shown_first.mjs";
import { Store } from "../../web/viewer/store.mjs";
import { animate } from "../../web/viewer/export/webp.mjs";
import { encodeReport } from "../../web/viewer/export/json.mjs";
import { translated, translator } from "../../web/viewer/text.mjs";
import { percent, small } from "../../web/viewer/words.mjs";

const at = (name) => new URL(`./fixtures/${name}`, import.meta.url);
const bytes = () => new Uint8Array(readFileSync(at("view.safetensors"))).buffer;
const file = readFile(bytes());
const expected = JSON.parse(readFileSync(at("view.json")));
const all = { item: 0, reference: 0, layer: null, step: null, head: null };

const near = (actual, wanted, tolerance, what) => {
  assert.equal(actual.length, wanted.length, what);
  const worst = Math.max(...Array.from(wanted, (value, i) => Math.abs(value - actual[i])));
  assert.ok(worst <= tolerance, `${what}: ${worst} > ${tolerance}`);
};
/** Values as parts of their range. */
const parts = (values) => {
  const { low, scale } = strength(rangeOf(values));
  return Array.from(values, (value) => (value - low) * scale);
};
const spread = (values) => Math.max(...values) - Math.min(...values);

test("a file is read as it was written", () => {
  assert.equal(file.header.mechanism, "fixture");
  assert.deepEqual(file.tensors.get("maps/0/0/all/r2g_paper").shape, [1 + 4 + 5 + 4 * 5, 6, 4]);
  assert.ok(file.tensors.get("range/0/0/all/r2g_paper").data instanceof Float32Array);
  assert.ok(file.tensors.get("pair_rows/0/0/0").data instanceof Int32Array);
});

test("tensors that do not lie on their own boundaries are read too", () => {
  const source = new Uint8Array(bytes());
  const length = new DataView(source.buffer).getUint32(0, true);
  const moved = new Uint8Array(source.length + 1);
  moved.set(source.subarray(0, 8 + length));
  moved[8 + length] = 32; // a blank at the end of the header moves everything by one
  moved.set(source.subarray(8 + length), 9 + length);
  new DataView(moved.buffer).setBigUint64(0, BigInt(length + 1), true);
  const same = readFile(moved.buffer);
  for (const [name, { data }] of file.tensors) assert.deepEqual(same.tensors.get(name).data, data, name);
});

test("what is no such file is refused in one sentence", () => {
  assert.throws(() => readFile(new ArrayBuffer(3)), /damaged: it ends after 3 bytes/);
  assert.throws(() => readFile(bytes().slice(0, 200)), /damaged/);
  assert.throws(() => readFile(bytes().slice(0, -8)), /damaged: '.*' is not where or what its header says/);
  const other = new TextEncoder().encode('........{"__metadata__":{}}');
  new DataView(other.buffer).setBigUint64(0, BigInt(other.length - 8), true);
  assert.throws(() => readFile(other.buffer), /no file of an I2AM Viewer/);
});

test("a download reports its progress, and a file that is gone", async () => {
  const parts = [];
  const received = await download(
    async () => new Response(bytes()),
    bytes().byteLength,
    (part) => parts.push(part),
  );
  assert.deepEqual(new Uint8Array(received), new Uint8Array(bytes()));
  assert.equal(parts.at(-1), 1);
  await assert.rejects(
    download(
      async () => new Response("", { status: 404 }),
      1,
      () => {},
    ),
    Gone,
  );
});

test("maps are those of i2am_core for the same selection", () => {
  for (const { field, selection, values, canvas, heat } of expected.maps) {
    const map = mapOf(file, { ...all, ...selection }, field);
    const what = `${field} ${JSON.stringify(selection)}`;
    const restored = restore(map);
    near(restored, values, spread(values) / 500 + 1e-7, what);
    near(parts(resize(restored, map.height, map.width, ...canvas)), heat, 2 / 255, `heat of ${what}`);
  }
});

test("what was not captured is no map", () => {
  assert.equal(mapOf(file, { ...all, ...expected.missing }, "r2g_paper"), null);
  assert.ok(Number.isNaN(measureOf(file, { ...all, ...expected.missing }, "share")));
  assert.equal(mapOf(file, all, "r2g_nothing"), null);
});

test("colours are those of i2am_core", () => {
  const map = mapOf(file, all, "r2g_paper");
  const values = resize(restore(map), map.height, map.width, ...expected.canvas);
  const pixels = new Uint8ClampedArray(4 * values.length);
  paint(values, rangeOf(values), paletteOf(expected.table), new Uint32Array(pixels.buffer));
  const colors = Array.from(pixels).filter((_, i) => i % 4 < 3);
  near(colors, expected.colors, 8, "colours"); // of a neighbouring level at most
  assert.ok(pixels.every((value, i) => i % 4 < 3 || value === 255));
});

test("contours are drawn between bands only, with a dark halo", () => {
  const values = [0, 0, 0, 0, 1, 1, 1, 1];
  const pixels = new Uint32Array(16).fill(7);
  paintContours([...values, ...values], { low: 0, high: 1 }, new Uint32Array(256).fill(9), pixels, 8);
  const [halo] = new Uint32Array(Uint8Array.of(0, 0, 0, 160).buffer);
  const row = [0, halo, 9, 9, halo, 0, 0, 0];
  assert.deepEqual(Array.from(pixels), [...row, ...row]);
});

test("IMACS is that of i2am_core", () => {
  const map = mapOf(file, all, "r2g_paper");
  const values = resize(restore(map), map.height, map.width, ...expected.canvas);
  const range = rangeOf(values);
  assert.ok(Math.abs(imacs(values, range, expected.mask) - expected.imacs) < 0.02);
  assert.equal(
    imacs(
      values,
      range,
      expected.mask.map(() => 1),
    ),
    null,
  );
  assert.equal(
    imacs(
      values,
      range,
      expected.mask.map(() => 0),
    ),
    null,
  );
});

test("a part that is asked about gets the answer of i2am_core", () => {
  for (const { side, box, values, shape } of expected.asked) {
    const answer = specific(file, all, side, box);
    assert.deepEqual([answer.height, answer.width], shape);
    assert.deepEqual(answer.layers, [0, 1]);
    near(answer.values, values, spread(values) / 100, `${side} ${box}`);
  }
});

test("where there is no answer, there is a reason", () => {
  assert.deepEqual(specific(file, all, "generated", [0, 0, 0, 0]), { missing: "outside" });
  const without = (change) => ({ ...file, header: { ...file.header, ...change } });
  const [reference] = file.header.references;
  assert.deepEqual(
    specific(without({ references: [{ ...reference, pairs_captured: [] }] }), all, "generated", [0.5, 0.5, 0.5, 0.5]),
    { missing: "pairs" },
  );
  const fewer = without({ references: [{ ...reference, pairs_captured: [0] }], pairs: { "0/0": [0] } });
  assert.deepEqual(specific(fewer, { ...all, layer: 1 }, "generated", [0.5, 0.5, 0.5, 0.5]), { missing: "layer" });
  assert.deepEqual(
    specific(without({ pairs: { "0/0": [0] } }), { ...all, layer: 1 }, "generated", [0.5, 0.5, 0.5, 0.5]),
    {
      missing: "left out",
    },
  );
});

const effects = readFile(new Uint8Array(readFileSync(at("effects.safetensors"))).buffer);
const alone = readFile(new Uint8Array(readFileSync(at("effects_alone.safetensors"))).buffer);
const caused = JSON.parse(readFileSync(at("effects.json")));
const ofEffect = { ...START, normalization: "effect", kind: "effect" };

test("effects are those of i2am_core for the same selection", () => {
  const check = (state, values) => {
    near(restore(effectMap(effects, state)), values, spread(values) / 500 + 1e-7, `step ${state.step}`);
  };
  check(ofEffect, caused.unified);
  caused.steps.forEach((values, step) => check({ ...ofEffect, step }, values));
  check({ ...ofEffect, route: "directly" }, caused.directly);
  assert.ok(Math.abs(effectMeasure(effects, ofEffect, "strength") - caused.strength) < 1e-6);
  assert.ok(Math.abs(effectMeasure(effects, ofEffect, "everywhere") - caused.everywhere) < 1e-6);
  assert.ok(Number.isNaN(effectMeasure(effects, { ...ofEffect, reference: 3 }, "strength")));
  assert.equal(effectMap(effects, { ...ofEffect, reference: 3 }), null);
  const largest = Math.max(...caused.steps.flat());
  assert.ok(Math.abs(largestOverSteps(effects, ofEffect) - largest) < 1e-6);
});

test("questions about regions get the answers of i2am_core", () => {
  near(regionStrengths(effects, ofEffect).values, caused.regions, 1e-6, "regions");
  for (const { side, box, cut, values } of caused.asked) {
    const answer = specificEffect(effects, { ...ofEffect, cut }, side, box);
    near(answer.values, values, 0.003, `${side} ${box} ${cut}`);
    assert.deepEqual([answer.height, answer.width], side === "generated" ? [2, 2] : [6, 4]);
    assert.equal(certaintyFor(answer.strength, answer.floor), "measured");
  }
});

test("a click on the reference is on a whole region, whose edges are those of its tokens", () => {
  const [, , , region] = caused.asked; // two of three rows of tokens, two of four columns
  const answer = specificEffect(effects, ofEffect, "reference", [0.75, 0.6, 0.75, 0.6]);
  near(answer.values, region.values, 0.003, "clicked");
  assert.deepEqual(regionEdges(effects.header, regionsOf(effects.header, ofEffect)), [
    [0, 2 / 3, 1],
    [0, 0.5, 1],
  ]);
  const corner = specificEffect(effects, ofEffect, "reference", [1, 1, 1, 1]);
  const half = specificEffect(effects, ofEffect, "reference", [0.75, 2 / 3, 1, 1]);
  assert.ok(Math.abs(half.strength - corner.strength * Math.sqrt(0.5)) < 1e-6); // of its squares, half count
});

test("where regions do not answer, there is a reason", () => {
  const click = [0.5, 0.5, 0.5, 0.5];
  assert.deepEqual(specificEffect(effects, { ...ofEffect, owner: "text" }, "generated", click), { missing: "owner" });
  assert.deepEqual(regionStrengths(effects, { ...ofEffect, owner: "text" }), { missing: "owner" });
  assert.deepEqual(specificEffect(effects, { ...ofEffect, reference: 1 }, "generated", click), { missing: "regions" });
  const regions = effects.header.effects.regions.map((one) => ({ ...one, in_file: false }));
  const smaller = { ...effects, header: { ...effects.header, effects: { ...effects.header.effects, regions } } };
  assert.deepEqual(specificEffect(smaller, ofEffect, "generated", click), { missing: "left out" });
  near(regionStrengths(smaller, ofEffect).values, caused.regions, 1e-6, "strengths stay");
  const { strength, floor } = specificEffect(effects, ofEffect, "generated", [0, 0, 0, 0]);
  assert.deepEqual([strength, certaintyFor(strength, floor)], [0, "none"]); // outside the mask
});

test("how certain an effect is", () => {
  const of = (owner) => certaintyOf(effects.header, { ...ofEffect, owner });
  assert.deepEqual([null, "all references", "text", "conditioning"].map(of), [
    "measured",
    "rough",
    "too small to measure",
    "none",
  ]);
  assert.deepEqual(
    [0, 2.9, 3, 9.9, 10].map((strength) => certaintyFor(strength, 1)),
    ["none", "too small to measure", "rough", "rough", "measured"],
  );
  assert.equal(certaintyFor(1e-30, 0), "measured");
});

test("effects offer what was measured", () => {
  assert.deepEqual(ownersOf(effects.header), [0, "all references", "text", "conditioning"]);
  assert.deepEqual(choicesOf(effects.header, ofEffect, "step"), [0, 1]);
  assert.deepEqual(choicesOf(effects.header, ofEffect, "layer"), []);
  assert.deepEqual(choicesOf(effects.header, START, "layer"), [0, 1]);
  assert.deepEqual(cutsOf(effects.header, ofEffect), ["taken away", "only this left"]);
  assert.deepEqual(cutsOf(effects.header, { ...ofEffect, owner: "text" }), []);
});

test("a selection of effects becomes one that exists", () => {
  const settled = (wanted, { header } = effects) => settleEffect(header, { ...ofEffect, ...wanted });
  assert.deepEqual(settled({}), ofEffect);
  const far = settled({ item: 7, reference: 9, step: 99, layer: 1 });
  assert.deepEqual([far.item, far.reference, far.owner, far.step, far.layer], [0, 0, null, 1, 1]);
  assert.equal(settled({ owner: "text", route: "directly" }).route, "everything");
  const conditioning = settled({ step: 5, cut: "only this left" }, alone);
  assert.deepEqual([conditioning.owner, conditioning.reference, conditioning.step], ["conditioning", 0, 0]);
});

/** The file with a reference that has all of the attention, as one with a softmax of its own. */
function withoutCompetitors() {
  const tensors = new Map(file.tensors);
  for (const [name, { shape, data }] of file.tensors) {
    if (!name.startsWith("measures/")) continue;
    const values = data.slice();
    values.fill(
      1,
      file.header.measures.indexOf("share") * shape[1],
      (1 + file.header.measures.indexOf("share")) * shape[1],
    );
    tensors.set(name, { shape, data: values });
  }
  return { ...file, tensors };
}

test("what it changed is first, then how much it was looked at where anything else could have been, then where", () => {
  const own = withoutCompetitors();
  assert.deepEqual(
    [effects, alone, file, own].map((one) => kindIn(one, START)),
    ["effect", "effect", "share", "paper"],
  );
});

test("what was chosen is shown, where the file has it", () => {
  const shows = (normalization) =>
    [effects, alone, file, withoutCompetitors()].map((one) => kindIn(one, { ...START, normalization }));
  assert.deepEqual(shows("paper"), ["paper", "effect", "paper", "paper"]);
  assert.deepEqual(shows("share"), ["share", "effect", "share", "share"]);
  assert.deepEqual(shows("effect"), ["effect", "effect", "share", "paper"]);
});

test("a viewer that nothing was chosen in shows the effect that a later run has, in no step that nobody chose", () => {
  const before = changed(file, settledIn(file, START), { step: 1, layer: 0 });
  assert.deepEqual([before.normalization, before.kind, before.step], ["best", "share", 1]);
  const after = settledIn(effects, before);
  assert.deepEqual([after.normalization, after.kind, after.step], ["best", "effect", null]);
  const again = changed(effects, after, { step: 1 });
  assert.deepEqual(settledIn(effects, stateFrom(JSON.parse(JSON.stringify(again)))), again); // a workflow keeps its step
  const chosen = changed(file, before, { normalization: "share" });
  assert.deepEqual([settledIn(effects, chosen).kind, settledIn(effects, chosen).step], ["share", 1]);
});

test("a file without references can be asked anything", () => {
  assert.deepEqual(alone.header.references, []);
  assert.deepEqual(specific(alone, START, "generated", [0, 0, 1, 1]), { missing: "pairs" });
  assert.deepEqual(choices(alone.header, START, "layer"), []);
  assert.equal(settle(alone.header, { ...START, step: 1, head: 2 }).head, null);
  assert.ok(!varies(alone, START, "share") && Number.isNaN(measureOf(alone, START, "share")));
});

test("the strongest patches come first, with their share", () => {
  assert.deepEqual(strongest([1, 5, 0, 4], 2), [
    { cell: 1, share: 0.5 },
    { cell: 3, share: 0.4 },
  ]);
  assert.equal(strongest([0, 1], 5).length, 1);
});

test("rows of a sheet are counted as Python counts them", () => {
  const { header } = file;
  assert.equal(rowOf(header, all), 0);
  assert.equal(rowOf(header, { ...all, step: 3 }), 4);
  assert.equal(rowOf(header, { ...all, head: 0 }), 5);
  assert.equal(rowOf(header, { ...all, head: 4, step: 3 }), 1 + 4 + 5 + 3 * 5 + 4);
  assert.equal(rowOf(header, { ...all, layer: 1, head: 2 }), null);
  assert.deepEqual(headsOf(header, 0, null)[3], { head: 0, of: 2, layers: 1 });
  assert.deepEqual(choices(header, all, "layer"), [0, 1]);
  assert.deepEqual(stepsOf(header, { ...all, step: 1 }), [1, 2]);
});

test("a head in one step gives way where it was not kept", () => {
  const apart = { ...file.header, joint: [] };
  assert.equal(settle(apart, { ...all, step: 1, head: 1 }, "head").step, null);
  assert.equal(settle(apart, { ...all, step: 1, head: 1 }, "step").head, null);
  const grouped = {
    ...file.header,
    joint: [
      [0, 2],
      [2, 4],
    ],
  };
  const chosen = settle(grouped, { ...all, step: 3, head: 1 });
  assert.deepEqual([chosen.step, chosen.head, stepsOf(grouped, chosen)], [3, 1, [2, 4]]);
});

test("a reference that was given and never read is passed over", () => {
  const [read] = file.header.references;
  const header = { ...file.header, references: [{ ...read, layers: [], heads: [] }, read] };
  assert.equal(settle(header, all).reference, 1);
  assert.equal(settle(header, { ...all, reference: 1 }).reference, 1);
});

test("a selection of another run becomes one that exists", () => {
  const settled = settle(file.header, { item: 7, reference: 3, layer: 12, step: 99, head: 99 });
  assert.deepEqual(settled, { item: 0, reference: 0, layer: null, step: 3, head: 4, frame: null });
});

test("bars follow the axis that they are of", () => {
  const shares = along(file, all, "step", "share");
  assert.equal(shares.length, 4);
  assert.ok(shares.every((share) => share > 0 && share < 1));
  assert.equal(along(file, { ...all, head: 4 }, "layer", "share").length, 2); // without the head, which no layer has
  assert.ok(varies(file, all, "share"));
  assert.ok(!varies({ ...file, tensors: constant() }, all, "share"));
});

function constant() {
  return new Map(
    [...file.tensors].map(([name, { shape, data }]) => [
      name,
      { shape, data: name.startsWith("measures") ? new Float32Array(data.length).fill(1) : data },
    ]),
  );
}

test("what goes into a mean is not clamped, and the mean is", () => {
  const { values, resampled: wanted } = expected.steep;
  const large = resampled(Float32Array.from(values), 2, 3, 5, 7);
  near(large, wanted, 1e-6, "resampled");
  assert.ok(Math.min(...large) < -0.01);
  near(
    resize(Float32Array.from(values), 2, 3, 5, 7),
    wanted.map((value) => Math.max(0, value)),
    1e-6,
    "resized",
  );
  // Two layers that answer for the one token of a reference: the coarse one steeply, the fine one with the same everywhere.
  const pairs = (layer, rows, levels) => [
    [`pairs/0/0/${layer}/r2g`, { shape: [1, rows], data: Uint8Array.from(levels) }],
    [`pairs/0/0/${layer}/g2r`, { shape: [rows, 1, 1], data: new Uint8Array(rows) }],
    [`pair_range/0/0/${layer}/r2g`, { shape: [1, 2], data: Float32Array.from([0, 1]) }],
    [`pair_rows/0/0/${layer}`, { shape: [rows], data: Int32Array.from({ length: rows }, (_, row) => row) }],
  ];
  const steep = values.map((value) => 255 * value);
  const header = {
    layers: [
      { grid: [2, 3], frames: 1 },
      { grid: [5, 7], frames: 1 },
    ],
    references: [{ pairs_captured: [0, 1] }],
    pairs: { "0/0": [0, 1] },
  };
  const level = Math.round(255 * 0.02);
  const tensors = new Map([...pairs(0, 6, steep), ...pairs(1, 35, new Array(35).fill(level))]);
  const answer = specific({ header, tensors }, all, "reference", [0, 0, 1, 1]);
  near(
    answer.values,
    wanted.map((value) => Math.max(0, (value + level / 255) / 2)),
    1e-6,
    "mean of layers",
  );
});

test("a scale over time spans all its steps", () => {
  const { low, high } = rangeOverSteps(file, all, "r2g_paper");
  for (let step = 0; step < 4; step++) {
    const map = mapOf(file, { ...all, step }, "r2g_paper");
    assert.ok(low <= map.low && map.high <= high);
  }
  assert.equal(rangeOverSteps({ ...file, header: { ...file.header, steps: [] } }, all, "r2g_paper"), null);
});

test("a flat map is drawn as nothing", () => {
  assert.deepEqual(parts(new Float32Array(3).fill(2)), [0, 0, 0]);
  assert.deepEqual(rangeOf([2, -1, 5]), { low: -1, high: 5 });
});

test("rounding is neither drawn nor scored, a faint map is", () => {
  const rounded = Float32Array.from([1, 1.0004, 0.9997, 1]);
  assert.deepEqual(parts(rounded), [0, 0, 0, 0]);
  assert.equal(imacs(rounded, rangeOf(rounded), [1, 1, 0, 0]), null);
  const faint = Float32Array.from([1.01, 1.01, 1, 1]);
  assert.deepEqual(parts(faint).map(Math.round), [1, 1, 0, 0]);
  assert.ok(Math.abs(imacs(faint, rangeOf(faint), [1, 1, 0, 0]) - 1) < 1e-3);
});

test("zooming keeps the place under the pointer, and never shows less than the picture", () => {
  const screen = (view, u) => 0.5 + (u - view.x) * view.zoom; // of a pane of width 1
  const nearer = zoomAt(WHOLE, [0.7, 0.4], 3);
  assert.ok(Math.abs(screen(nearer, 0.7) - 0.7) < 1e-9);
  assert.deepEqual(zoomAt(nearer, [0.1, 0.1], 1e-6), WHOLE);
  assert.equal(zoomAt(WHOLE, [0.5, 0.5], 1e6).zoom, 32);
  assert.deepEqual(pan(WHOLE, 0.3, -0.2), WHOLE);
  assert.equal(pan({ zoom: 2, x: 0.5, y: 0.5 }, 9, 0).x, 0.25);
  assert.equal(transformOf({ zoom: 2, x: 0.5, y: 0.5 }, [100, 50], 120, 60), "translate(-40px, -20px) scale(2)");
});

test("places and boxes", () => {
  assert.deepEqual(fit(100, 50, 300, 300), [300, 150]);
  assert.deepEqual(placeOf(15, 30, { left: 10, top: 10, width: 20, height: 10 }), [0.25, 1]);
  assert.deepEqual(boxOf([0.5, 0.2], [0.1, 0.9]), [0.1, 0.2, 0.5, 0.9]);
  assert.deepEqual(cellsOf([0.3, 0.3, 0.3, 0.3], [4, 4]), [5]);
  assert.deepEqual(cellsOf([1, 1, 1, 1], [4, 4]), [15]);
  assert.deepEqual(cellsOf([0, 0, 0.5, 0.25], [4, 4]), [0, 1]);
  assert.deepEqual(cellsOf([0.2, 0.2, 0.3, 0.3], [4, 4]), [0, 1, 4, 5]);
});

test("a state that cannot be read is the start", () => {
  for (const nonsense of [undefined, null, 3, "x", {}, { step: "a", opacity: 7, ask: { side: "sky" } }]) {
    assert.deepEqual(stateFrom(nonsense), START);
  }
  const state = { ...START, step: 3, layer: 1, opacity: 0.2, ask: { side: "reference", box: [0, 0, 1, 1] } };
  assert.deepEqual(stateFrom(JSON.parse(JSON.stringify(state))), state);
});

test("a state that an earlier version kept is the same today", () => {
  const kept = JSON.parse(readFileSync(at("state.json")));
  assert.deepEqual(stateFrom(kept), kept);
  assert.deepEqual(Object.keys(STATE).sort(), Object.keys(kept).sort());
});

test("a store says what has changed, to whom it is to be said", () => {
  const store = new Store(START);
  const changes = [];
  const end = store.subscribe((change) => changes.push(change));
  const next = { ...START, step: 1 };
  store.set(next, true);
  end();
  store.set(START);
  assert.deepEqual(changes, [{ state: next, before: START, lasting: true }]);
  assert.equal(store.state, START);
});

/** The file of effects with one pair of pictures, of the first reference. */
function withPair() {
  const png = { shape: [8], data: new Uint8Array(8) };
  const pair = { item: 0, owner: 0, step: 2, picture_with: "picture/1", picture_without: "picture/2" };
  const tensors = new Map([...effects.tensors, ["picture/1", png], ["picture/2", png]]);
  return { header: { ...effects.header, predictions: [pair] }, tensors };
}

test("the pictures with and without are wiped where they are of what is selected", () => {
  const paired = withPair();
  checkHeader(paired.header, paired.tensors);
  const paneOf = (state, more) =>
    screenOf(sceneOf(paired, { ...ofEffect, wipe: 0.25, ...state }, more)).panes.generated;
  const pane = paneOf({});
  assert.deepEqual(pane.wipe, { left: "picture/1", right: "picture/2", at: 0.25 });
  assert.deepEqual([pane.heat, pane.title], [null, "With it, and without it"]);
  assert.equal(pane.detail, "what the model would paint, as seen from step 3 of 4, number 2");
  for (const state of [{ wipe: null }, { owner: "text" }, { kind: "paper" }])
    assert.equal(paneOf(state).wipe, undefined);
  const question = { side: "reference", box: [0, 0, 1, 1] };
  assert.equal(paneOf({}, { question }).wipe, undefined); // its answer is on this pane
});

test("pictures with and without that are not there are refused", () => {
  for (const wrong of [{ owner: 7 }, { step: 4 }, { item: 1 }, { picture_with: "picture/9" }, { owner: "nobody" }]) {
    const paired = withPair();
    Object.assign(paired.header.predictions[0], wrong);
    assert.throws(() => checkHeader(paired.header, paired.tensors), /pictures with and without are not described/);
  }
});

const say = translator("en");
const sceneOf = (of, state, more = {}) => ({ file: of, state, say, question: state.ask, pointed: null, ...more });

test("a screen is computed without a page", () => {
  const screen = screenOf(sceneOf(file, { ...START, step: 1, ask: { side: "generated", box: [0, 0, 1, 1] } }));
  assert.equal(screen.panes.reference.title, "Which parts made the marked part");
  assert.equal(screen.patches.length, 5);
  assert.equal(screen.hint, "");
  assert.deepEqual([screen.axes.step.at, screen.axes.step.heights.length, screen.axes.layer.at], [1, 4, null]);
  assert.ok(describe(screen).startsWith("step 2 of 4, number 1 \u00b7 noise left "));
  const caused = screenOf(sceneOf(effects, ofEffect));
  assert.equal(caused.panes.generated.title, "What the reference changed");
  assert.ok(caused.axes.layer.explained && !caused.axes.step.explained);
  assert.deepEqual(sidesOf(sceneOf(alone, START)), ["generated"]);
});

test("bars begin at 0, and each says what it stands for", () => {
  const tall = (heights) => barsOf(heights).map((shape) => Number(/v-?([\d.]+)h/.exec(shape)?.[1] ?? NaN));
  assert.deepEqual(tall([0.9615, 0.9624, NaN, 0]), [0.9991, 1, NaN, 0]);
  const { axes } = screenOf(sceneOf(file, { ...START, measure: "share" }));
  const share = measureOf(file, { ...all, step: 2 }, "share");
  assert.ok(axes.step.value(2).startsWith(`share of attention ${percent(share)} \u00b7 step 3 of 4`));
  assert.ok(screenOf(sceneOf(effects, ofEffect)).axes.step.value(0).startsWith("effect "));
});

/** The file with one value in all maps of a field. */
function level(field, value) {
  const tensors = new Map(file.tensors);
  for (const [name, { shape, data }] of file.tensors) {
    if (name.startsWith("range/") && name.endsWith(field)) {
      tensors.set(name, { shape, data: new Float32Array(data.length).fill(value) });
    }
  }
  return { ...file, tensors };
}

test("a map with one value everywhere is said, not painted", () => {
  const paneOf = (field, value, normalization) =>
    screenOf(sceneOf(level(field, value), { ...START, kind: normalization })).panes.generated;
  assert.match(paneOf("r2g_share", 1, "share").message, /^100 % everywhere: nothing competes/);
  assert.match(paneOf("r2g_share", 0.25, "share").message, /^The same everywhere: 25 %/);
  assert.match(paneOf("r2g_paper", 0, "paper").message, /^Nothing anywhere/);
  assert.equal(paneOf("r2g_paper", 0, "paper").heat, null);
  assert.equal(paneOf("r2g_paper", 0.1, "share").message, undefined);
});

test("the score is that of the paper's normalization, however a map is displayed", () => {
  const score = (state, of = file) =>
    screenOf(sceneOf(of, { ...START, ...state }))
      .numbers.map(({ words }) => words)
      .find((x) => /^IMACS/.test(x));
  const masked = {
    ...file,
    tensors: new Map([...file.tensors, ["mask/0", { shape: expected.canvas, data: expected.mask }]]),
  };
  masked.header = { ...file.header, pictures: { ...file.header.pictures } };
  masked.header.pictures.generated = file.header.pictures.generated.map((one) => ({ ...one, canvas: expected.canvas }));
  const first = score({}, masked);
  assert.ok(Math.abs(Number(first.split(" ")[1]) - expected.imacs) < 0.02);
  const displays = [{ kind: "share" }, { scale: "over time" }, { style: "off" }, { colormap: "jet", opacity: 1 }];
  for (const state of displays) assert.equal(score(state, masked), first);
  assert.notEqual(score({ step: 1 }, masked), first);
});

test("the default colours are read in one order, and the paper's are one choice away", () => {
  assert.deepEqual([START.style, START.colormap], ["blend", "inferno"]);
  assert.deepEqual([stateFrom({ style: "heat" }).style, stateFrom({ colormap: "jet" }).colormap], ["heat", "jet"]);
  assert.deepEqual(overlayOf("blend", 0.5, true, true), {
    heat: true,
    pictureOpacity: 1,
    heatOpacity: 0.5,
    adds: false,
  });
  assert.deepEqual(overlayOf("heat", 0.5, true, true), {
    heat: true,
    pictureOpacity: 0.7,
    heatOpacity: 0.5,
    adds: true,
  });
  assert.equal(overlayOf("blend", 0.5, true, false).heatOpacity, 1);
  assert.equal(overlayOf("off", 0.5, true, true).heat, false);
});

const MADE_BY = {
  last: "3",
  nodes: {
    1: { class_type: "Loader", inputs: { name: "x", picture: null } },
    2: { class_type: "KSampler", inputs: { seed: 3, model: ["1", 0] } },
    3: { class_type: "I2AM_Viewer", inputs: { attribution: ["2", 1] } },
  },
};

test("a result is known from that of another run, whatever its nodes are called now", () => {
  const now = (change = () => {}) => {
    const nodes = JSON.parse(JSON.stringify({ "7:1": MADE_BY.nodes[1], "7:2": MADE_BY.nodes[2], 9: MADE_BY.nodes[3] }));
    nodes["7:2"].inputs.model = ["7:1", 0];
    nodes[9].inputs.attribution = ["7:2", 1];
    nodes["7:1"].inputs.picture = "long";
    change(nodes);
    return inWords(differences(MADE_BY, { last: "9", nodes, titles: { "7:2": "my sampler" } }), say);
  };
  assert.equal(now(), "");
  const seed = "These maps are of another run. seed of my sampler was 3, and is 4 now.";
  assert.equal(
    now((nodes) => (nodes["7:2"].inputs.seed = 4)),
    seed,
  );
  const both = now((nodes) => Object.assign(nodes["7:2"].inputs, { seed: 4, steps: 20 }));
  assert.equal(both, `${seed} One more setting differs.`);
  const other = now((nodes) => (nodes["7:2"].class_type = "Other"));
  assert.equal(other, "These maps are of another run. my sampler is connected otherwise now.");
  const slot = now((nodes) => (nodes["7:2"].inputs.model = ["7:1", 1]));
  assert.equal(slot, "These maps are of another run. my sampler is connected otherwise now.");
});

test("a node that was put between two others is new, and what is behind it is compared all the same", () => {
  const steered = JSON.parse(JSON.stringify(MADE_BY));
  steered.nodes[4] = { class_type: "I2AM_Steer", inputs: { strength: 0.5, model: ["1", 0] } };
  steered.nodes[2].inputs.model = ["4", 0];
  steered.nodes[1].inputs.name = "y";
  const there = { ...steered, titles: { 4: "weaker" } };
  const [added, renamed, ...others] = differences(MADE_BY, there);
  assert.deepEqual([added.node, added.only, renamed.place, others.length], ["weaker", "is", "1.name", 0]);
  assert.equal(inWords([added], say), "These maps are of another run. weaker is new.");
  const [lost, name] = differences(steered, MADE_BY);
  assert.deepEqual([lost.node, lost.only, name.was, name.is], ["I2AM_Steer", "was", "y", "x"]);
  assert.equal(inWords([lost], say), "These maps are of another run. I2AM_Steer is gone.");
  assert.equal(settingsInWords([added, lost], say), "weaker: in B alone \u00b7 I2AM_Steer: in A alone");
});

test("what is saved says what it is of, and what made it", () => {
  const steered = { ...MADE_BY.nodes, 4: { class_type: "I2AM_Steer", inputs: { steps: "all" } } };
  const made = { ...file, header: { ...file.header, made_by: { ...MADE_BY, nodes: steered } } };
  const lines = footerOf(screenOf(sceneOf(made, { ...START, ask: { side: "generated", box: [0, 0, 1, 1] } })));
  assert.match(lines[0], /^where queries match \(paper\) \u00b7 mean of 4 steps/);
  assert.match(lines[2], /^strongest patches \u00b7 1: [\d.]+ %/);
  assert.match(lines[3], /^I2AM \u00b7 fixture \u00b7 positive \u00b7 seed 3$/);
});

test("a healthy run is said to be one", () => {
  const words = (account) => callWords({ skipped: { text: 120 }, captured_calls: 120, ...account }, say);
  assert.deepEqual(words({ all_observed: true, missed_calls: 0 }), [
    "all 120 attention calls that hold the reference were read",
  ]);
  assert.deepEqual(words({ all_observed: false, missed_calls: 7 }), [
    "7 attention calls that may hold a reference were not read",
  ]);
  assert.deepEqual(words({}), ["120 of 240 attention calls skipped"]);
});

test("every number says what a good one is", () => {
  for (const [of, state] of [
    [file, START],
    [effects, ofEffect],
  ]) {
    for (const { words, help } of screenOf(sceneOf(of, state)).numbers) assert.ok(help.endsWith("."), words);
  }
});

test("a change makes a state that the file has", () => {
  const there = changed(effects, { ...START, step: 1 }, { normalization: "effect" });
  assert.deepEqual([there.kind, there.step], ["effect", null]); // number 1 is another step there
  assert.equal(changed(file, START, { step: 99 }).step, 3);
  assert.equal(nextAlong(file, { ...START, step: 3 }, "step", 1), null);
  assert.equal(nextAlong(file, START, "step", -1), 3);
  assert.ok(hasJoint(file, { ...START, step: 1, head: 1 }));
});

test("numbers read well", () => {
  assert.deepEqual([small(0), small(0.02944), small(0.00012), small(NaN)], ["0", "0.0294", "1.2e-4", "\u2013"]);
  assert.deepEqual(
    [percent(0.1234), percent(0.00456), percent(1), percent(NaN)],
    ["12.3 %", "0.46 %", "100 %", "\u2013"],
  );
  assert.equal(encodeReport({ a: NaN, b: 1 }), '{\n  "a": null,\n  "b": 1\n}');
});

test("words are translated, with their values; unknown ones stay", () => {
  assert.equal(
    translator("zh")("step {0} of {1}, number {2}", 3, 20, 2),
    "\u7b2c 3 \u6b65\uff0c\u5171 20 \u6b65\uff08\u7f16\u53f7 2\uff09",
  );
  assert.equal(translator("en")("step {0} of {1}, number {2}", 3, 20, 2), "step 3 of 20, number 2");
  assert.equal(translator("fr")("all"), "all");
});

test("every word of the viewer has a translation, and every translation a use", () => {
  const folder = new URL("../../web/viewer/", import.meta.url);
  const names = readdirSync(folder, { recursive: true }).filter((name) => /(?<!text)\.mjs$/.test(name));
  const sources = names
    .map((name) => readFileSync(new URL(name, folder), "utf8"))
    .concat(readFileSync(new URL("../viewer.js", folder), "utf8"))
    .join("\n");
  const used = [...sources.matchAll(/(?:say|notify|entry)\(\s*"((?:[^"\\]|\\.)+)"/g)].map(([, text]) => text);
  for (const { label, help } of [...MENUS, ...BUTTONS, ...BELOW.flat()]) used.push(...[label, help].filter(Boolean));
  assert.ok(used.length > 30);
  for (const text of used) assert.ok(translated.includes(text), text);
  for (const text of translated) assert.ok(sources.includes(`"${text}"`), `unused: ${text}`);
});

test("pictures become one animated WebP", () => {
  // The smallest lossless WebP: one black pixel.
  const pixel = Uint8Array.from(Buffer.from("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==", "base64"));
  const moving = animate([pixel, pixel], 1, 1, 250);
  const text = Buffer.from(moving).toString("latin1");
  assert.deepEqual([text.slice(0, 4), text.slice(8, 16)], ["RIFF", "WEBPVP8X"]);
  assert.equal(new DataView(moving.buffer).getUint32(4, true), moving.length - 8);
  assert.equal(text.split("ANMF").length - 1, 2);
  assert.throws(() => animate([Uint8Array.from(Buffer.from("not a picture at all"))], 1, 1, 1), /cannot write WebP/);
});
