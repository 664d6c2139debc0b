/** What is around the panes: menus above; numbers, scrubbers, tables and notes below. */

import { element, fill, menu } from "./dom.mjs";
import { certaintyOf, choicesOf, effectMeasure, effectOf, effectsOf, isEffect, regionsOf } from "./effects.mjs";
import { iconButton, PAUSE, PLAY, setIcon } from "./icon.mjs";
import { along, headsOf, measureOf, referenceOf, stepsOf, varies } from "./maps.mjs";
import { MenuBar } from "./menu_bar.mjs";
import { Scrubber } from "./scrubber.mjs";
import { otherSide, stateFrom } from "./state.mjs";
import { Tables } from "./tables.mjs";
import { percent, small } from "./words.mjs";

/** @import { EffectMeasure } from "./effects.mjs" */
/** @import { Axis, Measure } from "./maps.mjs" */
/** @import { PaneMaps } from "./pane_maps.mjs" */
/** @import { Viewer } from "./viewer.mjs" */

/** @type {Record<Measure, string>} */
const MEASURES = { share: "share of attention", concentration: "concentration", inside: "inside the mask" };
/** Why an effect cannot be scrubbed through layers and heads. */
export const NO_AXIS = "An effect is of the whole model: nothing is taken away from one layer or head alone.";
const FLASH_MS = 2500;
/** @type {readonly Axis[]} */
const AXES = ["step", "layer", "head"];

export class Controls {
  /** @param {Viewer} viewer */
  constructor(viewer) {
    this.viewer = viewer;
    const { say } = viewer;
    /** @type {string | null} what is said for a moment, in place of the numbers */
    this.flashed = null;
    /** @type {number | undefined} */
    this.flashTimer = undefined;
    this.measures = ""; // those in the menu
    this.bar = new MenuBar(viewer, (words) => this.flash(words));
    this.scrubbers = {
      step: this.makeScrubber("step", say("Step")),
      layer: this.makeScrubber("layer", say("Layer")),
      head: this.makeScrubber("head", say("Head")),
    };
    this.player = iconButton(PLAY, say("play"), () => viewer.play());
    this.scrubbers.step.all.before(this.player);
    this.tables = new Tables(viewer);
    this.measure = menu(say("What the bars and tables show"), [], (value) =>
      viewer.change({ measure: stateFrom({ measure: value }).measure }),
    );
    this.numbers = element("p", { class: "numbers", "aria-live": "polite" });
    this.patches = element("ol", { class: "patches", "aria-label": say("strongest patches") });
    this.hint = element("span", { class: "hint" });
    this.clear = element("button", { type: "button", onclick: () => viewer.change({ ask: null }) }, say("Clear"));
    this.questionLine = element("div", { class: "asked-line" }, this.patches, this.hint, this.clear, this.measure);
    this.notesTitle = element("summary");
    this.notesText = element("pre");
    this.notes = element("details", { class: "notes" }, this.notesTitle, this.notesText);
    const scrubbers = AXES.map((axis) => this.scrubbers[axis].root);
    const below = [this.tables.root, this.notes];
    this.root = element("div", { class: "controls" }, this.numbers, this.questionLine, ...scrubbers, ...below);
  }

  /**
   * @param {Axis} axis
   * @param {string} name
   */
  makeScrubber(axis, name) {
    const { viewer } = this;
    const scrubber = new Scrubber({ name, all: viewer.say("all") }, (number) => {
      if (axis === "step") viewer.play(false);
      viewer.change({ [axis]: number === null ? null : choicesOf(viewer.opened.header, viewer.state, axis)[number] });
    });
    scrubber.root.dataset.axis = axis;
    return scrubber;
  }

