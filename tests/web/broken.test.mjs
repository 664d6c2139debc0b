/** Broken files of the viewer: each is refused in a sentence, before anything is made as large as it says. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { fuzz } from "../../reliability/fuzz_page.mjs";
import { readFile } from "../../web/viewer/file.mjs";

const fixture = (name) => new Uint8Array(readFileSync(new URL(`./fixtures/${name}`, import.meta.url)));
const original = fixture("view.safetensors");
const effects = fixture("effects.safetensors");

/** The file with a change of its entries and its header, put together again. */
function changed(change, file = original) {
  const bytes = file.slice();
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const entries = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const header = JSON.parse(entries.__metadata__.i2am_view);
  change(header, entries);
  if (typeof entries.__metadata__?.i2am_view === "string") entries.__metadata__.i2am_view = JSON.stringify(header);
  return raw(JSON.stringify(entries), bytes.subarray(8 + length));
}

/** The same, of a file with effects. */
const caused = (change) => changed(change, effects);

function raw(text, tensors = new Uint8Array(), length = null) {
  const header = new TextEncoder().encode(text);
  const bytes = new Uint8Array(8 + header.length + tensors.length);
  new DataView(bytes.buffer).setBigUint64(0, length ?? BigInt(header.length), true);
  bytes.set(header, 8);
  bytes.set(tensors, 8 + header.length);
  return bytes.buffer;
}

const HUGE = 1e9;
const MAP = "maps/0/0/all/r2g_paper";

