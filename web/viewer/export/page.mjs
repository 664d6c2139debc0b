/**
 * One HTML file of a viewer and what it shows, which opens from disk in any browser: for a bug report, or a colleague. It
 * holds the viewer's modules, its style sheets and its data, and asks no server for anything.
 */

import { thinned } from "./thin.mjs";
import { modulesOf } from "./modules.mjs";
import { runWords } from "./saving.mjs";
import { save } from "./sheet.mjs";
import { writeFile } from "./write.mjs";

/** @import { FileHeader } from "../header.d.ts" */
/** @import { State } from "../state.mjs" */
/** @import { Say } from "../text.mjs" */
/** @import { Viewer } from "../viewer.mjs" */

const MOST = 30 * 2 ** 20; // bytes of data: what is sent to others must not be large
const ENTRY = "export/alone.mjs";
const STYLES = ["style.css", "export/page.css"];
const AT_ONCE = 2 ** 15; // bytes that are written in one go

/** What is allowed on the page: only what it holds. */
const POLICY = "default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; img-src blob: data:";

/**
 * What a saved page is made of.
 * @typedef {object} Parts
 * @property {[name: string, text: string][]} modules each after those that it imports
 * @property {string[]} styles the viewer's, and the page's
 * @property {Uint8Array} data the viewer's file
 * @property {FileHeader} header
 * @property {string[]} leftOut of the file, in words
 * @property {State} state
 * @property {string} locale
 */

/** @param {Viewer} viewer */
export async function savePage(viewer) {
  const { opened, state, page } = viewer;
  const { file, leftOut } = thinned(opened, MOST);
  const base = new URL("../", import.meta.url);
  /** @param {string} name */
  const read = async (name) => {
    const answer = await fetch(new URL(name, base));
    if (!answer.ok) throw new Error(`the server answered ${answer.status} for ${name}: reload the page.`);
    return answer.text();
  };
  const [modules, styles] = await Promise.all([modulesOf(ENTRY, read), Promise.all(STYLES.map(read))]);
  const { header } = file;
  const html = htmlOf(
    { modules, styles, data: writeFile(file), header, leftOut, state, locale: page.locale },
    page.say,
  );
  save(new Blob([html], { type: "text/html" }), "i2am.html");
}

/**
 * @param {Parts} parts
 * @param {Say} say
 */
export function htmlOf({ modules, styles, data, header, leftOut, state, locale }, say) {
  const title = `I2AM: ${header.references.map(({ name }) => name).join(", ") || header.mechanism}`;
  const missing = leftOut.length
    ? `<p>${escaped(say("Left out, so that this file is small: {0}.", leftOut.map((one) => say(one)).join(", ")))}</p>`
    : "";
  const inline = { modules, entry: ENTRY, styles: styles[0], state, locale };
  return `<!doctype html>
<html lang="${escaped(locale)}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(title)}</title>
<style>
${styles[1]}</style>
</head>
<body>
<header>
<h1>${escaped(title)}</h1>
<p>${escaped(runWords(header))}</p>
${missing}</header>
<main></main>
<script type="application/json" id="saved">${JSON.stringify(inline).replaceAll("<", "\\u003c")}</script>
<script type="text/plain" id="data">${base64Of(data)}</script>
<script>(${start})();</script>
</body>
</html>
`;
}

/** What the saved page does first. It is written into that page: it can use nothing of this module. */
function start() {
  /** @param {string} id */
  const textOf = (id) => document.getElementById(id)?.textContent ?? "";
  const { modules, entry } = JSON.parse(textOf("saved"));
  /** @type {Record<string, string>} */
  const addresses = {};
  for (const [name, text] of modules) {
    /** @type {(all: string, before: string, other: string) => string} */
    const linked = (_, before, other) => `${before}"${addresses[other]}";`;
    const whole = text.replace(/^((?:import|export)\b[^;]*?from )"i2am:([^"]+)";/gm, linked);
    addresses[name] = URL.createObjectURL(new Blob([whole], { type: "text/javascript" }));
  }
  const script = document.createElement("script");
  script.type = "module"; // and no import(): until a script of the page has run, the page is not loaded
  script.textContent = `import { open } from "${addresses[entry]}";
    const [saved, data] = ["saved", "data"].map((id) => document.getElementById(id).textContent);
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    open(document.querySelector("main"), { ...JSON.parse(saved), file: bytes.buffer });`;
  document.querySelector("main")?.after(script);
}

/** @param {string} text */
function escaped(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}

/** @param {Uint8Array} bytes */
function base64Of(bytes) {
  const letters = [];
  for (let at = 0; at < bytes.length; at += AT_ONCE)
    letters.push(String.fromCharCode(...bytes.subarray(at, at + AT_ONCE)));
  return btoa(letters.join(""));
}
