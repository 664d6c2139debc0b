/**
 * The viewer: what one looks at (`state`), and what the page shows of it. Everything is drawn from the file and the state,
 * once for each frame at most; changes of the state go through `change`.
 */

import { ask, strongest } from "./ask.mjs";
import { Controls } from "./controls.mjs";
import { element } from "./dom.mjs";
import { download, Gone, readFile } from "./file.mjs";
import { WHOLE } from "./geometry.mjs";
import { paint, paintContours, paletteOf, rangeOf, resize, restore } from "./heat.mjs";
import { choices, mapOf, measureOf, rangeOverSteps, settle, stepsOf, varies } from "./maps.mjs";
import { outlineOf, Pane } from "./pane.mjs";
import { imacs } from "./score.mjs";
import { drawSheet, encode, save } from "./sheet.mjs";
import { stateFrom } from "./state.mjs";
import { animate } from "./webp.mjs";
import { small } from "./words.mjs";

const FRAME = 250; // milliseconds of a step that is played
const PATCHES = 5;

export class Viewer {
  /**
   * @param {object} host
   * @param {(result: object) => Promise<Response>} host.open asks the server for a file
   * @param {(state: object) => void} host.keep keeps a state in the workflow
   * @param {(text: string, ...values: any[]) => string} host.say the words of the user's language
   * @param {string} host.styles address of the style sheet
   */
  constructor(host) {
    this.host = host;
    this.say = host.say;
    this.state = stateFrom(null);
    this.urls = new Map();
    this.root = element("div", {
      class: "i2am-viewer",
      tabindex: 0,
      "data-capture-wheel": "true",
      "aria-label": this.say("Viewer of I2AM"),
    });
    this.panes = Object.fromEntries(["generated", "reference"].map((side) => [side, this.makePane(side)]));
    this.status = element("p", { class: "status", role: "status" });
    this.controls = new Controls(this);
    this.body = element(
      "div",
      { class: "body", hidden: true },
      this.controls.bar,
      element("div", { class: "panes" }, this.panes.generated.root, this.panes.reference.root),
      this.controls.root,
    );
    const shadow = this.root.attachShadow({ mode: "open" });
    shadow.append(
      element("link", { rel: "stylesheet", href: host.styles }),
      element("div", { class: "viewer" }, this.status, this.body),
    );
    this.root.addEventListener("keydown", (event) => this.press(event));
    this.observer = new ResizeObserver(() => Object.values(this.panes).forEach((pane) => pane.layout()));
    this.observer.observe(this.panes.generated.box);
    this.observer.observe(this.panes.reference.box);
    this.tell("Queue the workflow, and this shows how the reference acts.");
  }

  makePane(side) {
    return new Pane(side, {
      ask: (box) => this.change({ ask: { side, box } }),
      hover: (place) => this.hover(side, place),
      view: (view) =>
        this.change({
          views: this.state.linked ? { generated: view, reference: view } : { ...this.state.views, [side]: view },
        }),
    });
  }

  tell(text, ...values) {
    this.status.textContent = text ? this.say(text, ...values) : "";
    this.status.hidden = !text;
  }

  running() {
    this.tell(this.file ? "Running. Below is the last result." : "Running.");
  }

  /** A run ended, and whatever it had for this viewer has come. */
  rests() {
    if (this.file) this.tell("");
    else if (!this.result) this.tell("Queue the workflow, and this shows how the reference acts.");
  }

  failed() {
    this.tell(
      this.file ? "The last run failed. Below is the result before it." : "The last run failed: its message says why.",
    );
  }

  /** Show a result `{filename, subfolder, type, bytes}`; what was shown before stays until it is there. */
  async load(result) {
    if (this.result?.filename === result.filename) return;
    this.result = result;
    try {
      const buffer = await download(
        () => this.host.open(result),
        result.bytes,
        (part) => {
          if (this.result === result) this.tell("Loading {0} %", Math.round(100 * part));
        },
      );
      if (this.result !== result) return; // a newer one is on its way
      this.use(readFile(buffer));
      this.tell("");
    } catch (error) {
      if (this.result !== result) return;
      this.result = null;
      if (error instanceof Gone) this.tell("The last result is not on the server any more: queue again to explore.");
      else this.tell("The result could not be read: {0}", error.message);
    }
  }