const BROKEN = {
  "a header longer than numbers are exact": [raw("{}", undefined, 2n ** 64n - 1n), /it ends after 10 bytes/],
  "no JSON": [raw("{nothing}"), /its header cannot be read/],
  "a list": [raw("[]"), /its header cannot be read/],
  nothing: [raw("null"), /its header cannot be read/],
  "no text": [new Uint8Array([2, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe]).buffer, /its header cannot be read/],
  "deep JSON": [raw("[".repeat(100000)), /its header cannot be read/],
  "metadata that are none": [raw('{"__metadata__": null}'), /no file of an I2AM Viewer/],
  "a header in a list": [changed((_, entries) => (entries.__metadata__.i2am_view = [])), /no file of an I2AM Viewer/],
  "another version": [changed((header) => (header.version = 2)), /this file has format 2, expected 1: reload the page/],
  "a version that is none": [changed((header) => (header.version = { a: "b".repeat(99) })), /this file has format/],
  "a tensor that is none": [changed((_, entries) => (entries[MAP] = null)), /'maps.*' is not where or what/],
  "a type of JavaScript": [changed((_, entries) => (entries[MAP].dtype = "constructor")), /is not where or what/],
  "a negative side": [changed((_, entries) => (entries[MAP].shape = [-30, -6, 4])), /is not where or what/],
  "a side that is none": [changed((_, entries) => (entries[MAP].shape = [30, 6, 4.5])), /is not where or what/],
  "a shape without end": [changed((_, entries) => (entries[MAP].shape = [HUGE, HUGE])), /is not where or what/],
  "a shape as long as it says": [changed((_, entries) => (entries[MAP].shape = { length: HUGE })), /is not where or/],
  "offsets outside": [
    changed((_, entries) => (entries[MAP].data_offsets = [HUGE, HUGE + 720])),
    /is not where or what/,
  ],
  "negative offsets": [changed((_, entries) => (entries[MAP].data_offsets = [-720, 0])), /is not where or what/],
  "no offsets": [changed((_, entries) => delete entries[MAP].data_offsets), /is not where or what/],
  "a tensor less": [changed((_, entries) => delete entries[MAP]), /its tensors end after/],
  "steps without end": [changed((header) => (header.steps = [[0, HUGE]])), /are not all steps/],
  "steps that are none": [changed((header) => (header.steps = [0, 1, 2, 3])), /are not all steps/],
  "no sigmas": [changed((header) => (header.sigmas = [])), /sigmas are no numbers/],
  "heads without end": [changed((header) => (header.references[0].heads = [[HUGE, 1]])), /another shape or type/],
  "heads of a layer": [changed((header) => (header.layers[0].heads = HUGE)), /another shape or type/],
  "no references": [changed((header) => (header.references = [])), /its references are not described/],
  "a layer that is not there": [changed((header) => (header.references[0].layers = [0, 5])), /references are not/],
  "a layer counted from the end": [changed((header) => (header.references[0].layers = [-1])), /references are not/],
  "no items": [changed((header) => (header.items = [])), /its items have no scope/],
  "items without end": [changed((header) => (header.items = { length: HUGE })), /its items have no scope/],
  "more items": [changed((header) => header.items.push(header.items[0])), /its generated pictures are not there/],
  "a grid without end": [changed((header) => (header.layers[0].grid = [HUGE, HUGE])), /its layers have no size/],
  "a canvas without end": [
    changed((header) => (header.pictures.generated[0].canvas = [HUGE, HUGE])),
    /its generated pictures are not there/,
  ],
  "a picture that is not there": [
    changed((header) => (header.pictures.generated[0].name = "picture/9")),
    /its generated pictures are not there/,
  ],
  "a picture that is a map": [
    changed((header) => (header.pictures.reference[0][0].name = MAP)),
    /its reference pictures are not there/,
  ],
  "a mask of another size": [changed((header) => (header.pictures.generated[0].canvas = [8, 8])), /'mask\/0' has/],
  "more colormaps": [changed((header) => header.colormaps.push("jet")), /'colormaps' has another shape/],
  "measures that are not known": [changed((header) => (header.measures = ["beauty"])), /measures are not known/],
  "pairs of another picture": [changed((header) => (header.pairs = { "5/0": [0] })), /lists pair maps of what/],
  "pairs of no picture": [changed((header) => (header.pairs = { constructor: [0] })), /lists pair maps of what/],
  "pairs in a list": [changed((header) => (header.pairs = [])), /pair maps are not listed/],
  "notes that are none": [changed((header) => (header.notes = [1])), /notes are no text/],
  "calls that are not counted": [changed((header) => (header.skipped = { text: -1 })), /calls are not counted/],
  "effects of no reference": [
    caused((header) => (header.references = [])),
    /its reference pictures are not there|its effects are not described/,
  ],
  "no references and no effects": [
    caused((header) => ([header.references, header.effects] = [[], undefined])),
    /references are not described/,
  ],
  "effects that are none": [caused((header) => (header.effects = null)), /its effects are not described/],
  "an owner that is none": [caused(({ effects }) => (effects.maps[0].owner = "toString")), /effects are not described/],
  "another owner": [caused(({ effects }) => (effects.maps[0].owner = 1)), /effects are not described/],
  "a route that is none": [caused(({ effects }) => (effects.maps[0].route = "sideways")), /effects are not described/],
  "a step after the last": [caused(({ effects }) => (effects.maps[0].steps = [0, 4])), /effects are not described/],
  "more measured steps": [caused(({ effects }) => effects.maps[0].steps.push(3)), /effects are not described/],
  "measured steps without end": [
    caused(({ effects }) => (effects.maps[0].steps = { length: HUGE })),
    /effects are not described/,
  ],
  "a certainty of none": [caused(({ effects }) => (effects.maps[0].certainty = [])), /effects are not described/],
  "certain beyond doubt": [
    caused(({ effects }) => (effects.maps[0].certainty[0][0] = "proven")),
    /effects are not described/,
  ],
  "measures of effects in another order": [
    caused(({ effects }) => effects.measures.reverse()),
    /its measures of effects are not known/,
  ],
  "reasons that are none": [caused(({ effects }) => (effects.unmeasured = { x: 1 })), /effects are not described/],
  "a route that was not measured": [
    caused(({ effects }) => (effects.maps[2].route = "directly")),
    /it has no 'effects\/0\/all references\/directly'/,
  ],
  "regions without end": [
    caused(({ effects }) => (effects.regions[0].grid = [65536, 65536])),
    /'region_strengths\/0\/0\/taken away' has another shape/,
  ],
  "regions turned": [caused(({ effects }) => (effects.regions[0].grid = [4, 1])), /has another shape/],
  "regions of no reference": [
    caused(({ effects }) => (effects.regions[0].reference = 1)),
    /effects of regions are not described/,
  ],
  "regions of another step": [
    caused(({ effects }) => (effects.regions[0].step = -1)),
    /effects of regions are not described/,
  ],
  "effects on another grid": [caused((header) => (header.grid = [6, 5])), /'effect_floor\/0' has another shape/],
};

for (const [name, [buffer, message]] of Object.entries(BROKEN)) {
  test(`refused: ${name}`, () => {
    assert.throws(
      () => readFile(buffer),
      (error) => error.constructor === Error && message.test(error.message) && error.message.endsWith("."),
    );
  });
}

test("positions outside a layer are refused", () => {
  const bytes = original.slice();
  const file = readFile(bytes.buffer);
  file.tensors.get("pair_rows/0/0/0").data[0] = 24;
  assert.throws(() => readFile(bytes.buffer), /'pair_rows\/0\/0\/0' leaves the grid of its layer/);
});

test("a thousand broken files are refused in a sentence, or all is there that the page looks up", () => {
  const { outcomes, failures } = fuzz(1000, 15);
  assert.deepEqual(failures, []);
  assert.ok(outcomes.refused > 500 && outcomes.read > 50, JSON.stringify(outcomes));
});
