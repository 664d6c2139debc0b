/** Two runs on the page: A, B and B - A side by side, what each comes to, and which settings differ. */

import { element } from "../dom.mjs";
import { WHOLE } from "../geometry.mjs";
import { Pane } from "../pane.mjs";
import { Pictures } from "../pictures.mjs";
import { pictureOf } from "../scene.mjs";
import { comparedOf } from "./difference.mjs";

/** @import { ViewFile } from "../file.mjs" */
/** @import { Scene } from "../scene.mjs" */
/** @import { Viewer } from "../viewer.mjs" */
/** @import { Compared } from "./difference.mjs" */

/** @type {("a" | "b" | "difference")[]} */
const PLACES = ["a", "b", "difference"];

export class Comparison {
  /** @param {Viewer} viewer */
  constructor(viewer) {
    this.viewer = viewer;
    this.panes = { a: this.makePane("a"), b: this.makePane("b"), difference: this.makePane("difference") };
    this.pictures = { a: new Pictures(), b: new Pictures() };
    this.words = element("ul");
    this.said = "";
    const panes = element("div", { class: "panes" }, ...PLACES.map((place) => this.panes[place].root));
    const label = viewer.say("Two runs compared");
    this.root = element("section", { class: "compared", "aria-label": label }, panes, this.words);
    this.observer = new ResizeObserver(() => PLACES.forEach((place) => this.panes[place].layout()));
    for (const place of PLACES) this.observer.observe(this.panes[place].box);
    /** @type {unknown[]} what the pictures are of */
    this.made = [];
  }

  /** @param {string} place */
  makePane(place) {
    const { viewer } = this;
    const side = () => viewer.state.compared;
    const pane = new Pane("generated", {
      ask: () => viewer.flash(viewer.say("To ask about a part, unpin A first.")),
      hover: (place) => viewer.point(place && { side: side(), place }),
      view: (view) => viewer.change({ views: viewer.viewsWith(side(), view) }),
      whole: () => viewer.change({ views: viewer.viewsWith(side(), WHOLE) }),
    });
    pane.root.className = `pane ${place}`;
    return pane;
  }

  /**
   * @param {Scene} scene of B
   * @param {ViewFile} pinned that of A
   */
  render(scene, pinned) {
    const compared = comparedOf(scene, pinned);
    this.prepare(compared, scene.state.compared);
    for (const place of PLACES) {
      const { scene: drawn, pane, colors } = compared[place];
      this.panes[place].side = scene.state.compared;
      this.panes[place].render({ ...drawn, state: scene.state }, pane, colors);
    }
    this.tell(compared.words.filter(Boolean));
    return compared;
  }

  /** @param {string[]} words */
  tell(words) {
    if (words.join("\n") === this.said) return;
    this.said = words.join("\n");
    this.words.replaceChildren(...words.map((line) => element("li", {}, line)));
  }

  /** Put the pictures into the panes, where they are others. @param {Compared} compared @param {"generated" | "reference"} side */
  prepare({ a, b }, side) {
    const made = [side, ...[a, b].flatMap(({ scene: { file, state } }) => [file, state.item, state.reference])];
    if (made.every((one, n) => one === this.made[n])) return;
    this.made = made;
    for (const [place, { file, state }] of /** @type {["a" | "b", Scene][]} */ ([
      ["a", a.scene],
      ["b", b.scene],
    ])) {
      this.pictures[place].revoke();
      const { name, canvas } = pictureOf(file, state, side);
      this.panes[place].show(name && this.pictures[place].urlOf(file, name), canvas);
    }
    this.panes.difference.show(null, pictureOf(b.scene.file, b.scene.state, side).canvas);
  }

  /** What is drawn, from the left. @param {Compared} compared */
  drawn(compared) {
    return PLACES.map((place) => ({ ...compared[place], on: this.panes[place] }));
  }

  /** Free what the browser holds of A and B. */
  clear() {
    this.made = [];
    for (const pictures of Object.values(this.pictures)) pictures.revoke();
  }

  remove() {
    this.observer.disconnect();
    this.clear();
  }
}
