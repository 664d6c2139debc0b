/**
 * The viewer: what one looks at (`state`), and what the page shows of it. Everything is drawn from the file and the state,
 * once for each frame at most; changes of the state go through `change`.
 */

import { Controls, NO_AXIS } from "./controls.mjs";
import { element } from "./dom.mjs";
import { effectAnswer, markedPart, selectedEffect } from "./effect_panes.mjs";
import { choicesOf, isEffect, normalizationIn, regionsOf, settleEffect } from "./effects.mjs";
import { download, Gone, readFile, tensorOf } from "./file.mjs";
import { paint, paintContours, paletteOf } from "./heat.mjs";
import { pressKey } from "./keys.mjs";
import { settle, varies } from "./maps.mjs";
import { Pane } from "./pane.mjs";
import { answerTo, selectedMap } from "./pane_maps.mjs";
import { Pictures } from "./pictures.mjs";
import { STEP_MS } from "./saving.mjs";
import { imacs } from "./score.mjs";
import { SIDES, stateFrom } from "./state.mjs";
import { small } from "./words.mjs";

/** @import { ViewFile } from "./file.mjs" */
/** @import { Box, Place, View } from "./geometry.mjs" */
/** @import { Axis, Measure } from "./maps.mjs" */
/** @import { PaneMap, PaneMaps } from "./pane_maps.mjs" */
/** @import { Question, Side, State } from "./state.mjs" */
/** @import { Say } from "./text.mjs" */

const QUEUE = "Queue the workflow, and this shows how the reference acts.";

/** @typedef {{filename: string, subfolder: string, type: string, bytes: number}} Result a file on the server */

/**
 * What the page that the viewer is in does for it.
 * @typedef {object} Page
 * @property {(result: Result) => Promise<Response>} open asks the server for a file
 * @property {(state: State) => void} keep keeps a state in the workflow
 * @property {Say} say
 * @property {string} styles address of the style sheet
 */

export class Viewer {
  /** @param {Page} page */
  constructor(page) {
    this.page = page;
    this.say = page.say;
    this.state = stateFrom(null);
    /** @type {ViewFile | null} */
    this.file = null;
    /** @type {Result | null} */
    this.result = null;
    /** @type {Question | null} */
    this.hovered = null;
    /** @type {{side: Side, place: Place} | null} where the pointer reads a value */
    this.pointed = null;
    this.pictures = new Pictures();
    /** @type {number | null} */
    this.frame = null;
    /** @type {number | null} */
    this.playing = null;
    this.panes = { generated: this.makePane("generated"), reference: this.makePane("reference") };
    this.status = element("p", { class: "status", role: "status" });
    this.controls = new Controls(this);
    this.pair = element("div", { class: "panes" }, this.panes.generated.root, this.panes.reference.root);
    this.body = this.makeBody();
    this.root = this.makeRoot();
    this.observer = new ResizeObserver(() => SIDES.forEach((side) => this.panes[side].layout()));
    for (const side of SIDES) this.observer.observe(this.panes[side].box);
    this.notify(QUEUE);
  }

  /** @param {Side} side */
  makePane(side) {
    return new Pane(side, {
      ask: (box) => this.ask(side, box),
      hover: (place) => this.hover(side, place),
      view: (view) => this.change({ views: this.viewsWith(side, view) }),
    });
  }

  makeBody() {
    return element("div", { class: "body", hidden: true }, this.controls.bar.root, this.pair, this.controls.root);
  }

  makeRoot() {
    const root = element("div", {
      class: "i2am-viewer",
      tabindex: 0,
      "data-capture-wheel": "true",
      "aria-label": this.say("Viewer of I2AM"),
    });
    const styles = element("link", { rel: "stylesheet", href: this.page.styles });
    root.attachShadow({ mode: "open" }).append(styles, element("div", { class: "viewer" }, this.status, this.body));
    root.addEventListener("keydown", (event) => pressKey(this, event));
    return root;
  }

  // What is going on

  /**
   * Say something above the panes; an empty text takes it away.
   * @param {string} text
   * @param {unknown[]} values
   */
  notify(text, ...values) {
    this.status.textContent = text ? this.say(text, ...values) : "";
    this.status.hidden = !text;
  }

  runStarted() {
    this.notify(this.file ? "Running. Below is the last result." : "Running.");
  }

  /** A run ended, and whatever it had for this viewer has come. */
  runEnded() {
    if (this.file) this.notify("");
    else if (!this.result) this.notify(QUEUE);
  }

  runFailed() {
    this.notify(
      this.file ? "The last run failed. Below is the result before it." : "The last run failed: its message says why.",
    );
  }

  // The file

