/** A viewer on a page of its own, of which nobody keeps anything: what a saved HTML file runs. */

import { readFile } from "../file.mjs";
import { sentencesIn } from "../sentences.mjs";
import { translator } from "../text.mjs";
import { Viewer } from "../viewer.mjs";

/**
 * @param {HTMLElement} place
 * @param {{file: ArrayBuffer, state: unknown, locale: string, styles: string}} saved `styles` of the viewer
 */
export function open(place, { file, state, locale, styles }) {
  const viewer = new Viewer({
    open: () => Promise.reject(new Error("a saved page has no server.")),
    keep: () => {},
    opened: () => {},
    earlier: () => [],
    keepPinned: () => {},
    forget: () => {},
    say: translator(locale),
    sentences: sentencesIn(locale),
    locale,
    alone: true,
  });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(styles);
  if (viewer.root.shadowRoot) viewer.root.shadowRoot.adoptedStyleSheets = [sheet];
  place.append(viewer.root);
  viewer.restore(state);
  try {
    viewer.open(readFile(file));
    viewer.notify("");
    viewer.drawNow(); // whoever prints the page, or takes a picture of it, waits for no frame
  } catch (error) {
    viewer.notify("The result could not be read: {0}", error instanceof Error ? error.message : error);
  }
}
