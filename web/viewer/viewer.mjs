/**
 * The viewer: its parts on the page, and how they hang together. The store has what one looks at (`state`), the model changes
 * it, `screenOf` computes what is to be seen, and panes and controls draw that, once for each frame at most.
 */

import { Comparison } from "./compare/comparison.mjs";
import { Pinned } from "./compare/pinned.mjs";
import { BELOW, BUTTONS, MENUS, TOP } from "./controls/listed.mjs";
import { element } from "./dom.mjs";
import { STEP_MS } from "./export/saving.mjs";
import { Frame } from "./frame.mjs";
import { WHOLE } from "./geometry.mjs";
import { pressKey } from "./keys.mjs";
import { SIDES } from "./kinds.mjs";
import { Live } from "./live.mjs";
import { changed, hasFrame, hasJoint, nextAlong, settled } from "./model.mjs";
import { modeOf } from "./mode.mjs";
import { Pane } from "./pane.mjs";
import { Pictures } from "./pictures.mjs";
import { Results } from "./results.mjs";
import { pictureOf } from "./scene.mjs";
import { screenOf, sidesOf } from "./screen.mjs";
import { stateFrom } from "./state.mjs";
import { Store } from "./store.mjs";

/** @import { Compared } from "./compare/difference.mjs" */
/** @import { ViewFile } from "./file.mjs" */
/** @import { Box, Place, View } from "./geometry.mjs" */
/** @import { Question, Side } from "./kinds.mjs" */
/** @import { Axis } from "./maps.mjs" */
/** @import { Result } from "./results.mjs" */
/** @import { Scene } from "./scene.mjs" */
/** @import { Sentences } from "./sentences.mjs" */
/** @import { State } from "./state.mjs" */
/** @import { Change } from "./store.mjs" */
/** @import { Say } from "./text.mjs" */

const QUEUE = "Queue the workflow, and this shows how the reference acts.";
const FLASH_MS = 2500;

/**
 * What the page that the viewer is in does for it.
 * @typedef {object} Page
 * @property {(result: Result) => Promise<Response>} open asks the server for a file
 * @property {(state: State) => void} keep keeps a state in the workflow
 * @property {() => void} opened is called when the maps of a file are to be seen: a new one's, or the last one's again
 * @property {() => Result[]} earlier results of the node that may still be there, the last first
 * @property {(result: Result | null) => void} keepPinned keeps which result is A, for when the page is opened again
 * @property {(result: Result) => void} forget an earlier result that is gone
 * @property {Say} say
 * @property {Sentences} sentences of findings
 * @property {string} [styles] address of the style sheet; without one the page gives it another
 * @property {string} locale such as "en"
 * @property {boolean} [alone] whether it is a page that was saved, which is a file already
 */

