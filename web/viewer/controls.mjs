/** Everything around the panes: menus above; numbers, scrubbers, tables and notes below. */

import { element, fill, menu } from "./dom.mjs";
import { along, choices, headsOf, measureOf, stepsOf, varies } from "./maps.mjs";
import { WHOLE } from "./geometry.mjs";
import { encodeReport } from "./report.mjs";
import { Scrubber } from "./scrubber.mjs";
import { Table } from "./table.mjs";
import { percent, small } from "./words.mjs";

// Signs of 16 x 16, drawn with lines.
const LINK = "M7 9.5 9.5 7M6.5 5 8 3.5a3 3 0 0 1 4.5 4.5L11 9.5M9.5 11 8 12.5A3 3 0 0 1 3.5 8L5 6.5";
const WHOLE_PICTURE = "M3 3h10v10H3zM5.5 10.5l5-5M7.5 5.5h3v3";
const FULL = "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10";
const PLAY = "M5 3.5v9l7-4.5z";
const PAUSE = "M5.5 3.5v9M10.5 3.5v9";
const MEASURES = { share: "share of attention", concentration: "concentration", inside: "inside the mask" };

export class Controls {
  constructor(viewer) {
    this.viewer = viewer;
    this.makeBar();
    this.makeScrubbers();
    this.makeTables();
    const { say } = viewer;
    this.numbers = element("p", { class: "numbers", "aria-live": "polite" });
    this.patches = element("ol", { class: "patches", "aria-label": say("strongest patches") });
    this.hint = element("span", { class: "hint" });
    this.clear = element("button", { type: "button", onclick: () => viewer.change({ ask: null }) }, say("Clear"));
    this.asked = element("div", { class: "asked-line" }, this.patches, this.hint, this.clear, this.measure);
    this.notes = element("details", { class: "notes" }, element("summary"), element("pre"));
    const scrubbers = Object.values(this.scrubbers).map(({ root }) => root);
    this.root = element("div", { class: "controls" }, this.numbers, this.asked, ...scrubbers, this.tables, this.notes);
  }

  makeBar() {
    const { viewer } = this;
    const { say } = viewer;
    const change =
      (key, read = (value) => value) =>
      (value) =>
        viewer.change({ [key]: read(value) });
    this.item = menu(say("Picture of the batch"), [], change("item", Number));
    this.reference = menu(say("Reference"), [], change("reference", Number));
    this.normalization = menu(
      say("What a value says"),
      [
        ["paper", say("where (paper)")],
        ["share", say("how much (share)")],
      ],
      change("normalization"),
    );
    this.scale = menu(
      say("What the colours span"),
      [
        ["each map", say("scale: each map")],
        ["over time", say("scale: over time")],
      ],
      change("scale"),
    );
    this.style = menu(
      say("How maps are drawn"),
      [
        ["heat", say("heat")],
        ["contours", say("contours")],
        ["off", say("picture only")],
      ],
      change("style"),
    );
    this.colormap = menu(say("Colours"), [], change("colormap"));
    this.opacity = element("input", { type: "range", min: 0, max: 1, step: 0.05, class: "opacity" });
    this.opacity.title = say("Strength of the heat");
    this.opacity.setAttribute("aria-label", this.opacity.title);
    this.opacity.addEventListener("input", () => viewer.change({ opacity: Number(this.opacity.value) }, false));
    this.opacity.addEventListener("change", () => viewer.change({ opacity: Number(this.opacity.value) }));
    this.linked = icon(LINK, say("Move both panes together"), () => {
      const linked = !viewer.state.linked;
      const view = viewer.state.views.generated;
      viewer.change({ linked, ...(linked ? { views: { generated: view, reference: view } } : {}) });
    });
    this.whole = icon(WHOLE_PICTURE, say("Whole pictures"), () =>
      viewer.change({ views: { generated: WHOLE, reference: WHOLE } }),
    );
    this.full = icon(FULL, say("Full screen"), () => viewer.fullScreen());
    this.bar = element(
      "div",
      { class: "bar" },
      ...[this.item, this.reference, this.normalization, this.scale, this.style, this.colormap, this.opacity],
      ...[this.linked, this.whole, this.makeSave(), this.full],
    );
  }

  makeSave() {
    const { viewer } = this;
    const { say } = viewer;
    const done = async (work, words, failed) => {
      list.open = false;
      try {
        await work();
        this.flash(say(words));
      } catch (error) {
        this.flash(say(failed, error.message));
      }
    };
    const entry = (text, work, words = "saved", failed = "could not save: {0}") =>
      element("button", { type: "button", onclick: () => done(work, words, failed) }, say(text));
    const copy = () => navigator.clipboard.writeText(encodeReport(viewer.report()));
    const list = element(
      "details",
      { class: "save" },
      element("summary", {}, say("Save")),
      element(
        "div",
        {},
        entry("Copy as JSON", copy, "copied", "could not copy: {0}"),
        entry("Save view as PNG", () => viewer.savePicture()),
        entry("Save all steps as animated WebP", () => viewer.saveAnimation()),
      ),
    );
    return list;
  }

