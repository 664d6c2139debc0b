/** Two tables of a measure, steps x layers and layers x heads; and whether they are open. */

import { element } from "../dom.mjs";
import { isEffect } from "../effects.mjs";
import { rangeOf } from "../heat.mjs";
import { along, choices } from "../maps.mjs";
import { modeOf } from "../mode.mjs";
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
    const summary = element("summary", {}, viewer.say(label));
    summary.addEventListener("click", (event) => {
      event.preventDefault(); // the state opens it: else a drawing between the press and its "toggle" would close it
      viewer.change({ matrix: !viewer.state.matrix });
    });
    this.root = element("details", { class: "tables" }, summary, pair);
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
    const layer = this.layers()[row];
    const scene = { ...viewer.scene, state: { ...viewer.state, layer, step: null, head: null } };
    if (!Number.isFinite(this.rows[axis][row]?.[column] ?? NaN)) return viewer.say("nothing was captured here");
    const { measure } = viewer.screen;
    return `${modeOf(viewer.state).bars(axis, scene, measure).value(column)} \u00b7 ${viewer.opened.header.layers[layer].name}`;
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
    const head = state.layer === null ? null : state.head;
    this.steps.set(this.title(say("steps x layers"), this.rows.step), this.rows.step, colors, [row, state.step]);
    this.heads.set(this.title(say("layers x heads"), this.rows.head), this.rows.head, colors, [row, head]);
  }

  /**
   * What a table is of, and what its colours span.
   * @param {string} name
   * @param {number[][]} rows
   */
  title(name, rows) {
    const { low, high } = rangeOf(rows.flat().filter((value) => !Number.isNaN(value)));
    const ends = [low, high].map((value) => this.words(value));
    return `${name} \u00b7 ${this.viewer.say("colours: {0} to {1}", ...ends)}`;
  }

  /** @param {number} value */
  words(value) {
    return this.rowsOf.includes("concentration") ? small(value) : percent(value);
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
