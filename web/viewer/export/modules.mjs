/**
 * The viewer's own modules as texts that need no server: each imports by names that stand for addresses made later. A page
 * that was opened from disk cannot import files beside it, but it can import what it holds itself.
 */

// At the start of a line: in comments, types are imported as well.
const IMPORTS = /^((?:import|export)\b[^;]*?from )"(\.[^"]+)";/gm;
const ROOT = "file:///";

/**
 * A module and all that it imports, each after those that it imports itself.
 * @param {string} entry its name, from the folder of the viewer
 * @param {(name: string) => Promise<string>} read
 * @returns {Promise<[name: string, text: string][]>} in which `from "i2am:NAME"` stands for each import
 * @throws {Error} where modules import one another in a circle: there is no order for these
 */
export async function modulesOf(entry, read) {
  /** @type {Map<string, string>} */
  const done = new Map();
  /** @param {string} name @param {string[]} importers */
  async function add(name, importers) {
    if (importers.includes(name)) throw new Error(`modules import one another: ${[...importers, name].join(" > ")}`);
    if (done.has(name)) return;
    const text = await read(name);
    for (const [, , other] of text.matchAll(IMPORTS)) await add(nameOf(other, name), [...importers, name]);
    done.set(
      name,
      text.replace(IMPORTS, (_, before, other) => `${before}"i2am:${nameOf(other, name)}";`),
    );
  }
  await add(entry, []);
  return [...done];
}

/**
 * @param {string} specifier
 * @param {string} importer
 */
const nameOf = (specifier, importer) => new URL(specifier, ROOT + importer).href.slice(ROOT.length);
