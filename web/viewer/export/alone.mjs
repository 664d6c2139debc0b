/** A viewer on a page of its own, of which nobody keeps anything: what a saved HTML file runs. */

import { readFile } from "../file.mjs";
import { sentencesIn } from "../sentences.mjs";
import { translator } from "../text.mjs";
import { Viewer } from "../viewer.mjs";

/**
 * @param {HTMLElement} place
 * @param {{file: ArrayBuffer, state: unknown, locale: string, styles: string}} saved `styles` is an address
 */
export function open(place, { file, state, locale, styles }) {
  const viewer = new Viewer({
    open: () => Promise.reject(new Error("a saved page has no server.")),
    keep: () => {},
    opened: () => {},
    say: translator(locale),
    sentences: sentencesIn(locale),
    styles,
    locale,
    alone: true,
  });
  place.append(viewer.root);
  viewer.restore(state);
  viewer.open(readFile(file));
  viewer.notify("");
  return viewer;
}
