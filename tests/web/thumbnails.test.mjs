/** All maps at once, without a page: which cell is which map, what the colours span, where each is, and why one is missing. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { sameIn } from "../../web/viewer/compare/same.mjs";
import { readFile } from "../../web/viewer/file.mjs";
import { rangeOf, restore } from "../../web/viewer/heat.mjs";
import { along, frameCount, mapOf, measureOf, rangeOverSteps } from "../../web/viewer/maps.mjs";
import { changed, hasFrame, nextAlong, settled } from "../../web/viewer/model.mjs";
import { describe, screenOf } from "../../web/viewer/screen.mjs";
import { START } from "../../web/viewer/state.mjs";
import { translator } from "../../web/viewer/text.mjs";
import { cellWords, offeredGrids, summaryOf, thumbnailsOf } from "../../web/viewer/thumbnails/grid.mjs";
import { cellAfter, cellAt, labelled, layoutOf } from "../../web/viewer/thumbnails/layout.mjs";
import { paintAll, thumbnail } from "../../web/viewer/thumbnails/painted.mjs";

const at = (name) => new URL(`./fixtures/${name}`, import.meta.url);
const fixture = (name) => readFile(new Uint8Array(readFileSync(at(name))).buffer);
const file = fixture("view.safetensors");
const effects = fixture("effects.safetensors");
const video = fixture("video.safetensors");
const exact = JSON.parse(readFileSync(at("video.json")));
const say = translator("en");

/** What a person sees who chose that. */
const sceneOf = (one, parts) => ({
  file: one,
  state: settled(one, { ...START, normalization: "paper", thumbnails: "layers x heads", ...parts }),
  say,
  question: null,
  pointed: null,
});
const gridIn = (one, parts) => thumbnailsOf(sceneOf(one, parts));
const missing = ({ cells }) => cells.map((row) => row.map((cell) => cell.missing));

test("nothing is computed while all maps are not seen", () => {
  assert.equal(gridIn(file, { thumbnails: null }), null);
});

test("each cell of layers and heads is the map of its selection", () => {
  for (const [thumbnailSide, field] of [
    ["generated", "r2g_share"],
    ["reference", "g2r_share"],
  ]) {
    const grid = gridIn(file, { normalization: "share", step: 1, thumbnailSide });
    assert.deepEqual([grid.rows.length, grid.columns.length], [3, 4]);
    for (const [row, layer] of [null, 0, 1].entries()) {
      for (const [column, head] of [null, 0, 1, 2].entries()) {
        const { map } = grid.cells[row][column];
        if (layer === 1 && head === 2) assert.equal(map, null);
        else if (layer !== null || head === null)
          assert.deepEqual(map, mapOf(file, { item: 0, reference: 0, layer, step: 1, head }, field));
      }
    }
  }
});

test("each cell of steps and layers is the map of its selection, of all heads", () => {
  const grid = gridIn(file, { thumbnails: "steps x layers", head: 1 });
  for (const [row, layer] of [null, 0, 1].entries()) {
    for (const [column, step] of [null, 0, 1, 2, 3].entries()) {
      const { map, parts } = grid.cells[row][column];
      assert.deepEqual(map, mapOf(file, { item: 0, reference: 0, layer, step, head: null }, "r2g_paper"));
      assert.deepEqual([parts.layer, parts.step, parts.head], [layer, step, null]);
    }
  }
});

test("a cell leads to its map, and that is the one that is marked", () => {
  for (const [one, thumbnails] of [
    [file, "layers x heads"],
    [file, "steps x layers"],
    [video, "frames x layers"],
    [video, "pictures x references"],
    [effects, "steps x references"],
  ]) {
    const before = sceneOf(one, { thumbnails, ...(one === effects ? { normalization: "effect" } : {}) });
    const grid = thumbnailsOf(before);
    assert.equal(grid.name, thumbnails);
    let entered = 0;
    grid.cells.forEach((row, y) =>
      row.forEach((cell, x) => {
        if (!cell.map) return;
        const state = changed(one, { ...before.state, step: one === video ? 1 : null }, cell.parts);
        const there = thumbnailsOf({ ...before, state });
        if (thumbnails !== "pictures x references") assert.deepEqual(there.cells[y][x].map, cell.map);
        assert.deepEqual(there.chosen, [y, x], thumbnails);
        entered++;
      }),
    );
    assert.ok(entered > 1);
  }
});

