/** Two tables of a measure, steps x layers and layers x heads; and whether they are open. */

import { element } from "../dom.mjs";
import { isEffect } from "../effects.mjs";
import { along, choices } from "../maps.mjs";
import { colorsOf } from "../scene.mjs";
import { percent, small } from "../words.mjs";
import { isFlag, thatFits } from "./control.mjs";
import { Table } from "./table.mjs";

/** @import { Screen } from "../screen.mjs" */
/** @import { Viewer } from "../viewer.mjs" */
/** @import { Control } from "./control.mjs" */

const label = "Tables";

/** @type {Control<boolean>} */
export const matrix = {
  ...thatFits(false, isFlag),
  label,
  make: (viewer) => new Tables(viewer),
};

class Tables {
  /** @param {Viewer} viewer */
  constructor(viewer) {
    this.viewer = viewer;
    /** @type {Record<"step" | "head", number[][]>} values by layer */
    this.rows = { step: [], head: [] };
    /** @type {unknown[]} what these are the values of */
    this.rowsOf = [];
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
    this.root = element("details", { class: "tables" }, element("summary", {}, viewer.say(label)), pair);
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
    const words = viewer.screen.measure === "concentration" ? small(value) : percent(value);
    return `${name}, ${viewer.say(axis === "step" ? "Step" : "Head").toLowerCase()} ${column}: ${words}`;
  }

  /** @param {Screen} screen */
  show(screen) {
    const { file, state, say } = screen;
    this.root.hidden = isEffect(state);
    this.root.open = state.matrix;
    if (!state.matrix || isEffect(state)) return;
    this.compute(screen);
    const colors = colorsOf(file, "viridis");
    const row = state.layer === null ? null : this.layers().indexOf(state.layer);
    this.steps.set(say("steps x layers"), this.rows.step, colors, [row, state.step]);
    this.heads.set(say("layers x heads"), this.rows.head, colors, [row, state.layer === null ? null : state.head]);
  }

  /** @param {Screen} screen */
  compute({ file, state, measure }) {
    const key = [file, state.item, state.reference, measure];
    if (key.every((part, at) => this.rowsOf[at] === part)) return;
    this.rowsOf = key;
    /** @param {"step" | "head"} axis */
    const over = (axis) =>
      this.layers().map((layer) => along(file, { ...state, layer, step: null, head: null }, axis, measure));
    this.rows = { step: over("step"), head: over("head") };
  }
}