  makeScrubbers() {
    const { viewer } = this;
    const { say } = viewer;
    const all = say("all");
    const layers = () => choices(viewer.file.header, viewer.state, "layer");
    const pick = (axis, value) => {
      if (axis === "step") viewer.play(false);
      viewer.change({ [axis]: value });
    };
    this.scrubbers = {
      step: new Scrubber({ name: say("Step"), all }, (value) => pick("step", value)),
      layer: new Scrubber({ name: say("Layer"), all }, (value) =>
        pick("layer", value === null ? null : layers()[value]),
      ),
      head: new Scrubber({ name: say("Head"), all }, (value) => pick("head", value)),
    };
    for (const [axis, { root }] of Object.entries(this.scrubbers)) root.dataset.axis = axis;
    this.player = icon(PLAY, say("play"), () => viewer.play());
    this.scrubbers.step.all.before(this.player);
  }

  makeTables() {
    const { viewer } = this;
    const { say } = viewer;
    this.measure = menu(say("What the bars and tables show"), [], (value) => viewer.change({ measure: value }));
    const layers = () => choices(viewer.file.header, viewer.state, "layer");
    const describe = (axis) => (row, column) => {
      const layer = layers()[row];
      const value = this.rows[axis][row]?.[column];
      return `${viewer.file.header.layers[layer].name}, ${say(axis === "step" ? "Step" : "Head").toLowerCase()} ${column}: ${this.reading(value)}`;
    };
    this.stepTable = new Table(
      (row, step) => viewer.change({ step, layer: layers()[row], head: null }),
      describe("step"),
    );
    this.headTable = new Table((row, head) => {
      if (Number.isFinite(this.rows.head[row]?.[head])) viewer.change({ head, layer: layers()[row], step: null });
    }, describe("head"));
    this.tables = element(
      "details",
      { class: "tables" },
      element("summary", {}, say("Tables")),
      element("div", { class: "pair" }, this.stepTable.root, this.headTable.root),
    );
    this.tables.addEventListener("toggle", () => {
      if (viewer.file && this.tables.open !== viewer.state.matrix) viewer.change({ matrix: this.tables.open });
    });
  }

  /** Fill the menus with what a new file has. */
  offer() {
    const { header } = this.viewer.file;
    const { say } = this.viewer;
    const { state } = this.viewer;
    fill(
      this.item,
      header.items.map((_, number) => [number, say("picture {0}", number)]),
      state.item,
    );
    const referenceOption = ({ name, layers }, number) =>
      layers.length ? [number, `${number}: ${name}`] : [number, say("{0}: {1} (never read)", number, name), true];
    fill(this.reference, header.references.map(referenceOption), state.reference);
    fill(
      this.colormap,
      header.colormaps.map((name) => [name, name]),
      state.colormap,
    );
    const skipped = Object.entries(header.skipped);
    const lost = skipped.reduce((sum, [, count]) => sum + count, 0);
    const titles = [say("notes")];
    if (lost) titles.push(say("{0} of {1} attention calls skipped", lost, lost + header.captured_calls));
    if (header.notes.some((note) => /guess/i.test(note))) titles.push(say("a guess"));
    if (header.references.some(({ approximate }) => approximate)) titles.push(say("approximate"));
    const [summary, text] = this.notes.children;
    summary.textContent = titles.join(" \u00b7 ");
    text.textContent = header.summary;
    this.offered = null;
  }

  /** Show the state beside the panes. */
  show(shown) {
    const { state, file, say } = this.viewer;
    for (const key of ["item", "reference", "normalization", "scale", "style", "colormap", "opacity"])
      this[key].value = String(state[key]);
    this.linked.setAttribute("aria-pressed", state.linked);
    const measure = this.viewer.measure;
    for (const axis of ["step", "layer", "head"]) this.showScrubber(axis, measure);
    this.numbers.textContent = this.flashed ?? this.words(shown);
    this.showAsked(shown);
    this.offerMeasures(measure);
    this.tables.open = state.matrix;
    if (state.matrix) this.showTables(measure);
  }

  /** The measures that tell anything of this picture and reference. A menu is made anew only if it has others. */
  offerMeasures(measure) {
    const { state, file, say } = this.viewer;
    const known = file.header.measures.filter((name) => varies(file, state, name));
    if (this.measures === known.join()) {
      this.measure.value = measure;
      return;
    }
    this.measures = known.join();
    fill(
      this.measure,
      known.map((name) => [name, say("bars: {0}", say(MEASURES[name]))]),
      measure,
    );
  }

