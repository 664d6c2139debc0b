/** The pictures under the maps of a selection, and what belongs to them: the mask with its outline, and notes. */

import { tensorOf } from "./file.mjs";
import { outlineOf } from "./outline.mjs";
import { SIDES } from "./state.mjs";

/** @type {HeaderPicture} that is shown where there is no reference */
const NO_PICTURE = { name: null, canvas: [1, 1], note: "" };

/** @import { ViewFile } from "./file.mjs" */
/** @import { HeaderPicture } from "./header.d.ts" */
/** @import { Selection } from "./maps.mjs" */
/** @import { Pane } from "./pane.mjs" */
/** @import { Side } from "./state.mjs" */

export class Pictures {
  constructor() {
    /** @type {ArrayLike<number> | null} `[height, width]` of 0 and 1, at the size of the generated picture's heat */
    this.mask = null;
    /** @type {Record<Side, string>} outlines of masks as SVG paths */
    this.outlines = { generated: "", reference: "" };
    /** @type {Record<Side, string>} what a person should know of the pictures */
    this.notes = { generated: "", reference: "" };
    /** @type {Map<string, string>} addresses in this browser by names of tensors */
    this.urls = new Map();
  }

  /**
   * Show the pictures of a selection.
   * @param {Record<Side, Pane>} panes
   * @param {ViewFile} file
   * @param {Pick<Selection, "item" | "reference">} selection
   */
  show(panes, file, { item, reference }) {
    const { pictures } = file.header;
    /** @type {Record<Side, HeaderPicture>} */
    const places = {
      generated: pictures.generated[item],
      reference: pictures.reference[reference]?.[item] ?? NO_PICTURE,
    };
    for (const side of SIDES) {
      const { name, canvas, note } = places[side];
      panes[side].show(name && this.urlOf(file, name), canvas);
      this.notes[side] = note;
    }
    const mask = file.tensors.get(`mask/${item}`);
    this.mask = mask?.data ?? null;
    this.outlines.generated = mask ? outlineOf(mask.data, mask.shape[0], mask.shape[1]) : "";
  }

  /**
   * @param {ViewFile} file
   * @param {string} name
   */
  urlOf(file, name) {
    const url =
      this.urls.get(name) ?? URL.createObjectURL(new Blob([tensorOf(file, name).data], { type: "image/png" }));
    this.urls.set(name, url);
    return url;
  }

  /** Free what the browser holds of them. */
  revoke() {
    for (const url of this.urls.values()) URL.revokeObjectURL(url);
    this.urls.clear();
  }
}
