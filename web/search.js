/**
 * Words by which people look for our nodes. ComfyUI of before `search_aliases` looks in names alone, so there they are in the
 * name that its search lists; on the canvas a node is called what it is.
 */

import { app } from "../../scripts/app.js";

/** @type {Record<string, string>} */
const WORDS = { I2AM_Capture: "attention map", I2AM_Viewer: "attention map, heatmap" };

app.registerExtension({
  name: "i2am.search",
  beforeRegisterNodeDef(nodeType, nodeData) {
    const [words, title] = [WORDS[nodeData.name], nodeData.display_name];
    if (!words || nodeData.search_aliases) return;
    nodeData.search_aliases = words.split(", ");
    nodeData.display_name = `${title} (${words})`;
    // What ComfyUI puts here next is the name of its search; nodes, new ones and those of a workflow, have theirs from here.
    Object.defineProperty(nodeType, "title", { get: () => title, set: () => {} });
  },
});