test("what has no map says why", () => {
  const heads = gridIn(file, {});
  assert.equal(missing(heads)[2][3], "This layer has only 2 heads.");
  assert.match(missing(heads)[0][1], /^Layers differ in how many heads/);
  assert.equal(missing(gridIn(file, { thumbnails: "steps x layers" }))[2][3], "nothing was captured here");
  const merged = { ...file, header: { ...file.header, heads: false, joint: [] } };
  assert.equal(missing(gridIn(merged, {}))[1][1], "heads are not resolved");
  assert.equal(missing(gridIn(merged, {}))[1][0], "");
  const apart = { ...file, header: { ...file.header, joint: [] } };
  assert.match(missing(gridIn(apart, { step: 1 }))[1][1], /did not fit .* choose all steps\.$/);
  assert.equal(missing(gridIn(apart, {}))[1][1], "");
  const face = gridIn(video, { reference: 1, thumbnails: "steps x layers" });
  assert.equal(missing(face)[2][1], "This layer does not read the reference.");
  const onIt = gridIn(video, { reference: 1, thumbnailSide: "reference" });
  assert.match(onIt.message, /no place in its image/);
  const given = {
    ...video.header,
    references: [video.header.references[0], { ...video.header.references[1], layers: [] }],
  };
  const unread = gridIn({ ...video, header: given }, { thumbnails: "pictures x references" });
  assert.equal(missing(unread)[0][1], "Nothing has read this reference.");
});

test("heads of groups of steps say so", () => {
  const grouped = { ...file, header: { ...file.header, joint: [[0, 2], [2, 4]] } }; // prettier-ignore
  assert.match(gridIn(grouped, { step: 1 }).title, /step 2 of 4 \u00b7 heads: mean of steps 1\u20132$/);
  assert.match(gridIn(file, { step: 1 }).title, /step 2 of 4$/);
  assert.match(gridIn(file, {}).title, /mean of 4 steps$/);
});

test("one scale spans all maps, or each has its own", () => {
  const grid = gridIn(file, {});
  const values = grid.cells.flat().flatMap(({ map }) => (map ? [...restore(map)] : []));
  const { low, high } = rangeOf(values);
  assert.ok(Math.abs(grid.common.low - low) < 1e-6 && Math.abs(grid.common.high - high) < 1e-6);
  assert.equal(gridIn(file, { thumbnailScale: "each its own" }).common, null);
  assert.ok(!grid.dim);
  const ranges = file.tensors.get("range/0/0/0/r2g_paper");
  const peak = { shape: ranges.shape, data: ranges.data.slice() };
  peak.data[2 * 5 + 1] = 20 * high; // of the first head
  assert.ok(gridIn({ ...file, tensors: new Map([...file.tensors, ["range/0/0/0/r2g_paper", peak]]) }, {}).dim);
  assert.ok(grid.unlike); // 'where' on two grids
  assert.ok(!gridIn(file, { normalization: "share" }).unlike);
  assert.ok(!gridIn(file, { thumbnailSide: "reference" }).unlike);
});

test("effects begin at 0, and what is too small to measure is not painted", () => {
  const grid = gridIn(effects, { normalization: "effect", thumbnails: "layers x heads" });
  assert.equal(grid.name, "steps x references"); // the first that effects have
  assert.deepEqual(offeredGrids(sceneOf(effects, { normalization: "effect" })), ["steps x references"]);
  assert.equal(grid.common.low, 0);
  assert.deepEqual(grid.columns.map(({ label }) => label), ["mean", "1", "3"]); // prettier-ignore
  const [reference, together, text, conditioning] = missing(grid);
  assert.deepEqual(reference, ["", "", ""]);
  assert.match(together[0], /^Too weak for a map/);
  assert.match(text[0], /^Too small to measure/);
  assert.equal(conditioning[0], "No effect at all: not a digit changes.");
});

