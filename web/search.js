/**
 * Words by which people look for our nodes. ComfyUI of before `search_aliases` looks in names alone, so there they are in the
 * name that its search lists; on the canvas a node is called what it is.
 */

import { app } from "../../scripts/app.js";

/** @type {Record<string, string>} */
const WORDS = { I2AM_Capture: "attention map", I2AM_Viewer: "attention map, heatmap" };

app.registerExtension({
  name: "i2am.search",
  beforeRegisterNodeDef({ prototype }, nodeData) {
    const [words, title] = [WORDS[nodeData.name], nodeData.display_name];
    if (!words || nodeData.search_aliases) return;
    nodeData.search_aliases = words.split(", ");
    nodeData.display_name = `${title} (${words})`;
    const before = prototype.onNodeCreated;
    prototype.onNodeCreated = function (...args) {
      this.title = title;
      return before?.apply(this, args);
    };
  },
});