  /** The file, for what is done only while there is one. */
  get opened() {
    if (!this.file) throw new Error("the viewer has no file yet: queue the workflow.");
    return this.file;
  }

  /**
   * Show a result; what was shown before stays until it is there.
   * @param {Result} result
   */
  async load(result) {
    if (this.result?.filename === result.filename) return;
    this.result = result;
    /** @param {number} part */
    const onProgress = (part) => {
      if (this.result === result) this.notify("Loading {0} %", Math.round(100 * part));
    };
    try {
      const buffer = await download(() => this.page.open(result), result.bytes, onProgress);
      if (this.result !== result) return; // a newer one is on its way
      this.open(readFile(buffer));
      this.notify("");
    } catch (error) {
      if (this.result !== result) return;
      this.result = null;
      if (error instanceof Gone) this.notify("The last result is not on the server any more: queue again to explore.");
      else this.notify("The result could not be read: {0}", error instanceof Error ? error.message : error);
    }
  }

  /** @param {ViewFile} file */
  open(file) {
    this.file = file;
    this.pictures.revoke();
    this.state = this.settled(this.state);
    this.body.hidden = false;
    const alone = !file.header.references.length;
    this.panes.reference.root.hidden = alone;
    this.pair.classList.toggle("alone", alone);
    this.controls.offer();
    this.showPictures();
    this.draw();
  }

  showPictures() {
    this.pictures.show(this.panes, this.opened, this.state);
  }

  /** When both pictures can be drawn. */
  async ready() {
    await Promise.all(SIDES.map((side) => this.panes[side].picture).map((x) => x.hidden || x.decode()));
  }

  remove() {
    this.play(false);
    if (this.frame !== null) cancelAnimationFrame(this.frame);
    this.observer.disconnect();
    this.pictures.revoke();
    this.file = null;
    this.result = null;
  }

  // The state

  /**
   * The state nearest to one that the file has.
   * @param {State} state
   * @param {string} [changed] what of it was changed last
   */
  settled(state, changed) {
    const { header } = this.opened;
    const wanted = { ...state, normalization: normalizationIn(header, state) };
    if (isEffect(wanted)) return settleEffect(header, wanted);
    const settled = settle(header, wanted, changed);
    if (settled.measure && !this.measuresFor(settled).includes(settled.measure)) settled.measure = null;
    return settled;
  }

  /**
   * The measures that say anything of a picture and reference.
   * @param {State} state
   */
  measuresFor(state) {
    const file = this.opened;
    return file.header.measures.filter((name) => varies(file, state, name));
  }

  /** The measure that bars and tables show: the one chosen, or the first that says anything. @returns {Measure} */
  get measure() {
    return this.state.measure ?? this.measuresFor(this.state)[0] ?? "share";
  }

  /**
   * A state from the workflow.
   * @param {unknown} saved
   */
  restore(saved) {
    this.state = stateFrom(saved);
    if (!this.file) return;
    this.state = this.settled(this.state);
    this.showPictures();
    this.draw();
  }

  /**
   * Change what is looked at. `lasting` changes are kept in the workflow.
   * @param {Partial<State>} parts
   */
  change(parts, lasting = true) {
    if (!this.file) return;
    const before = this.state;
    const wanted = { ...before, ...parts };
    // Steps of effects are those in which they were measured: what another number means there is not the same.
    if (isEffect(wanted) !== isEffect(before) && !("step" in parts)) wanted.step = null;
    this.state = this.settled(wanted, Object.keys(parts)[0]);
    this.hovered = null;
    if (!isEffect(wanted) && wanted.step !== null && wanted.head !== null && !this.file.header.joint.length) {
      this.controls.flash(
        this.say("One head in one step did not fit into the viewer's file: the other is set to all."),
      );
    }
    if (before.item !== this.state.item || before.reference !== this.state.reference) this.showPictures();
    this.draw();
    if (lasting) this.page.keep(this.state);
  }

  /**
   * Ask about a part, where there is another picture to answer.
   * @param {Side} side
   * @param {Box} box
   */
  ask(side, box) {
    if (this.file?.header.references.length) this.change({ ask: { side, box } });
  }

  /**
   * @param {Side} side
   * @param {Place | null} place
   */
  hover(side, place) {
    const reads = Boolean(this.file) && isEffect(this.state);
    const answers = !this.state.ask && this.answers();
    if (!answers && !this.hovered && !reads) return;
    this.pointed = reads && place ? { side, place } : null;
    this.hovered = answers && place ? { side, box: [...place, ...place] } : null;
    this.draw();
  }

