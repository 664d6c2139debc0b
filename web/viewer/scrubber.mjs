/** A slider over bars that say where to look: one for each step, layer or head. */

import { element } from "./dom.mjs";

const LEAST = 0.15; // height of the lowest bar: bars compare, the text says how much

export class Scrubber {
  /**
   * @param {object} words name, all
   * @param {(value: number | null) => void} onPick the number of a bar, or null for the mean of all
   */
  constructor(words, onPick) {
    this.bars = element("svg", { class: "bars", preserveAspectRatio: "none", "aria-hidden": "true" });
    this.input = element("input", { type: "range", min: 0, step: 1, "aria-label": words.name });
    this.input.addEventListener("input", () => onPick(Number(this.input.value)));
    this.input.addEventListener("pointerdown", () => this.value === null && onPick(Number(this.input.value)));
    this.all = element("button", { type: "button", class: "all", onclick: () => onPick(null) }, words.all);
    this.label = element("output");
    this.track = element("div", { class: "track" }, this.bars, this.input);
    this.root = element("div", { class: "scrubber" }, element("span", { class: "name" }, words.name), this.all, this.track, this.label);
  }

  /**
   * @param {number[]} heights one for each value; not a number where nothing was captured
   * @param {number | null} value
   * @param {string} label what the value is, in words
   */
  set(heights, value, label) {
    this.value = value;
    const count = heights.length;
    const known = heights.filter((height) => !Number.isNaN(height));
    const [low, top] = [Math.min(...known), Math.max(...known)];
    this.bars.setAttribute("viewBox", `0 0 ${Math.max(1, count)} 1`);
    while (this.bars.children.length > count) this.bars.lastChild.remove();
    while (this.bars.children.length < count) this.bars.append(element("rect", { width: 0.9 }));
    heights.forEach((height, number) => {
      const bar = this.bars.children[number];
      const tall = Number.isNaN(height) ? 0 : LEAST + ((1 - LEAST) * (height - low)) / (top - low || 1);
      bar.setAttribute("x", number + 0.05);
      bar.setAttribute("y", 1 - tall);
      bar.setAttribute("height", tall);
      bar.classList.toggle("chosen", number === value);
    });
    this.input.max = Math.max(0, count - 1);
    this.input.value = value ?? 0;
    this.input.disabled = count === 0;
    this.input.setAttribute("aria-valuetext", label);
    this.input.style.setProperty("--thumb", `${100 / Math.max(1, count)}cqw`);
    this.root.classList.toggle("mean", value === null);
    this.all.setAttribute("aria-pressed", value === null);
    this.label.textContent = label;
  }
}
