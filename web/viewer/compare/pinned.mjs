/** The result that is A: its file stays with the viewer, whatever runs come. */

import { download, Gone, readFile } from "../file.mjs";

/** @import { ViewFile } from "../file.mjs" */
/** @import { Result } from "../results.mjs" */
/** @import { Viewer } from "../viewer.mjs" */

export class Pinned {
  /** @param {Viewer} viewer */
  constructor(viewer) {
    this.viewer = viewer;
    /** @type {ViewFile | null} */
    this.file = null;
    /** @type {Result | null} of which the file is */
    this.result = null;
    /** @type {Result | null} the one that is on its way */
    this.wanted = null;
    this.gone = 0; // results that were to be pinned, and are not on the server any more
  }

  /** The name of its file on the server; empty without one. */
  get name() {
    return this.result?.filename ?? "";
  }

  /** The file of A, where another result is open to compare with it. */
  get other() {
    const { file, result } = this.viewer;
    const isSame = this.file === file || this.name === result?.filename;
    return file && !isSame ? this.file : null;
  }

  /** The result that is open is A from now on. */
  pin() {
    this.put(this.viewer.file, this.viewer.result);
    this.viewer.flash(this.viewer.say("Pinned as A: queue again, and the next result is compared with it."));
  }

  unpin() {
    this.put(null, null);
  }

  /**
   * An earlier result is A, if its file is still on the server.
   * @param {Result} result
   */
  async load(result) {
    const { page, say } = this.viewer;
    this.wanted = result;
    try {
      const buffer = await download(
        () => page.open(result),
        result.bytes,
        () => {},
      );
      if (this.wanted === result) this.put(readFile(buffer), result);
    } catch (error) {
      if (this.wanted === result) this.wanted = null;
      if (error instanceof Gone) {
        page.forget(result);
        this.gone += 1;
      }
      const words =
        error instanceof Gone ? "That result is not on the server any more." : "The result could not be read: {0}";
      this.viewer.flash(say(words, error instanceof Error ? error.message : error));
    }
  }

  /** @param {ViewFile | null} file @param {Result | null} result */
  put(file, result) {
    [this.file, this.result, this.wanted] = [file, result, null];
    this.viewer.page.keepPinned(result);
    if (!file) this.viewer.comparison.clear();
    this.viewer.draw();
  }
}
