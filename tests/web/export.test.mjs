/** What is saved as an HTML file: the viewer's file written again, thinner where it must be, and modules without a server. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { readFile } from "../../web/viewer/file.mjs";
import { modulesOf } from "../../web/viewer/export/modules.mjs";
import { htmlOf } from "../../web/viewer/export/page.mjs";
import { LEFT_OUT, thinned } from "../../web/viewer/export/thin.mjs";
import { sizeOf, writeFile } from "../../web/viewer/export/write.mjs";
import { mapOf, measureOf } from "../../web/viewer/maps.mjs";
import { settled } from "../../web/viewer/model.mjs";
import { screenOf } from "../../web/viewer/screen.mjs";
import { START } from "../../web/viewer/state.mjs";
import { translated, translator } from "../../web/viewer/text.mjs";

const fixture = (name) => readFile(new Uint8Array(readFileSync(new URL(`./fixtures/${name}`, import.meta.url))).buffer);
const file = fixture("view.safetensors");
const effects = fixture("effects.safetensors");
const video = fixture("video.safetensors");
const say = translator("en");
const VIEWER = new URL("../../web/viewer/", import.meta.url);
const read = async (name) => readFileSync(new URL(name, VIEWER), "utf8");
const all = { item: 0, reference: 0, layer: null, step: null, head: null };

test("a file that is written again is the same", () => {
  for (const one of [file, effects, video]) {
    const same = readFile(writeFile(one).buffer);
    assert.deepEqual(same.header, one.header);
    assert.deepEqual(new Map([...same.tensors].sort()), new Map([...one.tensors].sort()));
  }
});

test("a file that fits is left as it is", () => {
  assert.deepEqual(thinned(file, sizeOf(file)), { file, leftOut: [] });
});

/** Every number of bytes at which something else is left out. */
function* thinner(from) {
  for (let { file: one, leftOut } = thinned(from, sizeOf(from)); ;) {
    yield { file: one, leftOut };
    try {
      ({ file: one, leftOut } = thinned(from, sizeOf(one) - 1));
    } catch {
      return;
    }
  }
}

test("what is left out is said, and what stays is what it was", () => {
  const said = [];
  for (const { file: thin, leftOut } of thinner(effects)) {
    const again = readFile(writeFile(thin).buffer); // which checks that all fits
    said.push(...leftOut);
    assert.deepEqual(mapOf(again, all, "r2g_paper"), mapOf(effects, all, "r2g_paper"));
    assert.equal(measureOf(again, all, "concentration"), measureOf(effects, all, "concentration"));
    for (const layer of [null, 0, 1]) {
      const step = again.header.steps.length - 1;
      const [there, before] = [again, effects].map((one) =>
        mapOf(
          one,
          { ...all, layer, step: leftOut.includes("single steps") && one === effects ? null : step },
          "g2r_share",
        ),
      );
      assert.deepEqual(there, before, leftOut.join());
    }
    if (again.header.heads) {
      const head = { ...all, layer: 0, head: 2 };
      assert.deepEqual(mapOf(again, head, "r2g_share"), mapOf(effects, head, "r2g_share"));
    }
    const screen = screenOf({
      file: again,
      state: settled(again, { ...START, step: 3, head: 4 }),
      say,
      question: null,
    });
    assert.ok(screen.panes.generated.heat);
  }
  for (const { file: thin, leftOut } of thinner(video)) {
    const again = readFile(writeFile(thin).buffer);
    said.push(...leftOut);
    const settledThere = settled(again, { ...START, frame: 2 });
    assert.equal(settledThere.frame, leftOut.includes("single frames") ? null : 2);
    assert.ok(screenOf({ file: again, state: settledThere, say, question: null }).panes.generated.heat);
  }
  assert.deepEqual(new Set(said), new Set(LEFT_OUT));
});

test("what was left out is answered in words", () => {
  const { file: thin } = [...thinner(effects)].at(-1);
  const question = { side: "generated", box: [0.5, 0.5, 0.5, 0.5] };
  for (const normalization of ["paper", "effect"]) {
    const state = settled(thin, { ...START, normalization });
    const { message, heat } = screenOf({ file: thin, state, say, question }).panes.reference;
    assert.match(message, /did not fit into the viewer's file/);
    assert.equal(heat, null);
  }
});

test("a file that cannot be as small is refused in one sentence", () => {
  assert.throws(() => thinned(file, 1000), /^Error: the smallest file of this run has 0\.0 MB, expected 0\.0 MB: use/);
});

test("modules come after those that they import, and import no file", async () => {
  const modules = await modulesOf("export/alone.mjs", read);
  const names = modules.map(([name]) => name);
  assert.ok(names.length > 50 && names.at(-1) === "export/alone.mjs");
  assert.equal(new Set(names).size, names.length);
  modules.forEach(([name, text], number) => {
    const imports = [...text.matchAll(/^(?:import|export)\b[^;]*?from "(.*)";$/gm)].map(([, from]) => from);
    for (const from of imports) {
      assert.match(from, /^i2am:/, name);
      assert.ok(names.slice(0, number).includes(from.slice("i2am:".length)), `${name} imports ${from}`);
    }
  });
});

test("modules that import one another in a circle are refused", async () => {
  const texts = { "a.mjs": 'import { b } from "./b.mjs";', "b.mjs": 'export * from "./a.mjs";' };
  await assert.rejects(
    modulesOf("a.mjs", async (name) => texts[name]),
    /modules import one another: a\.mjs > b\.mjs > a\.mjs/,
  );
});

test("a page holds all that it needs, and no name of a reference is markup", async () => {
  const header = { ...file.header, references: [{ ...file.header.references[0], name: "</h1><script>" }] };
  const given = { modules: await modulesOf("export/alone.mjs", read), styles: ["a {}", "b {}"], header };
  const html = htmlOf({ ...given, data: writeFile(file), leftOut: ["single heads"], state: START, locale: "en" }, say);
  assert.match(html, /<h1>I2AM: &lt;\/h1>&lt;script><\/h1>/);
  assert.match(html, /<p>Left out, so that this file is small: single heads\.<\/p>/);
  assert.doesNotMatch(html, /<(?:script|link|img)[^>]* (?:src|href)=/);
  const data = html.match(/<script type="text\/plain" id="data">(.*?)<\/script>/s)[1];
  assert.deepEqual(new Uint8Array(Buffer.from(data, "base64")), writeFile(file));
  const saved = JSON.parse(html.match(/<script type="application\/json" id="saved">(.*?)<\/script>/s)[1]);
  assert.deepEqual(saved.state, START);
  assert.equal(html.split("</script>").length - 1, 3);
});

test("what can be left out is translated", () => {
  for (const words of LEFT_OUT) assert.ok(translated.includes(words), words);
});
