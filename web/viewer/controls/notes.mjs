/** What a person should know of the run: its most important words, and the whole summary on demand. */

import { element } from "../dom.mjs";
import { effectsOf } from "../effects.mjs";

/** @import { Header } from "../header.d.ts" */
/** @import { Say } from "../text.mjs" */
/** @import { Shape } from "./control.mjs" */

/** @type {Shape} */
export const notes = {
  label: "notes",
  make({ say }) {
    const title = element("summary");
    const text = element("pre", { role: "group", "aria-label": say("notes"), tabindex: 0 }); // which scrolls by keys, too
    /** @type {unknown} of whose file the notes are */
    let noted = null;
    return {
      root: element("details", { class: "notes" }, title, text),
      show({ file }) {
        if (file === noted) return;
        noted = file;
        title.textContent = titlesOf(file.header, say).join(" \u00b7 ");
        text.textContent = file.header.summary;
      },
    };
  },
};

/**
 * Whether all of the attention was seen that may hold a reference. Calls that hold none are no loss, however many.
 * @param {Header} header
 * @param {Say} say
 */
export function callWords({ skipped, captured_calls: read, missed_calls: missed, all_observed: all }, say) {
  const count = Object.values(skipped).reduce((sum, one) => sum + one, 0);
  if (all && read) return [say("all {0} attention calls that hold the reference were read", read)];
  if (missed) return [say("{0} attention calls that may hold a reference were not read", missed)];
  return count ? [say("{0} of {1} attention calls skipped", count, count + read)] : [];
}

/** @param {Header} header @param {Say} say */
function titlesOf(header, say) {
  const titles = [say("notes"), ...callWords(header, say)];
  if (header.notes.some((note) => /guess/i.test(note))) titles.push(say("a guess"));
  if (header.notes.some((note) => note.startsWith("steered"))) titles.push(say("steered"));
  if (Object.keys(effectsOf(header).unmeasured).length) titles.push(say("not every effect was measured"));
  if (header.references.some(({ approximate }) => approximate)) titles.push(say("approximate"));
  return titles;
}
