/** The menus above the panes: which map is shown, how it is drawn, and what is saved of it. */

import { element, fill, menu } from "./dom.mjs";
import { WHOLE } from "./geometry.mjs";
import { FULL, iconButton, LINK, WHOLE_PICTURE } from "./icon.mjs";
import { encodeReport } from "./report.mjs";
import { reportOf, saveAnimation, savePicture } from "./saving.mjs";
import { stateFrom } from "./state.mjs";

/** @import { Option } from "./dom.mjs" */
/** @import { HeaderReference } from "./header.d.ts" */
/** @import { State } from "./state.mjs" */
/** @import { Viewer } from "./viewer.mjs" */

/** @typedef {(words: string) => void} Flash says something for a moment */

export class MenuBar {
  /**
   * @param {Viewer} viewer
   * @param {Flash} flash
   */
  constructor(viewer, flash) {
    this.viewer = viewer;
    const { say } = viewer;
    this.item = menu(say("Picture of the batch"), [], (value) => viewer.change({ item: Number(value) }));
    this.reference = menu(say("Reference"), [], (value) => viewer.change({ reference: Number(value) }));
    this.normalization = this.menuOf("normalization", say("What a value says"), [
      ["paper", say("where (paper)")],
      ["share", say("how much (share)")],
    ]);
    this.scale = this.menuOf("scale", say("What the colours span"), [
      ["each map", say("scale: each map")],
      ["over time", say("scale: over time")],
    ]);
    this.style = this.menuOf("style", say("How maps are drawn"), [
      ["heat", say("heat")],
      ["contours", say("contours")],
      ["off", say("picture only")],
    ]);
    this.colormap = this.menuOf("colormap", say("Colours"), []);
    this.opacity = this.makeOpacity();
    this.linked = iconButton(LINK, say("Move both panes together"), () => this.toggleLinked());
    const whole = iconButton(WHOLE_PICTURE, say("Whole pictures"), () =>
      viewer.change({ views: { generated: WHOLE, reference: WHOLE } }),
    );
    const full = iconButton(FULL, say("Full screen"), () => viewer.fullScreen());
    this.root = element(
      "div",
      { class: "bar" },
      ...[this.item, this.reference, this.normalization, this.scale, this.style, this.colormap, this.opacity],
      ...[this.linked, whole, makeSave(viewer, flash), full],
    );
  }

  /**
   * @param {"normalization" | "scale" | "style" | "colormap"} key of the state
   * @param {string} name
   * @param {Option[]} options
   */
  menuOf(key, name, options) {
    return menu(name, options, (value) =>
      this.viewer.change({ [key]: stateFrom({ ...this.viewer.state, [key]: value })[key] }),
    );
  }

  makeOpacity() {
    const name = this.viewer.say("Strength of the heat");
    const attributes = { min: 0, max: 1, step: 0.05, class: "opacity", title: name, "aria-label": name };
    const opacity = element("input", { type: "range", ...attributes });
    opacity.addEventListener("input", () => this.viewer.change({ opacity: Number(opacity.value) }, false));
    opacity.addEventListener("change", () => this.viewer.change({ opacity: Number(opacity.value) }));
    return opacity;
  }

  toggleLinked() {
    const linked = !this.viewer.state.linked;
    const view = this.viewer.state.views.generated;
    this.viewer.change({ linked, ...(linked ? { views: { generated: view, reference: view } } : {}) });
  }

  /** Fill the menus with what a new file has. */
  offer() {
    const { opened, state, say } = this.viewer;
    const { header } = opened;
    /** @type {(reference: HeaderReference, number: number) => Option} */
    const optionOf = ({ name, layers }, number) =>
      layers.length ? [number, `${number}: ${name}`] : [number, say("{0}: {1} (never read)", number, name), true];
    fill(
      this.item,
      header.items.map((_, number) => [number, say("picture {0}", number)]),
      state.item,
    );
    fill(this.reference, header.references.map(optionOf), state.reference);
    fill(
      this.colormap,
      header.colormaps.map((name) => [name, name]),
      state.colormap,
    );
  }

  /** @param {State} state */
  show(state) {
    this.item.value = String(state.item);
    this.reference.value = String(state.reference);
    this.normalization.value = state.normalization;
    this.scale.value = state.scale;
    this.style.value = state.style;
    this.colormap.value = state.colormap;
    this.opacity.value = String(state.opacity);
    this.linked.setAttribute("aria-pressed", String(state.linked));
  }
}

/**
 * The menu of what can be taken away.
 * @param {Viewer} viewer
 * @param {Flash} flash
 */
function makeSave(viewer, flash) {
  const { say } = viewer;
  const list = element("details", { class: "save" }, element("summary", {}, say("Save")));
  /**
   * @param {string} text
   * @param {() => Promise<void>} work
   * @param {string} done
   * @param {string} failed
   */
  const entry = (text, work, done = "saved", failed = "could not save: {0}") => {
    const onclick = async () => {
      list.open = false;
      try {
        await work();
        flash(say(done));
      } catch (error) {
        flash(say(failed, error instanceof Error ? error.message : error));
      }
    };
    return element("button", { type: "button", onclick }, say(text));
  };
  const copy = () => navigator.clipboard.writeText(encodeReport(reportOf(viewer)));
  const entries = [
    entry("Copy as JSON", copy, "copied", "could not copy: {0}"),
    entry("Save view as PNG", () => savePicture(viewer)),
    entry("Save all steps as animated WebP", () => saveAnimation(viewer)),
  ];
  list.append(element("div", {}, ...entries));
  return list;
}