export class Viewer {
  /** @param {Page} page */
  constructor(page) {
    this.page = page;
    this.say = page.say;
    this.store = new Store(stateFrom(null));
    this.store.subscribe((change) => this.follow(change));
    /** @type {ViewFile | null} */
    this.file = null;
    /** @type {Question | null} */
    this.hovered = null;
    /** @type {Question | null} before the last one: the first half of a double click asks */
    this.askBefore = null;
    /** @type {{side: Side, place: Place} | null} where the pointer reads a value */
    this.pointed = null;
    this.without = ""; // why the last run had no result
    /** @type {string | null} what is said for a moment, in place of the numbers */
    this.flashed = null;
    /** @type {number | undefined} */
    this.flashTimer = undefined;
    /** @type {number | null} */
    this.playing = null;
    this.frame = new Frame(() => this.drawNow());
    this.pictures = new Pictures();
    /** @param {string} text @param {unknown[]} values */
    const notify = (text, ...values) => this.notify(text, ...values);
    this.results = new Results({ open: page.open, opened: (file) => this.open(file), notify });
    this.panes = { generated: this.makePane("generated"), reference: this.makePane("reference") };
    this.pinned = new Pinned(this);
    this.comparison = new Comparison(this);
    /** @type {Compared | null} what is drawn of it */
    this.compared = null;
    this.status = element("p", { class: "status", role: "status" });
    this.origin = element("p", { class: "origin", role: "status", hidden: true });
    this.top = TOP.map((control) => control.make(this));
    this.menus = MENUS.map((control) => control.make(this));
    this.buttons = BUTTONS.map((control) => control.make(this));
    this.below = BELOW.map((row) => row.map((control) => control.make(this)));
    this.pair = element("div", { class: "panes" }, this.panes.generated.root, this.panes.reference.root);
    this.body = this.makeBody();
    this.live = new Live(this);
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
      whole: () => this.change({ views: this.viewsWith(side, WHOLE), ask: this.askBefore }),
    });
  }

  makeBody() {
    const bar = element(
      "div",
      { class: "bar" },
      element("div", { class: "menus" }, ...this.menus.map(({ root }) => root)),
      element("div", { class: "buttons" }, ...this.buttons.map(({ root }) => root)),
    );
    const rows = this.below.map((row) =>
      row.length === 1 ? row[0].root : element("div", { class: "row" }, ...row.map(({ root }) => root)),
    );
    return element(
      "div",
      { class: "body", hidden: true },
      ...this.top.map(({ root }) => root),
      bar,
      this.pair,
      element("div", { class: "controls" }, ...rows),
    );
  }

  makeRoot() {
    const root = element("div", {
      class: "i2am-viewer",
      tabindex: 0,
      "data-capture-wheel": "true",
      "aria-label": this.say("Viewer of I2AM"),
    });
    const styles = this.page.styles && element("link", { rel: "stylesheet", href: this.page.styles });
    root
      .attachShadow({ mode: "open" })
      .append(...(styles ? [styles] : []), element("div", { class: "viewer" }, this.status, this.origin, this.body));
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

  /**
   * Say that the maps are of another run; an empty text takes it away.
   * @param {string} words
   */
  sayOrigin(words) {
    this.origin.textContent = words;
    this.origin.hidden = !words;
  }

  /**
   * Say something for a moment, in place of the numbers.
   * @param {string} words
   */
  flash = (words) => {
    this.flashed = words;
    clearTimeout(this.flashTimer);
    this.flashTimer = setTimeout(() => {
      this.flashed = null;
      this.draw();
    }, FLASH_MS);
    this.draw();
  };

  /** Open the account of the run, and bring it into view. */
  openNotes() {
    const notes = this.body.querySelector("details.notes");
    notes?.setAttribute("open", "");
    notes?.scrollIntoView({ block: "nearest" });
  }

  /** Say why a run had no result for this viewer, until the next one. @param {string} why */
  runWithout(why) {
    this.live.end();
    this.without = why;
    this.notify(why);
  }

  runStarted() {
    this.live.end();
    this.without = "";
    this.notify(this.file ? "Running. Below is the last result." : "Running.");
  }

  /** A run ended, and whatever it had for this viewer has come. */
  runEnded() {
    this.live.end();
    if (this.without || this.file) this.notify(this.without);
    else if (!this.results.last) this.notify(QUEUE);
  }

  /** A run was stopped, and may have had its result by then. @param {string} prompt that was queued */
  runStopped(prompt) {
    if (this.without || this.live.done === prompt) return this.runEnded();
    this.live.end();
    return this.notify(this.file ? "The run was stopped. Below is the result before it." : "The run was stopped.");
  }

  runFailed() {
    this.live.end();
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

  /** The result whose file is open: the last one may still be on its way. */
  get result() {
    return this.results.current;
  }

  /** @param {Result} result */
  load(result) {
    return this.results.load(result);
  }

  /** @param {ViewFile} file */
  open(file) {
    this.file = file;
    this.live.end();
    this.pictures.revoke();
    this.body.hidden = false;
    this.store.set(settled(file, this.state));
    const sides = sidesOf(this.scene);
    for (const side of SIDES) this.panes[side].root.hidden = !sides.includes(side);
    this.pair.classList.toggle("alone", sides.length === 1);
    this.showPictures();
    this.sayOrigin("");
    this.page.opened();
  }

  showPictures() {
    for (const side of SIDES) {
      const { name, canvas } = pictureOf(this.opened, this.state, side);
      this.panes[side].show(name && this.pictures.urlOf(this.opened, name), canvas);
    }
  }

  /** When all pictures can be drawn. */
  async ready() {
    const panes = [...Object.values(this.panes), ...Object.values(this.comparison.panes)];
    const pictures = panes.flatMap(({ stage }) => [...stage.querySelectorAll("img")]);
    await Promise.all(pictures.map((x) => !x.getAttribute("src") || x.hidden || x.decode()));
  }

  remove() {
    this.play(false);
    this.frame.cancel();
    this.observer.disconnect();
    this.pictures.revoke();
    this.comparison.remove();
    this.live.remove();
    this.pinned.file = this.pinned.wanted = null;
    this.file = null;
    this.results.last = this.results.current = null;
  }

  // The state

  get state() {
    return this.store.state;
  }

  /** What is drawn after each change of the state. @param {Change} change */
  follow({ state, before, lasting }) {
    if (!this.file) return;
    if (before.item !== state.item || before.reference !== state.reference) this.showPictures();
    this.draw();
    if (lasting) this.page.keep(state);
  }

  /**
   * A state from the workflow.
   * @param {unknown} saved
   */
  restore(saved) {
    const state = stateFrom(saved);
    this.store.set(this.file ? settled(this.file, state) : state);
  }

  /**
   * Change what is looked at. `lasting` changes are kept in the workflow.
   * @param {Partial<State>} parts
   */
  change(parts, lasting = true) {
    if (!this.file) return;
    const wanted = { ...this.state, ...parts };
    this.hovered = null;
    this.store.set(changed(this.file, this.state, parts), lasting);
    if (!hasJoint(this.file, wanted)) {
      this.flash(this.say("One head in one step did not fit into the viewer's file: the other is set to all."));
    }
    if (!hasFrame(wanted)) this.flash(this.say("A single frame is of all steps and heads: the other is set to all."));
  }

  /**
   * Ask about a part, where there is another picture to answer.
   * @param {Side} side
   * @param {Box} box
   */
  ask(side, box) {
    if (!this.file?.header.references.length) return;
    this.askBefore = this.state.ask;
    this.change({ ask: { side, box } });
  }

  /**
   * @param {Side} side
   * @param {Place | null} place
   */
  hover(side, place) {
    if (!this.file) return;
    const mode = modeOf(this.state);
    const answers = !this.state.ask && mode.answers(this.scene);
    if (!answers && !this.hovered && !mode.reads) return;
    this.pointed = mode.reads && place ? { side, place } : null;
    this.hovered = answers && place ? { side, box: [...place, ...place] } : null;
    this.draw();
  }

  /** Read the values at a place. @param {{side: Side, place: Place} | null} pointed */
  point(pointed) {
    this.pointed = pointed;
    this.draw();
  }

  /**
   * @param {Side} side
   * @param {View} view
   */
  viewsWith(side, view) {
    return this.state.linked ? { generated: view, reference: view } : { ...this.state.views, [side]: view };
  }

  // Drawing

  /** Whether all maps are to be seen at once, in place of the panes. */
  get isAtOnce() {
    return this.state.thumbnails !== null && !this.pinned.other;
  }

  /** @returns {Scene} */
  get scene() {
    const { opened: file, state, say, hovered, pointed } = this;
    return { file, state, say, question: hovered ?? state.ask, pointed };
  }

  get screen() {
    return screenOf(this.scene);
  }

  /** Draw with the next frame. */
  draw() {
    this.frame.request();
  }

  drawNow() {
    return this.file && this.drawScene(this.scene);
  }

  /**
   * Draw something, which may be another state than that of the viewer.
   * @param {Scene} scene
   */
  drawScene(scene) {
    const { other } = this.pinned;
    const screen = other ? { ...screenOf({ ...scene, question: null }), hint: "", numbers: [] } : screenOf(scene);
    this.pair.hidden = other !== null;
    if (!other) this.comparison.root.remove();
    else if (!this.comparison.root.isConnected) this.pair.after(this.comparison.root); // moved, it would lose a press
    this.compared = other && this.comparison.render(scene, other);
    if (!other) for (const side of SIDES) this.panes[side].render(screen, screen.panes[side]);
    for (const control of [...this.top, ...this.menus, ...this.buttons, ...this.below.flat()]) control.show(screen);
    return screen;
  }

  // Moving along an axis

  /**
   * Select the next or the last on an axis; beyond the ends is the mean of all.
   * @param {Axis} axis
   * @param {number} by
   */
  moveAlong(axis, by) {
    if (!this.file) return;
    const { explained } = modeOf(this.state).bars(axis, this.scene, "share");
    if (explained) this.flash(explained);
    else this.change({ [axis]: nextAlong(this.file, this.state, axis, by) });
  }

  /**
   * Select the first value on an axis, or the last.
   * @param {Axis} axis
   * @param {0 | -1} end
   */
  moveToEnd(axis, end) {
    if (!this.file) return;
    const values = modeOf(this.state).choices(this.file.header, this.state, axis);
    this.change({ [axis]: values.at(end) ?? null });
  }

  play(on = !this.playing) {
    if (this.playing !== null) clearInterval(this.playing);
    this.playing = on && this.file ? setInterval(() => this.advance(), STEP_MS) : null;
    this.draw();
  }

  advance() {
    if (!this.root.isConnected) return this.play(false);
    const steps = modeOf(this.state).choices(this.opened.header, this.state, "step").length;
    return this.change({ step: ((this.state.step ?? -1) + 1) % steps }, false);
  }

  fullScreen() {
    if (document.fullscreenElement === this.root) document.exitFullscreen();
    else this.root.requestFullscreen();
  }
}
