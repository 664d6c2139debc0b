/** A slider over bars that say where to look: one for each step, layer or head. The pointer reads the bar under it. */

import { element, svgElement } from "../dom.mjs";

/** @import { Bars } from "../mode.mjs" */

export class Scrubber {
  /**
   * @param {{name: string, all: string, scale: string}} words
   * @param {(value: number | null) => void} onPick the number of a bar, or null for the mean of all
   */
  constructor(words, onPick) {
    /** @type {Bars | null} */
    this.last = null;
    this.column = svgElement("path", { class: "column" });
    this.others = svgElement("path");
    this.chosen = svgElement("path", { class: "chosen" });
    const bars = { class: "bars", preserveAspectRatio: "none", "aria-hidden": "true" };
    this.bars = svgElement("svg", bars, this.column, this.others, this.chosen);
    this.input = element("input", { type: "range", min: 0, step: 1, "aria-label": words.name, title: words.scale });
    this.input.addEventListener("input", () => onPick(Number(this.input.value)));
    this.input.addEventListener("pointerdown", () => this.last?.at === null && onPick(Number(this.input.value)));
    this.input.addEventListener("pointermove", (event) => this.read(event));
    this.input.addEventListener("pointerleave", () => this.last && this.set(this.last));
    this.all = element("button", { type: "button", class: "all", onclick: () => onPick(null) }, words.all);
    this.label = element("output");
    this.track = element("div", { class: "track" }, this.bars, this.input);
    const name = element("span", { class: "name" }, words.name);
    this.root = element("div", { class: "scrubber" }, name, this.all, this.track, this.label);
  }

  /** Say what the bar under the pointer is, and how much. @param {PointerEvent} event */
  read({ offsetX, buttons }) {
    const { last } = this;
    if (!last?.heights.length || buttons) return;
    const number = Math.floor((offsetX / this.input.clientWidth) * last.heights.length);
    this.label.textContent = last.value(Math.max(0, Math.min(last.heights.length - 1, number)));
    this.label.title = this.label.textContent;
  }

  /** @param {Bars} bars */
  set(bars) {
    const { heights, at, label, explained } = bars;
    this.last = bars;
    const count = heights.length;
    const shapes = barsOf(heights);
    this.bars.setAttribute("viewBox", `0 0 ${Math.max(1, count)} 1`);
    this.column.setAttribute("d", at === null ? "" : `M${at} 1V0h1V1z`);
    this.chosen.setAttribute("d", at === null ? "" : (shapes[at] ?? ""));
    this.others.setAttribute("d", shapes.filter((_, number) => number !== at).join(""));
    this.input.max = String(Math.max(0, count - 1));
    this.input.value = String(at ?? 0);
    this.input.disabled = count === 0;
    this.all.disabled = Boolean(explained);
    this.label.title = explained || label;
    this.root.classList.toggle("none", Boolean(explained));
    this.input.setAttribute("aria-valuetext", at === null || explained ? label : bars.value(at));
    this.input.style.setProperty("--thumb", `${100 / Math.max(1, count)}cqw`);
    this.root.classList.toggle("mean", at === null);
    this.all.setAttribute("aria-pressed", String(at === null));
    this.label.textContent = label;
  }
}

/**
 * Each bar as a part of an SVG path: one path of many bars is drawn much faster than as many elements. They begin at 0, so
 * that bars compare as what they stand for does.
 * @param {number[]} heights
 */
export function barsOf(heights) {
  const most = Math.max(...heights.filter((height) => !Number.isNaN(height))) || 1;
  return heights.map((height, number) =>
    Number.isNaN(height) ? "" : `M${number + 0.05} 1v${-(height / most).toFixed(4)}h0.9V1z`,
  );
}
