/** The menus above the panes: which map is shown, how it is drawn, and what is saved of it. */

import { element, fill, menu } from "./dom.mjs";
import { cutsOf, effectsOf, hasAttention, isEffect, ownerOf, ownersOf, routesOf } from "./effects.mjs";
import { WHOLE } from "./geometry.mjs";
import { FULL, iconButton, LINK, WHOLE_PICTURE } from "./icon.mjs";
import { encodeReport } from "./report.mjs";
import { reportOf, saveAnimation, savePicture } from "./saving.mjs";
import { PARTS, stateFrom } from "./state.mjs";

/** @import { Option } from "./dom.mjs" */
/** @import { HeaderReference } from "./header.d.ts" */
/** @import { Part, State } from "./state.mjs" */
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
    this.reference = menu(say("Reference"), [], (value) => {
      const { owner } = stateFrom({ owner: value });
      viewer.change(owner ? { owner } : { reference: Number(value), owner: null });
    });
    this.normalization = this.menuOf("normalization", say("What a value says"), []);
    this.route = this.menuOf("route", say("How it reaches the picture"), []);
    this.cut = this.menuOf("cut", say("How the effect of a part was measured"), []);
    /** @type {WeakMap<HTMLSelectElement, string>} what is in menus that change with the state */
    this.offered = new WeakMap();
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
      ...[this.item, this.reference, this.normalization, this.route, this.cut, this.scale, this.style, this.colormap],
      this.opacity,
      ...[this.linked, whole, makeSave(viewer, flash), full],
    );
  }

  /**
   * @param {"normalization" | "route" | "cut" | "scale" | "style" | "colormap"} key of the state
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
    fill(
      this.item,
      header.items.map((_, number) => [number, say("picture {0}", number)]),
      state.item,
    );
    /** @type {Option[]} */
    const attention = [
      ["paper", say("where (paper)")],
      ["share", say("how much (share)")],
    ];
    /** @type {Option[]} */
    const effect = effectsOf(header).maps.length ? [["effect", say("what it changed (effect)")]] : [];
    fill(this.normalization, hasAttention(header) || !effect.length ? [...attention, ...effect] : effect, "");
    fill(
      this.colormap,
      header.colormaps.map((name) => [name, name]),
      state.colormap,
    );
  }

  /**
   * Whose map it is: one of the references, or of effects also what else was taken away.
   * @param {State} state
   * @returns {Option[]}
   */
  references(state) {
    const { opened, say } = this.viewer;
    const { references } = opened.header;
    if (!isEffect(state)) {
      return references.map(({ name, layers }, number) =>
        layers.length ? [number, `${number}: ${name}`] : [number, say("{0}: {1} (never read)", number, name), true],
      );
    }
    const owners = ownersOf(opened.header);
    /** @type {Record<Part, string>} */
    const words = {
      "all references": say("all references"),
      text: say("the text"),
      conditioning: say("compared with 'without'"),
    };
    /** @type {Option[]} */
    const parts = PARTS.filter((part) => owners.includes(part)).map((part) => [part, words[part]]);
    /** @type {(reference: HeaderReference, number: number) => Option} */
    const optionOf = ({ name }, number) =>
      owners.includes(number)
        ? [number, `${number}: ${name}`]
        : [number, say("{0}: {1} (not measured)", number, name), true];
    return [...references.map(optionOf), ...parts];
  }

  /**
   * The menus that offer other things in effects than in attention. One is made anew only if it has others.
   * @param {State} state
   */
  offerEffects(state) {
    const { opened, say } = this.viewer;
    const routes = { everything: say("by any way"), directly: say("directly") };
    const cuts = { "taken away": say("part taken away"), "only this left": say("only part left") };
    /** @type {[HTMLSelectElement, Option[], string | number][]} */
    const menus = [
      [this.reference, this.references(state), isEffect(state) ? ownerOf(state) : state.reference],
      [this.route, routesOf(opened.header, ownerOf(state)).map((one) => [one, routes[one]]), state.route],
      [this.cut, cutsOf(opened.header, state).map((one) => [one, cuts[one]]), state.cut],
    ];
    for (const [select, options, value] of menus) {
      const offered = JSON.stringify(options);
      if (this.offered.get(select) !== offered) fill(select, options, value);
      this.offered.set(select, offered);
      select.value = String(value);
    }
    for (const select of [this.route, this.cut]) select.hidden = !isEffect(state) || select.options.length < 2;
  }

  /** @param {State} state */
  show(state) {
    this.offerEffects(state);
    this.item.value = String(state.item);
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