  /** Take from a new file what it has to choose from, and its notes. */
  offer() {
    const { opened, say } = this.viewer;
    const { header } = opened;
    this.bar.offer();
    this.tables.reset();
    this.measures = "";
    const skipped = Object.values(header.skipped).reduce((sum, count) => sum + count, 0);
    const titles = [say("notes")];
    if (skipped) titles.push(say("{0} of {1} attention calls skipped", skipped, skipped + header.captured_calls));
    if (header.notes.some((note) => /guess/i.test(note))) titles.push(say("a guess"));
    if (header.notes.some((note) => note.startsWith("steered"))) titles.push(say("steered"));
    if (Object.keys(effectsOf(header).unmeasured).length) titles.push(say("not every effect was measured"));
    if (header.references.some(({ approximate }) => approximate)) titles.push(say("approximate"));
    this.notesTitle.textContent = titles.join(" \u00b7 ");
    this.notesText.textContent = header.summary;
  }

  /**
   * Show the state beside the panes.
   * @param {PaneMaps} maps
   */
  show(maps) {
    const { state, measure } = this.viewer;
    this.bar.show(state);
    for (const axis of AXES) this.showScrubber(axis, measure);
    this.numbers.textContent = this.flashed ?? this.scores(maps.generated);
    this.showQuestion(maps);
    this.offerMeasures(measure);
    this.measure.hidden = isEffect(state) || this.measure.options.length < 2;
    this.tables.root.hidden = isEffect(state);
    if (!isEffect(state)) this.tables.show(measure);
  }

  /**
   * The measures that say anything of this picture and reference. A menu is made anew only if it has others.
   * @param {Measure} measure
   */
  offerMeasures(measure) {
    const { state, say } = this.viewer;
    const offered = this.viewer.measuresFor(state);
    if (this.measures === offered.join()) {
      this.measure.value = measure;
      return;
    }
    this.measures = offered.join();
    fill(
      this.measure,
      offered.map((name) => [name, say("bars: {0}", say(MEASURES[name]))]),
      measure,
    );
  }

  /**
   * @param {Axis} axis
   * @param {Measure} measure
   */
  showScrubber(axis, measure) {
    const { state, opened } = this.viewer;
    if (isEffect(state)) return this.showEffectScrubber(axis);
    const value = state[axis];
    const at = value === null ? null : choicesOf(opened.header, state, axis).indexOf(value);
    return this.scrubbers[axis].set(along(opened, state, axis, measure), at, this.label(axis));
  }

  /** @param {Axis} axis */
  showEffectScrubber(axis) {
    const { state, opened, say } = this.viewer;
    const heights = choicesOf(opened.header, state, axis).map((step) =>
      effectMeasure(opened, { ...state, step }, "strength"),
    );
    const isStep = axis === "step";
    this.scrubbers[axis].set(heights, isStep ? state.step : null, this.label(axis), isStep ? "" : say(NO_AXIS));
  }

  /**
   * What is selected on an axis, in words.
   * @param {Axis} axis
   */
  label(axis) {
    const { state, say } = this.viewer;
    if (isEffect(state) && axis !== "step") return say(axis === "layer" ? "effect: no layers" : "effect: no heads");
    if (axis === "step") return this.stepLabel();
    return axis === "layer" ? this.layerLabel() : this.headLabel();
  }

  stepLabel() {
    const { state, opened, say } = this.viewer;
    const { header } = opened;
    const count = header.sigmas.length - 1;
    const measured = isEffect(state) ? (effectOf(header, state)?.steps ?? []) : null;
    if (state.step === null) {
      return measured ? say("mean of the {0} measured steps", measured.length) : say("mean of {0} steps", count);
    }
    const [first, end] = measured ? [measured[state.step], measured[state.step] + 1] : stepsOf(header, state);
    const words =
      end - first === 1 ? say("step {0} of {1}", first, count) : say("steps {0} to {1} of {2}", first, end - 1, count);
    return `${words} \u00b7 \u03c3 ${small(header.sigmas[first])}`;
  }

  layerLabel() {
    const { state, opened, say } = this.viewer;
    const { header } = opened;
    if (state.layer === null) return say("mean of {0} layers", referenceOf(header, state.reference).layers.length);
    const { name, grid } = header.layers[state.layer];
    return `${name} \u00b7 ${grid[1]}\u00d7${grid[0]}`;
  }

  headLabel() {
    const { state, opened, say } = this.viewer;
    if (!opened.header.heads) return say("heads are not resolved");
    if (state.head === null) return say("mean of heads");
    const { head, of, layers } = headsOf(opened.header, state.reference, state.layer)[state.head];
    return layers === 1 ? say("head {0} of {1}", head, of) : say("head {0} of {1}, in {2} layers", head, of, layers);
  }

