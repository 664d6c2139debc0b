/** The results of a viewer's node: which is to be seen, until its file is here. */

import { download, Gone, readFile } from "./file.mjs";

/** @import { ViewFile } from "./file.mjs" */

/**
 * A file on the server, and when it came (`at`, milliseconds since 1970). `next` are values that the page has drawn for the
 * next run, by their places, since this one began.
 * @typedef {{filename: string, subfolder: string, type: string, bytes: number, at?: number, next?: Record<string, unknown>}} Result
 */

/**
 * @typedef {object} ResultEvents
 * @property {(result: Result) => Promise<Response>} open asks the server for a file
 * @property {(file: ViewFile) => void} opened
 * @property {(text: string, ...values: unknown[]) => void} notify says something above the panes
 */

export class Results {
  /** @param {ResultEvents} on */
  constructor(on) {
    this.on = on;
    /** @type {Result | null} the last that was to be opened */
    this.last = null;
    /** @type {Result | null} the one that is open */
    this.current = null;
  }

  /**
   * Open a result; what was open before stays until it is there.
   * @param {Result} result
   */
  async load(result) {
    if (this.last?.filename === result.filename) return;
    this.last = result;
    /** @param {number} part */
    const onProgress = (part) => {
      if (this.last === result) this.on.notify("Loading {0} %", Math.round(100 * part));
    };
    try {
      const buffer = await download(() => this.on.open(result), result.bytes, onProgress);
      if (this.last !== result) return; // a newer one is on its way
      const file = readFile(buffer);
      this.current = result;
      this.on.opened(file);
      this.on.notify("");
    } catch (error) {
      if (this.last === result) this.failed(error);
    }
  }

  /** @param {unknown} error */
  failed(error) {
    this.last = null;
    const { notify } = this.on;
    if (error instanceof Gone) notify("The last result is not on the server any more: queue again to explore.");
    else notify("The result could not be read: {0}", error instanceof Error ? error.message : error);
  }
}