  /** Whether questions about a part have answers. */
  answers() {
    if (!this.file) return false;
    const { header } = this.file;
    const { item, reference } = this.state;
    if (isEffect(this.state)) return Boolean(regionsOf(header, this.state)?.in_file);
    return header.pairs[`${item}/${reference}`]?.length > 0;
  }

  /**
   * @param {Side} side
   * @param {View} view
   */
  viewsWith(side, view) {
    return this.state.linked ? { generated: view, reference: view } : { ...this.state.views, [side]: view };
  }

  // Drawing

  /** Draw with the next frame. */
  draw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.drawNow();
    });
  }

  drawNow() {
    if (!this.file) return;
    const maps = this.paneMaps();
    for (const side of SIDES) this.drawPane(side, maps[side]);
    this.controls.show(maps);
  }

  /** The question that is answered: of the place under the pointer, or of the part that was marked. */
  get question() {
    return this.hovered ?? this.state.ask;
  }

  /** @returns {PaneMaps} */
  paneMaps() {
    return { generated: this.paneMap("generated"), reference: this.paneMap("reference") };
  }

  /** @param {Side} side */
  paneMap(side) {
    const { question } = this;
    if (!question || question.side === side) return this.selectedMap(side);
    const answer = isEffect(this.state) ? effectAnswer : answerTo;
    return answer(question, this.scene, this.canvasOf(side));
  }

  /** @param {Side} side */
  selectedMap(side) {
    const selected = isEffect(this.state) ? selectedEffect : selectedMap;
    return selected(side, this.scene, this.canvasOf(side));
  }

  get scene() {
    return { file: this.opened, state: this.state, say: this.say };
  }

  /**
   * @param {Side} side
   * @returns {[height: number, width: number]}
   */
  canvasOf(side) {
    const { height, width } = this.panes[side].heat;
    return [height, width];
  }

  /**
   * @param {Side} side
   * @param {PaneMap} map
   */
  drawPane(side, { title, detail, message, heat, patches, valueAt }) {
    const { state, question, pointed } = this;
    const pane = this.panes[side];
    const table = this.colors(state.colormap);
    const draw = state.style === "contours" ? paintContours : paint;
    pane.caption(title, detail, message ?? this.pictures.notes[side]);
    pane.draw(
      heat && ((pixels) => draw(heat.values, heat.range, paletteOf(table), pixels, pane.heat.width)),
      state.style,
      state.opacity,
    );
    pane.explain(table, heat && state.style !== "off" ? [small(heat.range.low), small(heat.range.high)] : null);
    pane.mark(this.pictures.outlines[side], question?.side === side ? this.marked(question) : null, patches);
    pane.read(pointed?.side === side && valueAt ? this.say("effect {0}", small(valueAt(pointed.place))) : "");
    pane.move(state.views[side]);
  }

  /** What of a picture is marked by a question. @param {Question} question */
  marked(question) {
    return isEffect(this.state) ? markedPart(question, this.scene) : question.box;
  }

  /** @param {string} name of a colormap; the first is used for one that the file does not have */
  colors(name) {
    const number = Math.max(0, this.opened.header.colormaps.indexOf(name));
    return tensorOf(this.opened, "colormaps").data.subarray(768 * number, 768 * (number + 1));
  }

  /** IMACS of the selection against the mask; null where there is no mask, or nothing to score, as in an effect. */
  score(map = this.selectedMap("generated")) {
    const { mask } = this.pictures;
    return mask && map.heat && !isEffect(this.state) ? imacs(map.heat.values, map.heat.own, mask) : null;
  }

  // Moving along an axis

  /**
   * Select the next or the last on an axis; beyond the ends is the mean of all.
   * @param {Axis} axis
   * @param {number} by
   */
  moveAlong(axis, by) {
    if (!this.file) return;
    const values = choicesOf(this.file.header, this.state, axis);
    if (isEffect(this.state) && axis !== "step") return this.controls.flash(this.say(NO_AXIS));
    const now = this.state[axis];
    const at = now === null ? (by > 0 ? -1 : values.length) : values.indexOf(now);
    this.change({ [axis]: values[at + by] ?? null });
  }

  play(on = !this.playing) {
    if (this.playing !== null) clearInterval(this.playing);
    this.playing = on && this.file ? setInterval(() => this.advance(), STEP_MS) : null;
    this.controls.showPlaying(this.playing !== null);
  }

  advance() {
    if (!this.root.isConnected) return this.play(false);
    const steps = choicesOf(this.opened.header, this.state, "step").length;
    return this.change({ step: ((this.state.step ?? -1) + 1) % steps }, false);
  }

  fullScreen() {
    if (document.fullscreenElement === this.root) document.exitFullscreen();
    else this.root.requestFullscreen();
  }
}
