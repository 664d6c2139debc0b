/** The map so far, while a sampler runs: in the place of the last result, until the run has one or ends without it. */

import { WORDS } from "./controls/normalization.mjs";
import { element } from "./dom.mjs";
import { Frame } from "./frame.mjs";
import { WHOLE } from "./geometry.mjs";
import { isFlat, paint, paletteOf } from "./heat.mjs";
import { Pane } from "./pane.mjs";
import { colorsOf } from "./scene.mjs";
import { enlarged, inferno, meanOf } from "./so_far.mjs";
import { percent, small } from "./words.mjs";

/** @import { Grid } from "./geometry.mjs" */
/** @import { SoFar } from "./so_far.mjs" */
/** @import { Viewer } from "./viewer.mjs" */

const OPACITY = 0.6; // of the heat over a preview

export class Live {
  /** @param {Viewer} viewer */
  constructor(viewer) {
    this.viewer = viewer;
    /** @type {SoFar | null} what is on the screen */
    this.soFar = null;
    this.preview = ""; // address of the picture so far in this browser
    this.made = ""; // picture and size that the pane has
    this.done = ""; // the run that has given its result
    this.pane = new Pane("generated", {
      ask: () => {},
      hover: () => {},
      view: (view) => this.pane.move(view),
      whole: () => this.pane.move(WHOLE),
    });
    this.frame = new Frame(() => this.draw()); // steps may be faster than the page
    this.pane.root.className = "pane so-far";
    this.root = element("section", { class: "live" }, this.pane.root);
    this.observer = new ResizeObserver(() => this.pane.layout());
    this.observer.observe(this.pane.box);
  }

  /** @param {SoFar} soFar */
  show(soFar) {
    if (soFar.prompt === this.done) return;
    if (soFar.prompt !== this.soFar?.prompt || soFar.sampler !== this.soFar.sampler) this.dropPreview();
    this.soFar = soFar;
    if (!this.root.isConnected) this.viewer.body.before(this.root);
    this.viewer.body.hidden = true;
    this.viewer.sayOrigin("");
    this.viewer.notify("So far: step {0} of {1}.", soFar.step, soFar.steps);
    this.frame.request();
  }

  /**
   * The frontend's own picture so far, of the sampler that is at work; newer ones call a prompt a job.
   * @param {{blob: Blob, nodeId: string, promptId?: string, jobId?: string}} preview
   */
  showPreview({ blob, nodeId, promptId, jobId }) {
    if (!this.soFar || nodeId !== this.soFar.sampler || (jobId ?? promptId) !== this.soFar.prompt) return;
    this.dropPreview();
    this.preview = URL.createObjectURL(blob);
    this.frame.request();
  }

  /** The run has ended, or has given its result. */
  end() {
    if (!this.soFar) return;
    this.soFar = null;
    this.frame.cancel();
    this.dropPreview();
    this.root.remove();
    this.viewer.body.hidden = !this.viewer.file;
    if (this.viewer.file) this.viewer.page.opened(); // there are its maps again: of the present workflow, or not
  }

  draw() {
    const { soFar, viewer } = this;
    if (!soFar) return;
    const { say, file, state } = viewer;
    const map = soFar.maps.find(({ reference }) => reference === state.reference) ?? soFar.maps[0];
    const { canvas, values, range: own } = enlarged(map);
    const table = file ? colorsOf(file, state.colormap) : inferno();
    this.showPicture(canvas);
    const isShare = map.normalization === "share";
    const detail = [
      say(WORDS[map.normalization]),
      isShare ? say("mean {0}", percent(meanOf(map))) : say("only where, not how much"),
      soFar.maps.length > 1 && map.name,
      soFar.items > 1 && say("picture {0}", 0),
    ];
    const words = isShare ? percent : small;
    const message = isFlat(own)
      ? say("The same everywhere: {0}. No place counts more than another.", words(own.high))
      : "";
    const range = isShare && !message ? { low: 0, high: own.high } : own; // little of a share is dark
    this.pane.caption(say("Where the reference acts"), detail.filter(Boolean).join(", "), message);
    this.pane.draw((pixels) => paint(values, range, paletteOf(table), pixels), "blend", OPACITY);
    this.pane.explain(table, [words(range.low), words(range.high)]);
  }

  /** Put the picture so far into the pane, where it is another: to set it again makes it flicker. @param {Grid} canvas */
  showPicture(canvas) {
    const made = [this.preview, ...canvas].join();
    if (made !== this.made) this.pane.show(this.preview || null, canvas);
    this.made = made;
  }

  dropPreview() {
    if (this.preview) URL.revokeObjectURL(this.preview);
    this.preview = "";
  }

  remove() {
    this.end();
    this.observer.disconnect();
  }
}