  /** The selection in one line. */
  describe() {
    const axes = isEffect(this.viewer.state) ? AXES.slice(0, 1) : AXES;
    return axes.map((axis) => this.label(axis)).join(" \u00b7 ");
  }

  /**
   * Scores of the selection in one line. While a question about the reference is answered on the picture, IMACS is still
   * that of the selection, not of the answer.
   */
  scores(map = this.viewer.selectedMap("generated")) {
    const { state, opened, say, question } = this.viewer;
    if (isEffect(state)) return this.effectScores();
    const score = question?.side === "reference" ? this.viewer.score() : this.viewer.score(map);
    const parts = varies(opened, state, "share") ? [say("share {0}", percent(measureOf(opened, state, "share")))] : [];
    if (score !== null) parts.push(say("IMACS {0}", score.toFixed(2)));
    const inside = measureOf(opened, state, "inside");
    if (Number.isFinite(inside)) parts.push(say("inside the mask {0}", percent(inside)));
    parts.push(say("concentration {0}", small(measureOf(opened, state, "concentration"))));
    return parts.join(" \u00b7 ");
  }

  /** How large the effect is, and where. */
  effectScores() {
    const { state, opened, say, pictures } = this.viewer;
    /** @param {EffectMeasure} name */
    const value = (name) => effectMeasure(opened, state, name);
    const masked = opened.header.items[state.item].scope === "inpainting mask";
    const parts = [
      masked
        ? say("effect {0} in the mask, {1} everywhere", small(value("strength")), small(value("everywhere")))
        : say("effect {0}", small(value("strength"))),
      say("noise floor {0}", small(value("floor"))),
    ];
    const said = certaintyOf(opened.header, state) === "measured" && Number.isFinite(value("inside"));
    if (said && pictures.mask) {
      const area = Array.from(pictures.mask).reduce((sum, part) => sum + part, 0) / pictures.mask.length;
      const [inside, of] = [value("inside"), area].map((one) => `${Math.round(100 * one)} %`);
      parts.push(say("{0} in the mask ({1} of the area)", inside, of));
    }
    return parts.join(" \u00b7 ");
  }

  /**
   * The shares of the patches that answer a question, or how to ask one.
   * @param {PaneMaps} maps
   */
  showQuestion(maps) {
    const { state, question } = this.viewer;
    const patches = question ? maps[otherSide(question.side)].patches : [];
    const words = patches.map(({ share, effect }) => (effect === undefined ? percent(share) : small(effect)));
    this.patches.replaceChildren(...words.map((text) => element("li", {}, text)));
    this.patches.hidden = !patches.length;
    this.hint.textContent = state.ask ? "" : isEffect(state) ? this.effectHint() : this.hintOfAttention();
    this.hint.hidden = Boolean(question);
    this.clear.hidden = !state.ask;
  }

  hintOfAttention() {
    const { state, opened, say } = this.viewer;
    const captured = referenceOf(opened.header, state.reference).pairs_captured.length;
    return captured
      ? say("Click a picture, or draw a box on it, to ask about that part.")
      : say(
          "To ask about a part, set pair_maps of I2AM Capture to 'inpainting mask' or 'everywhere', and queue again.",
        );
  }

  effectHint() {
    const { state, opened, say } = this.viewer;
    return regionsOf(opened.header, state)
      ? say("Click the picture: which parts changed that spot? Click the reference: where did that part change it?")
      : "";
  }

  /** @param {boolean} on */
  showPlaying(on) {
    setIcon(this.player, on ? PAUSE : PLAY, this.viewer.say(on ? "pause" : "play"));
  }

  /**
   * Say something for a moment, in place of the numbers.
   * @param {string} words
   */
  flash(words) {
    this.flashed = words;
    clearTimeout(this.flashTimer);
    this.flashTimer = setTimeout(() => {
      this.flashed = null;
      this.viewer.draw();
    }, FLASH_MS);
    this.viewer.draw();
  }
}