  showScrubber(axis, measure) {
    const { state, file } = this.viewer;
    const values = choices(file.header, state, axis);
    const at = state[axis] === null ? null : values.indexOf(state[axis]);
    this.scrubbers[axis].set(along(file, state, axis, measure), at, this.label(axis));
  }

  label(axis) {
    const { state, file, say } = this.viewer;
    const { header } = file;
    const count = header.sigmas.length - 1;
    if (axis === "step") {
      if (state.step === null) return say("mean of {0} steps", count);
      const [first, end] = stepsOf(header, state);
      const words =
        end - first === 1
          ? say("step {0} of {1}", first, count)
          : say("steps {0} to {1} of {2}", first, end - 1, count);
      return `${words} \u00b7 \u03c3 ${small(header.sigmas[first])}`;
    }
    if (axis === "layer") {
      if (state.layer === null) return say("mean of {0} layers", header.references[state.reference].layers.length);
      const { name, grid } = header.layers[state.layer];
      return `${name} \u00b7 ${grid[1]}\u00d7${grid[0]}`;
    }
    if (!header.heads) return say("heads were not told apart");
    if (state.head === null) return say("mean of heads");
    const { head, of, layers } = headsOf(header, state.reference, state.layer)[state.head];
    return layers === 1 ? say("head {0} of {1}", head, of) : say("head {0} of {1}, in {2} layers", head, of, layers);
  }

  /** The selection in one line. */
  describe() {
    return ["step", "layer", "head"].map((axis) => this.label(axis)).join(" \u00b7 ");
  }

  /** Scores of the selection in one line. */
  words(shown = { generated: this.viewer.map("generated") }) {
    const { state, file, say } = this.viewer;
    const score =
      this.viewer.state.ask?.side === "reference"
        ? this.viewer.score({ generated: this.viewer.map("generated") })
        : this.viewer.score(shown);
    const parts = varies(file, state, "share") ? [say("share {0}", percent(measureOf(file, state, "share")))] : [];
    if (score !== null) parts.push(say("IMACS {0}", score.toFixed(2)));
    const inside = measureOf(file, state, "inside");
    if (Number.isFinite(inside)) parts.push(say("inside the mask {0}", percent(inside)));
    parts.push(say("concentration {0}", small(measureOf(file, state, "concentration"))));
    return parts.join(" \u00b7 ");
  }

  reading(value) {
    return this.viewer.measure === "concentration" ? small(value) : percent(value);
  }

  showAsked(shown) {
    const { state, say, hovered } = this.viewer;
    const asked = hovered ?? state.ask;
    const answer = asked && shown[asked.side === "generated" ? "reference" : "generated"];
    this.patches.replaceChildren(...(answer?.patches ?? []).map(({ share }) => element("li", {}, percent(share))));
    this.patches.hidden = !answer?.patches.length;
    const pairs = this.viewer.file.header.references[state.reference].pairs_captured.length;
    this.hint.textContent = state.ask
      ? ""
      : say(
          pairs
            ? "Click a picture, or draw a box on it, to ask about that part."
            : "To ask about a part, set pair_maps of I2AM Capture to 'inpainting mask' or 'everywhere', and queue again.",
        );
    this.hint.hidden = Boolean(asked);
    this.clear.hidden = !state.ask;
  }

  showTables(measure) {
    const { state, file, say } = this.viewer;
    const layers = choices(file.header, state, "layer");
    const colors = this.viewer.colors("viridis");
    const key = [state.item, state.reference, measure].join();
    if (this.offered !== key) {
      this.offered = key;
      const over = (axis) =>
        layers.map((layer) => along(file, { ...state, layer, step: null, head: null }, axis, measure));
      this.rows = { step: over("step"), head: over("head") };
    }
    const row = state.layer === null ? null : layers.indexOf(state.layer);
    this.stepTable.set(say("steps x layers"), this.rows.step, colors, [row, state.step]);
    this.headTable.set(say("layers x heads"), this.rows.head, colors, [row, state.layer === null ? null : state.head]);
  }

  playing(on) {
    const { say } = this.viewer;
    this.player.querySelector("path").setAttribute("d", on ? PAUSE : PLAY);
    this.player.title = say(on ? "pause" : "play");
    this.player.setAttribute("aria-label", this.player.title);
  }

  /** Say something for a moment, in place of the numbers. */
  flash(words) {
    this.flashed = words;
    clearTimeout(this.flashing);
    this.flashing = setTimeout(() => {
      this.flashed = null;
      this.viewer.draw();
    }, 2500);
    this.viewer.draw();
  }
}

function icon(path, name, onclick) {
  const sign = element("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, element("path", { d: path }));
  return element("button", { type: "button", class: "icon", title: name, "aria-label": name, onclick }, sign);
}
