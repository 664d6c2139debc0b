/** Two tables of a measure: steps x layers, and layers x heads. */

import { element } from "./dom.mjs";
import { along, choices } from "./maps.mjs";
import { Table } from "./table.mjs";
import { percent, small } from "./words.mjs";

/** @import { Measure } from "./maps.mjs" */
/** @import { Viewer } from "./viewer.mjs" */

export class Tables {
  /** @param {Viewer} viewer */
  constructor(viewer) {
    this.viewer = viewer;
    /** @type {Record<"step" | "head", number[][]>} values by layer */
    this.rows = { step: [], head: [] };
    /** @type {string | null} what these are the values of */
    this.rowsOf = null;
    this.steps = new Table(
      (row, step) => viewer.change({ step, layer: this.layers()[row], head: null }),
      (row, column) => this.describe("step", row, column),
    );
    this.heads = new Table(
      (row, head) => {
        if (Number.isFinite(this.rows.head[row]?.[head]))
          viewer.change({ head, layer: this.layers()[row], step: null });
      },
      (row, column) => this.describe("head", row, column),
    );
    const pair = element("div", { class: "pair" }, this.steps.root, this.heads.root);
    this.root = element("details", { class: "tables" }, element("summary", {}, viewer.say("Tables")), pair);
    this.root.addEventListener("toggle", () => {
      if (viewer.file && this.root.open !== viewer.state.matrix) viewer.change({ matrix: this.root.open });
    });
  }

  layers() {
    return choices(this.viewer.opened.header, this.viewer.state, "layer");
  }

  /**
   * A cell in words.
   * @param {"step" | "head"} axis
   * @param {number} row
   * @param {number} column
   */
  describe(axis, row, column) {
    const { viewer } = this;
    const { name } = viewer.opened.header.layers[this.layers()[row]];
    const value = this.rows[axis][row]?.[column] ?? NaN;
    const words = viewer.measure === "concentration" ? small(value) : percent(value);
    return `${name}, ${viewer.say(axis === "step" ? "Step" : "Head").toLowerCase()} ${column}: ${words}`;
  }

  /** Forget the values: there is a new file. */
  reset() {
    this.rowsOf = null;
  }

  /** @param {Measure} measure */
  show(measure) {
    const { state, say } = this.viewer;
    this.root.open = state.matrix;
    if (!state.matrix) return;
    this.compute(measure);
    const colors = this.viewer.colors("viridis");
    const row = state.layer === null ? null : this.layers().indexOf(state.layer);
    this.steps.set(say("steps x layers"), this.rows.step, colors, [row, state.step]);
    this.heads.set(say("layers x heads"), this.rows.head, colors, [row, state.layer === null ? null : state.head]);
  }

  /** @param {Measure} measure */
  compute(measure) {
    const { state, opened } = this.viewer;
    const key = [state.item, state.reference, measure].join();
    if (this.rowsOf === key) return;
    this.rowsOf = key;
    /** @param {"step" | "head"} axis */
    const over = (axis) =>
      this.layers().map((layer) => along(opened, { ...state, layer, step: null, head: null }, axis, measure));
    this.rows = { step: over("step"), head: over("head") };
  }
}
