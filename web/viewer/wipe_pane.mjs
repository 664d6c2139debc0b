/** Two pictures in one pane, and the border between them: it is drawn with a pointer, or moved with the keyboard. */

import { element } from "./dom.mjs";

/** @import { Pane } from "./pane.mjs" */
/** @import { Wipe } from "./predictions.mjs" */
/** @import { Say } from "./text.mjs" */

const STRIDE = 0.05; // of the picture, for a key
/** Where a key takes the border. @type {Record<string, (at: number) => number>} */
const KEYS = {
  ArrowLeft: (at) => at - STRIDE,
  ArrowDown: (at) => at - STRIDE,
  ArrowRight: (at) => at + STRIDE,
  ArrowUp: (at) => at + STRIDE,
  Home: () => 0,
  End: () => 1,
};

export class WipePane {
  /**
   * @param {Pane} pane
   * @param {Say} say
   * @param {(at: number, lasting: boolean) => void} onMove
   */
  constructor(pane, say, onMove) {
    this.pane = pane;
    this.say = say;
    this.onMove = onMove;
    this.at = 0;
    this.left = element("img", { alt: say("with it"), draggable: "false" });
    this.right = element("img", { alt: say("without it"), draggable: "false" });
    const words = [element("span", {}, say("with it")), element("span", {}, say("without it"))];
    const name = say("Border between with it and without it");
    const range = { "aria-valuemin": 0, "aria-valuemax": 100, "aria-orientation": "horizontal" };
    this.border = element("div", { class: "border", role: "slider", tabindex: 0, "aria-label": name, ...range });
    this.words = element("div", { class: "sides", "aria-hidden": "true", hidden: true }, ...words);
    this.root = element("div", { class: "wipe", hidden: true }, this.left, this.right, this.border);
    pane.heat.after(this.root); // below the outline of the mask, and what is asked about
    pane.box.append(this.words);
    this.border.addEventListener("pointerdown", (event) => this.take(event));
    this.border.addEventListener("pointermove", (event) => this.drag(event, false));
    this.border.addEventListener("pointerup", (event) => this.drag(event, true));
    this.border.addEventListener("click", (event) => event.stopPropagation()); // it asks about no part
    this.border.addEventListener("keydown", (event) => this.press(event));
  }

  /**
   * @param {Wipe | undefined} wipe what is shown; nothing hides it
   * @param {(name: string) => string} urlOf
   */
  show(wipe, urlOf) {
    this.root.hidden = this.words.hidden = !wipe;
    setPicture(this.left, wipe && urlOf(wipe.left));
    setPicture(this.right, wipe && urlOf(wipe.right));
    if (!wipe) return;
    this.at = wipe.at;
    this.root.style.setProperty("--at", `${100 * wipe.at}%`);
    this.border.setAttribute("aria-valuenow", String(Math.round(100 * wipe.at)));
    this.border.setAttribute("aria-valuetext", this.say("{0} % with it", Math.round(100 * wipe.at)));
  }

  /** @param {PointerEvent} event */
  take(event) {
    event.stopPropagation(); // or a box would be drawn, and the node moved
    event.preventDefault();
    this.border.focus({ preventScroll: true });
    this.border.setPointerCapture(event.pointerId);
  }

  /** @param {PointerEvent} event @param {boolean} ends */
  drag(event, ends) {
    if (!this.border.hasPointerCapture(event.pointerId)) return;
    event.stopPropagation();
    this.onMove(this.pane.placeAt(event)[0], ends);
  }

  /** @param {KeyboardEvent} event */
  press(event) {
    const move = KEYS[event.key];
    if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation(); // or the cursor of the pane would move
    this.at = Math.max(0, Math.min(1, move(this.at))); // the next key may come before this one is drawn
    this.onMove(this.at, true);
  }
}

/** @param {HTMLImageElement} image @param {string | undefined} url */
function setPicture(image, url) {
  if (!url) image.removeAttribute("src");
  else if (image.getAttribute("src") !== url) image.src = url;
}
