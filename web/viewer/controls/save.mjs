/** The menu of what one takes away. */

import { element } from "../dom.mjs";
import { encodeReport } from "../export/json.mjs";
import { savePage } from "../export/page.mjs";
import { reportOf, saveAnimation, savePicture } from "../export/saving.mjs";

/** @import { Viewer } from "../viewer.mjs" */
/** @import { Shape } from "./control.mjs" */

const label = "Save";
const pageHelp =
  "One file that opens without ComfyUI. It holds the pictures, the maps and all settings of the run, the texts too.";

/** @type {Shape} */
export const save = {
  label,
  make(viewer) {
    const { say } = viewer;
    const root = element("details", { class: "save" }, element("summary", {}, say(label)));
    const copy = () => navigator.clipboard.writeText(encodeReport(reportOf(viewer.screen)));
    const close = () => (root.open = false);
    const ofPanes = [
      entry(viewer, close, say("Save view as PNG"), () => savePicture(viewer)),
      entry(viewer, close, say("Save all steps as animated WebP"), () => saveAnimation(viewer)),
    ];
    const entries = [entry(viewer, close, say("Copy as JSON"), copy, "copied", "could not copy: {0}"), ...ofPanes];
    if (!viewer.page.alone) {
      const page = entry(viewer, close, say("Save as HTML"), () => savePage(viewer));
      page.title = say(pageHelp);
      entries.push(page);
    }
    root.append(element("div", {}, ...entries));
    closeOutside(root);
    return {
      root,
      show() {
        for (const one of ofPanes) one.hidden = viewer.isAtOnce; // the panes are not to be seen then
      },
    };
  },
};

/**
 * Close a menu when one presses elsewhere, or Escape.
 * @param {HTMLDetailsElement} menu
 */
function closeOutside(menu) {
  /** @param {Event} event */
  const close = (event) => {
    if (event.composedPath().includes(menu)) return;
    menu.open = false;
    window.removeEventListener("pointerdown", close, true);
  };
  // With the click, and not with "toggle": that comes later, and a press elsewhere could be before it.
  menu.addEventListener("click", () => window.addEventListener("pointerdown", close, true));
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    event.stopPropagation(); // or it would end a question, too
    menu.open = false;
    menu.querySelector("summary")?.focus();
  });
}

/**
 * @param {Viewer} viewer
 * @param {() => void} close
 * @param {string} words
 * @param {() => Promise<void>} work
 * @param {string} done
 * @param {string} failed
 */
function entry({ say, flash }, close, words, work, done = "saved", failed = "could not save: {0}") {
  const onclick = async () => {
    close();
    try {
      await work();
      flash(say(done));
    } catch (error) {
      flash(say(failed, error instanceof Error ? error.message : error));
    }
  };
  return element("button", { type: "button", onclick }, words);
}
