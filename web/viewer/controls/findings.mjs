/** What is wrong or right with the run, in plain words: each sentence leads to what proves it. */

import { element } from "../dom.mjs";
import { evidenceOf, findingsOf } from "../evidence.mjs";

/** @import { HeaderFinding } from "../header.d.ts" */
/** @import { Viewer } from "../viewer.mjs" */
/** @import { Shape } from "./control.mjs" */

const FIRST = 3; // that are to be seen without asking for more
const MARKS = { fault: "!", fact: "i", fine: "\u2713" };
const MEANINGS = { fault: "something is wrong", fact: "good to know", fine: "as it should be" };

/** @type {Shape} */
export const findings = {
  label: "Findings",
  help: "Shows what proves it.",
  make(viewer) {
    const { say } = viewer;
    const list = element("ul", {});
    const more = element("button", { type: "button", class: "more", onclick: () => toggle() });
    const ofThumb = element("span", {}, viewer.page.sentences.ofThumb);
    const foot = element("div", { class: "foot" }, ofThumb, more);
    const root = element("section", { class: "findings", "aria-label": say("Findings") }, list, foot);
    let all = false;
    /** @type {unknown[]} what the list was made of */
    let made = [];

    function toggle() {
      all = !all;
      viewer.draw();
    }

    return {
      root,
      show({ file, state: { item } }) {
        const isCompared = viewer.pinned.other !== null;
        const making = [file, item, all, isCompared];
        if (making.every((one, n) => one === made[n])) return;
        made = making;
        const said = findingsOf(file.header, item);
        const some = all ? said : said.slice(0, FIRST);
        list.replaceChildren(...some.map((one) => entry(viewer, one, isCompared ? "B: " : "")));
        ofThumb.hidden = !some.some((one) => one.of_thumb);
        more.textContent = all ? say("fewer") : say("{0} more", said.length - some.length);
        more.hidden = said.length <= FIRST;
        root.hidden = !said.length;
      },
    };
  },
};

/** @param {Viewer} viewer @param {HeaderFinding} finding @param {string} ofWhich run, where there are two */
function entry(viewer, finding, ofWhich) {
  const { say } = viewer;
  const { sentences } = viewer.page;
  const mark = element("span", { class: "mark", "aria-label": say(MEANINGS[finding.weight]) }, MARKS[finding.weight]);
  const link = element(
    "button",
    { type: "button", title: say("Shows what proves it."), onclick: () => showProof(viewer, finding) },
    mark,
    element("span", {}, ofWhich + sentences.finding(finding)),
  );
  const tries = finding.tries.map((one) => element("p", { class: "try" }, sentences.advice(one)));
  return element("li", { class: finding.weight }, link, ...tries);
}

/** @param {Viewer} viewer @param {HeaderFinding} finding */
function showProof(viewer, finding) {
  const proof = evidenceOf(viewer.opened, finding);
  if (proof) viewer.change(proof);
  else viewer.openNotes();
}
