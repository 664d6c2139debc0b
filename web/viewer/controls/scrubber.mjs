/** A slider over bars that say where to look: one for each step, layer or head. */

import { element, svgElement } from "../dom.mjs";

/** @import { Bars } from "../mode.mjs" */

const LOWEST = 0.15; // height of the lowest bar: bars compare, the text says how much

export class Scrubber {
  /**
   * @param {{name: string, all: string}} words
   * @param {(value: number | null) => void} onPick the number of a bar, or null for the mean of all
   */
  constructor(words, onPick) {
    /** @type {number | null} */
    this.value = null;
    this.others = svgElement("path");
    this.chosen = svgElement("path", { class: "chosen" });
    const bars = { class: "bars", preserveAspectRatio: "none", "aria-hidden": "true" };
    this.bars = svgElement("svg", bars, this.others, this.chosen);
    this.input = element("input", { type: "range", min: 0, step: 1, "aria-label": words.name });
    this.input.addEventListener("input", () => onPick(Number(this.input.value)));
    this.input.addEventListener("pointerdown", () => this.value === null && onPick(Number(this.input.value)));
    this.all = element("button", { type: "button", class: "all", onclick: () => onPick(null) }, words.all);
    this.label = element("output");
    this.track = element("div", { class: "track" }, this.bars, this.input);
    const name = element("span", { class: "name" }, words.name);
    this.root = element("div", { class: "scrubber" }, name, this.all, this.track, this.label);
  }

  /** @param {Bars} bars */
  set({ heights, at: value, label, explained }) {
    this.value = value;
    const count = heights.length;
    const shapes = barsOf(heights);
    this.bars.setAttribute("viewBox", `0 0 ${Math.max(1, count)} 1`);
    this.chosen.setAttribute("d", value === null ? "" : (shapes[value] ?? ""));
    this.others.setAttribute("d", shapes.filter((_, number) => number !== value).join(""));
    this.input.max = String(Math.max(0, count - 1));
    this.input.value = String(value ?? 0);
    this.input.disabled = count === 0;
    this.all.disabled = Boolean(explained);
    this.label.title = explained;
    this.root.classList.toggle("none", Boolean(explained));
    this.input.setAttribute("aria-valuetext", label);
    this.input.style.setProperty("--thumb", `${100 / Math.max(1, count)}cqw`);
    this.root.classList.toggle("mean", value === null);
    this.all.setAttribute("aria-pressed", String(value === null));
    this.label.textContent = label;
  }
}

/**
 * Each bar as a part of an SVG path: one path of many bars is drawn much faster than as many elements.
 * @param {number[]} heights
 */
function barsOf(heights) {
  const captured = heights.filter((height) => !Number.isNaN(height));
  const low = Math.min(...captured);
  const spread = Math.max(...captured) - low || 1;
  return heights.map((height, number) => {
    if (Number.isNaN(height)) return "";
    const tall = LOWEST + ((1 - LOWEST) * (height - low)) / spread;
    return `M${number + 0.05} 1v${-tall.toFixed(4)}h0.9V1z`;
  });
}