test("maps that are all the same everywhere are said", () => {
  const flat = new Map(
    [...file.tensors].map(([name, { shape, data }]) => [
      name,
      { shape, data: name.startsWith("range/") ? new Float32Array(data.length).fill(1) : data },
    ]),
  );
  const grid = gridIn({ ...file, tensors: flat }, { normalization: "share" });
  assert.match(grid.message, /^100 % everywhere: nothing competes/);
});

test("a cell in words: its mean, its maximum, what is inside the mask", () => {
  const scene = sceneOf(file, {});
  const grid = thumbnailsOf(scene);
  const selection = { item: 0, reference: 0, layer: 0, step: null, head: 1 };
  const map = mapOf(file, selection, "r2g_paper");
  const { mean, highest } = summaryOf(map);
  assert.ok(Math.abs(mean - 1 / 24) < 1e-4); // it sums to 1
  assert.equal(highest, map.high);
  const inside = measureOf(file, selection, "inside");
  const words = cellWords(scene, grid, [1, 2]);
  assert.match(
    words,
    /^fine \u00b7 4\u00d76 \u00b7 head 1: mean 0\.0417 \u00b7 maximum [\d.]+ \u00b7 inside the mask /,
  );
  assert.ok(words.endsWith(`${Number((100 * inside).toPrecision(3))} %`));
  const share = sceneOf(file, { normalization: "share" });
  assert.match(cellWords(share, thumbnailsOf(share), [1, 2]), /\(of 'where'\)$/);
  const on = sceneOf(file, { thumbnailSide: "reference" });
  assert.doesNotMatch(cellWords(on, thumbnailsOf(on), [1, 2]), /inside/);
});

test("thumbnails are as large as they can be, and none is too small to press", () => {
  const wide = layoutOf([2, 3], [true, true], [100, 200], [640, 300], [16, 400]);
  assert.deepEqual(wide.size, [210, 105]);
  assert.deepEqual(wide.left, [0, 216, 428]);
  assert.deepEqual(wide.top, [0, 111]);
  assert.ok(wide.whole[0] <= 640 && wide.whole[1] <= 300);
  assert.deepEqual(layoutOf([1, 1], [false, false], [100, 200], [9999, 9999], [16, 400]).size, [400, 200]);
  const many = layoutOf([41, 25], [true, true], [100, 200], [300, 300], [16, 400]);
  assert.deepEqual(many.size, [32, 16]);
  for (const [row, column] of [
    [0, 0],
    [1, 2],
  ])
    // prettier-ignore
    assert.deepEqual(cellAt(wide, wide.left[column] + 1, wide.top[row] + 1), [row, column]);
  assert.equal(cellAt(wide, 212, 1), null);
  assert.equal(cellAt(wide, -1, 1), null);
  assert.equal(labelled(many, 60), 2);
  assert.deepEqual(cellAfter("ArrowDown", [1, 2], [2, 3]), [1, 2]);
  assert.deepEqual(cellAfter("ArrowLeft", [1, 2], [2, 3]), [1, 1]);
  assert.deepEqual(cellAfter("End", [0, 0], [2, 3]), [0, 2]);
  assert.deepEqual(cellAfter("PageDown", [0, 1], [2, 3]), [1, 1]);
  assert.equal(cellAfter("x", [0, 0], [2, 3]), null);
});

test("a smaller thumbnail has the means of what it covers", () => {
  const map = { levels: Uint8Array.from([0, 255, 255, 255]), low: 0, high: 1, height: 2, width: 2 };
  assert.deepEqual([...thumbnail(map, 1, 1)], [0.75]);
  assert.deepEqual([...thumbnail(map, 1, 2)], [0.5, 1]);
  assert.deepEqual([...thumbnail(map, 2, 2)], [0, 1, 1, 1]);
});

test("maps are painted by one range or their own; strokes where there is none; nothing where it is flat", () => {
  const map = { levels: Uint8Array.from([0, 255]), low: 0, high: 0.5, height: 1, width: 2 };
  const cell = { map, range: { low: 0, high: 0.5 } };
  const flat = { map: { ...map, low: 0.5 }, range: { low: 0.5, high: 0.5 } };
  const layout = { size: [2, 1], left: [0, 2, 4], top: [0], whole: [6, 1] };
  const palette = Uint32Array.from({ length: 256 }, (_, level) => 1000 + level);
  const painted = (common) => {
    const pixels = new Uint32Array(6);
    paintAll(pixels, layout, [[cell, flat, { map: null, range: null }]], common, palette);
    return [...pixels];
  };
  const strokes = painted(null).slice(4);
  assert.deepEqual(painted(null).slice(0, 4), [1000, 1255, 0, 0]);
  assert.deepEqual(painted({ low: 0, high: 1 }).slice(0, 4), [1000, 1128, 1128, 1128]);
  assert.ok(strokes[0] && strokes[0] !== 1000 && !strokes[1]);
});