  use(file) {
    this.file = file;
    this.forget();
    this.state = this.settled(this.state);
    this.body.hidden = false;
    this.controls.offer();
    this.showPictures();
    this.draw();
  }

  settled(state, changed) {
    const settled = settle(this.file.header, state, changed);
    const measures = this.file.header.measures.filter((name) => varies(this.file, settled, name));
    if (!measures.includes(settled.measure)) settled.measure = null;
    return settled;
  }

  /** The measure that bars and tables show: the one chosen, or the first that tells anything. */
  get measure() {
    const { state, file } = this;
    return state.measure ?? file.header.measures.find((name) => varies(file, state, name)) ?? "share";
  }

  /** A state from the workflow. */
  restore(kept) {
    this.state = stateFrom(kept);
    if (!this.file) return;
    this.state = this.settled(this.state);
    this.showPictures();
    this.draw();
  }

  /** Change what is looked at. `lasting` changes are kept in the workflow. */
  change(parts, lasting = true) {
    if (!this.file) return;
    const pictures = "item" in parts || "reference" in parts;
    const wanted = { ...this.state, ...parts };
    this.state = this.settled(wanted, Object.keys(parts)[0]);
    this.hovered = null;
    if (wanted.step !== null && wanted.head !== null && !this.file.header.joint.length) {
      this.controls.flash(
        this.say("One head in one step did not fit into the viewer's file: the other is set to all."),
      );
    }
    if (pictures) this.showPictures();
    this.draw();
    if (lasting) this.host.keep(this.state);
  }

  hover(side, place) {
    const known =
      this.file && !this.state.ask && this.file.header.pairs[`${this.state.item}/${this.state.reference}`]?.length;
    if (!known && !this.hovered) return;
    this.hovered = known && place ? { side, box: [...place, ...place] } : null;
    this.draw();
  }

  showPictures() {
    const { pictures } = this.file.header;
    const { item, reference } = this.state;
    const places = { generated: pictures.generated[item], reference: pictures.reference[reference][item] };
    for (const [side, place] of Object.entries(places)) this.panes[side].show(this.urlOf(place.name), place.canvas);
    const mask = this.file.tensors.get(`mask/${item}`);
    this.mask = mask?.data;
    this.outline = mask ? outlineOf(mask.data, ...mask.shape) : "";
    this.notes = { generated: places.generated.note, reference: places.reference.note };
  }

  urlOf(name) {
    if (!name) return null;
    if (!this.urls.has(name)) {
      this.urls.set(name, URL.createObjectURL(new Blob([this.file.tensors.get(name).data], { type: "image/png" })));
    }
    return this.urls.get(name);
  }

