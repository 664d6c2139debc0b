/** The pictures of a file as addresses that this browser can show. */

import { tensorOf } from "./file.mjs";

/** @import { ViewFile } from "./file.mjs" */

export class Pictures {
  constructor() {
    /** @type {Map<string, string>} addresses in this browser by names of tensors */
    this.urls = new Map();
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