test("single frames are those of the core", () => {
  assert.equal(frameCount(video.header, null), 3);
  assert.equal(frameCount(file.header, null), 0);
  for (const { layer, normalization, frames } of exact) {
    frames.forEach((wanted, frame) => {
      const selection = { item: 0, reference: 0, layer, step: null, head: null, frame };
      const map = mapOf(video, selection, `r2g_${normalization}`);
      const worst = Math.max(...restore(map).map((value, i) => Math.abs(value - wanted[i])));
      assert.ok(worst <= (map.high - map.low) / 500 + 1e-7);
      if (normalization === "share") {
        const mean = wanted.reduce((sum, value) => sum + value, 0) / wanted.length;
        assert.ok(Math.abs(measureOf(video, selection, "share") - mean) < 1e-5);
      }
    });
  }
});

test("a frame is of all steps and heads: the last that was chosen stays", () => {
  const state = settled(video, { ...START, normalization: "paper" });
  const there = changed(video, changed(video, state, { step: 1 }), { frame: 2 });
  assert.deepEqual([there.step, there.head, there.frame], [null, null, 2]);
  const back = changed(video, there, { head: 1 });
  assert.deepEqual([back.head, back.frame], [1, null]);
  assert.ok(!hasFrame({ ...there, step: 1 }) && hasFrame(there));
  assert.equal(changed(file, START, { frame: 1 }).frame, null);
  assert.equal(nextAlong(video, there, "frame", -1), 1);
  assert.equal(settled(effects, { ...START, normalization: "effect", frame: 1 }).frame, null);
  const some = { ...video, header: { ...video.header, video: { frames: 3, layers: [] } } };
  assert.equal(changed(some, there, { layer: 0 }).frame, null);
});

test("a frame is said, scrubbed and scaled with the others; the reference has the mean of all", () => {
  const scene = {
    ...sceneOf(video, { thumbnails: null }),
    state: settled(video, { ...START, normalization: "paper", frame: 1 }),
  };
  const screen = screenOf(scene);
  assert.match(describe(screen), /frame 2 of 3, number 1/);
  assert.equal(screen.axes.frame.heights.length, 3);
  assert.equal(screenOf(sceneOf(file, {})).axes.frame.heights.length, 0);
  assert.ok(!describe(screenOf(sceneOf(file, {}))).includes("frame"));
  assert.match(screen.panes.reference.detail, /mean of all frames/);
  const steps = along(video, scene.state, "step", "concentration"); // as without the frame
  assert.deepEqual(steps, along(video, { ...scene.state, frame: null }, "step", "concentration"));
  const { low, high } = rangeOverSteps(video, scene.state, "r2g_paper");
  for (const frame of [0, 1, 2]) {
    const map = mapOf(video, { ...scene.state, frame }, "r2g_paper");
    assert.ok(low <= map.low && map.high <= high);
  }
});

test("a frame is compared with the same frame, where the other run has it", () => {
  const state = settled(video, { ...START, normalization: "paper", frame: 1 });
  assert.equal(sameIn(video, video, state).state.frame, 1);
  const { video: _, ...header } = video.header;
  assert.deepEqual(sameIn({ ...video, header }, video, state), { missing: "map" });
});

test("a file whose frames are not what it says is refused", () => {
  const source = Buffer.from(readFileSync(at("video.safetensors")));
  const broken = Buffer.from(
    source.toString("latin1").replace('\\"video\\": {\\"frames\\": 3', '\\"video\\": {\\"frames\\": 4'),
    "latin1",
  );
  assert.notDeepEqual(broken, source);
  assert.throws(
    () => readFile(new Uint8Array(broken).buffer),
    /damaged: 'frames\/0\/0\/all\/r2g_paper' has another shape/,
  );
});