  /** Draw with the next frame. */
  draw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.drawNow();
    });
  }

  drawNow() {
    if (!this.file) return;
    const shown = { generated: this.shown("generated"), reference: this.shown("reference") };
    for (const [side, pane] of Object.entries(this.panes)) this.drawPane(pane, side, shown);
    this.controls.show(shown);
  }

  /**
   * What a pane is to show: `{values, own, range, title, detail, message, patches}`: values at the size of its heat, the
   * range of these, and the range that the colours span.
   */
  shown(side) {
    const asked = this.hovered ?? this.state.ask;
    return asked && asked.side !== side ? this.answer(side, asked) : this.map(side);
  }

  map(side) {
    const { state, file, say } = this;
    const direction = side === "generated" ? "r2g" : "g2r";
    const field = `${direction}_${state.normalization}`;
    const reference = file.header.references[state.reference];
    const title = say(side === "generated" ? "Where the reference acts" : "Which parts were used");
    const scope = file.header.items[state.item].scope;
    const details = [say(side === "generated" ? "reference to generated" : "generated to reference")];
    if (side === "reference") {
      if (!reference.grid)
        return {
          title,
          detail: "",
          message: say("This reference's tokens have no place in its image, so there is no map on it."),
          patches: [],
        };
      details.push(say(scope === "whole image" ? "asked by the whole picture" : "asked by the inpainting mask"));
      if (reference.approximate) details.push(say("approximate"));
    }
    const detail = details.join(" \u00b7 ");
    const map = mapOf(file, state, field);
    if (!map) return { title, detail, message: say("nothing was captured here"), patches: [] };
    const fixed = state.scale === "over time" ? rangeOverSteps(file, state, field) : null;
    return { title, detail, patches: [], ...this.enlarge(side, restore(map), map, fixed) };
  }

  answer(side, asked) {
    const { file, say } = this;
    const title = say(side === "reference" ? "Which parts made the marked part" : "Where the marked part went");
    const found = ask(file, this.state, asked.side, asked.box);
    if (found.missing) return { title, detail: "", message: say(MISSING[found.missing]), patches: [] };
    const [layer] = found.layers;
    const detail = [
      found.layers.length === 1
        ? say("of layer {0}, all steps and heads", file.header.layers[layer].name)
        : say("mean of all steps and heads of {0} layers", found.layers.length),
    ];
    if (file.header.references[this.state.reference].approximate) detail.push(say("approximate"));
    const patches = strongest(found.values, PATCHES).map(({ cell, share }, number) => {
      const [x, y] = [cell % found.width, Math.floor(cell / found.width)];
      const box = [x / found.width, y / found.height, (x + 1) / found.width, (y + 1) / found.height];
      return { box, share, label: String(number + 1) };
    });
    return { title, detail: detail.join(" \u00b7 "), patches, ...this.enlarge(side, found.values, found, null) };
  }

  enlarge(side, values, { height, width }, fixed) {
    const { heat: canvas } = this.panes[side];
    const large = resize(values, height, width, canvas.height, canvas.width);
    const own = rangeOf(large);
    return { values: large, own, range: fixed ?? own };
  }

  drawPane(pane, side, shown) {
    const { state } = this;
    const { values, range, title, detail, message, patches } = shown[side];
    const table = this.colors(state.colormap);
    const draw = state.style === "contours" ? paintContours : paint;
    const fill = (pixels) => draw(values, range, paletteOf(table), pixels, pane.heat.width);
    pane.title.textContent = title;
    pane.detail.textContent = detail;
    pane.detail.title = detail;
    pane.box.setAttribute("aria-label", `${title}. ${detail}`);
    pane.draw(values ? fill : null, state.style, state.opacity);
    pane.explain(table, values && state.style !== "off" ? [small(range.low), small(range.high)] : null);
    pane.say(message ?? this.notes[side]);
    const asked = this.hovered ?? state.ask;
    pane.mark(side === "generated" ? this.outline : "", asked?.side === side ? asked.box : null, patches);
    pane.move(state.views[side]);
  }

  colors(name) {
    const { header, tensors } = this.file;
    const number = Math.max(0, header.colormaps.indexOf(name));
    return tensors.get("colormaps").data.subarray(768 * number, 768 * (number + 1));
  }

  /** IMACS of the picture's map against the mask; null where there is no mask, or nothing to score. */
  score(shown) {
    const { values, own } = shown.generated;
    return this.mask && values ? imacs(values, own, this.mask) : null;
  }

  // Moving along an axis

  /** One to the next or the last; beyond the ends is the mean of all. */
  step(axis, by) {
    if (!this.file) return;
    const values = choices(this.file.header, this.state, axis);
    const at = this.state[axis] === null ? (by > 0 ? -1 : values.length) : values.indexOf(this.state[axis]);
    this.change({ [axis]: values[at + by] ?? null });
  }

  play(on = !this.playing) {
    clearInterval(this.playing);
    this.playing = on && this.file ? setInterval(() => this.advance(), FRAME) : null;
    this.controls.playing(Boolean(this.playing));
  }

  advance() {
    if (!this.root.isConnected) return this.play(false);
    const { steps } = this.file.header;
    this.change({ step: ((this.state.step ?? -1) + 1) % steps.length }, false);
  }

  press(event) {
    const inField = event.composedPath()[0].matches?.("select, input");
    const act = KEYS[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey || (inField && event.key !== "Escape")) return;
    if (event.key === " " && event.composedPath()[0].matches("button, summary")) return;
    event.preventDefault();
    event.stopPropagation(); // or the canvas behind would act on it too
    act(this);
  }

  fullScreen() {
    if (document.fullscreenElement === this.root) document.exitFullscreen();
    else this.root.requestFullscreen();
  }

  // What is taken away

  /** The selection and what it says, for notes and scripts. */
  report() {
    const { state, file } = this;
    const { header } = file;
    const shown = { generated: this.shown("generated"), reference: this.shown("reference") };
    const asked = state.ask && { on: state.ask.side, box: state.ask.box };
    const answer = state.ask ? shown[state.ask.side === "generated" ? "reference" : "generated"] : null;
    return {
      picture: state.item,
      reference: { number: state.reference, name: header.references[state.reference].name },
      steps: stepsOf(header, state),
      layer: state.layer === null ? "all" : header.layers[state.layer].name,
      head: state.head === null ? "all" : state.head,
      normalization: state.normalization,
      scope: header.items[state.item].scope,
      imacs: this.score({ generated: this.map("generated") }),
      ...Object.fromEntries(header.measures.map((name) => [name, measureOf(file, state, name)])),
      ranges: { generated: shown.generated.range ?? null, reference: shown.reference.range ?? null },
      asked,
      patches: answer?.patches.map(({ box, share }) => ({ box, share })) ?? [],
      mechanism: header.mechanism,
      branch: header.branch,
    };
  }

  /** Draw the view as one picture. */
  sheet() {
    const { state } = this;
    const panes = Object.entries(this.panes).map(([side, pane]) => ({
      picture: pane.picture.hidden ? null : pane.picture,
      heat: pane.heat,
      visible: !pane.heat.hidden,
      lights: pane.heat.classList.contains("lights"),
      opacity: state.opacity,
      title: pane.title.textContent,
      detail: pane.detail.textContent,
      outline: side === "generated" ? this.outline : "",
      boxes: state.ask?.side === side ? [state.ask.box] : [],
    }));
    return drawSheet(panes, [
      this.controls.describe(),
      `${this.file.header.references[state.reference].name} \u00b7 ${this.controls.words()}`,
    ]);
  }

  async savePicture() {
    this.drawNow();
    await this.ready();
    save(await encode(this.sheet(), "image/png"), "i2am.png");
  }

  /** All steps of this selection, one after the other, as an animated WebP. */
  async saveAnimation() {
    this.play(false);
    const before = this.state;
    const frames = [];
    let size;
    try {
      await this.ready();
      for (let step = 0; step < this.file.header.steps.length; step++) {
        this.state = this.settled({ ...before, step, ask: null }, "step");
        this.drawNow();
        const canvas = this.sheet();
        size = [canvas.width, canvas.height];
        frames.push(new Uint8Array(await (await encode(canvas, "image/webp")).arrayBuffer()));
      }
    } finally {
      this.state = before;
      this.draw();
    }
    save(new Blob([animate(frames, ...size, FRAME)], { type: "image/webp" }), "i2am_steps.webp");
  }

  /** When both pictures can be drawn. */
  async ready() {
    await Promise.all(Object.values(this.panes).map(({ picture }) => picture.hidden || picture.decode()));
  }

  /** Let go of what the file holds in the browser. */
  forget() {
    for (const url of this.urls.values()) URL.revokeObjectURL(url);
    this.urls.clear();
  }

  remove() {
    this.play(false);
    cancelAnimationFrame(this.frame);
    this.observer.disconnect();
    this.forget();
    this.file = null;
    this.result = null;
  }
}

const KEYS = {
  ArrowLeft: (viewer) => viewer.step("step", -1),
  ArrowRight: (viewer) => viewer.step("step", 1),
  ArrowUp: (viewer) => viewer.step("layer", -1),
  ArrowDown: (viewer) => viewer.step("layer", 1),
  "[": (viewer) => viewer.step("head", -1),
  "]": (viewer) => viewer.step("head", 1),
  " ": (viewer) => viewer.play(),
  0: (viewer) => viewer.change({ views: { generated: WHOLE, reference: WHOLE } }),
  f: (viewer) => viewer.fullScreen(),
  F: (viewer) => viewer.fullScreen(),
  Escape: (viewer) => viewer.change({ ask: null }),
};

const MISSING = {
  pairs: "To ask about a part, set pair_maps of I2AM Capture to 'inpainting mask' or 'everywhere', and queue again.",
  outside:
    "No pair maps here: this lies outside the inpainting mask. Set pair_maps of I2AM Capture to 'everywhere' to ask anywhere.",
  layer: "This layer has no pair maps: choose another, or all layers.",
  "left out":
    "The pair maps of this layer did not fit into the viewer's file: choose all layers, or use I2AM Specific Reference.",
};
