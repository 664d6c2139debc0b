/** I2AM Viewer in ComfyUI's page: one widget on its node, for the LiteGraph canvas and for Nodes 2.0. */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { translator } from "./viewer/text.mjs";
import { Viewer } from "./viewer/viewer.mjs";

const NODE = "I2AM_Viewer";
const SIZE = [720, 680];
const LEAST = 360; // px of height
const KEPT = "i2am_view"; // what one looks at, in node.properties
const RESULT = "i2am_result"; // the file of the last result, there too
const OUTPUT = "i2am_view"; // what the node returns

app.registerExtension({
  name: "i2am.viewer",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== NODE) return;
    after(nodeType.prototype, "onNodeCreated", addViewer);
    after(nodeType.prototype, "onConfigure", restore);
    after(nodeType.prototype, "onExecuted", (node, output) => show(node, output));
    after(nodeType.prototype, "onRemoved", (node) => node.i2amViewer?.remove());
  },
  /** A workflow's tab was opened, or a finished job was chosen. */
  onNodeOutputsUpdated() {
    for (const node of viewers(app.rootGraph ?? app.graph)) recall(node);
  },
});

/** Call `added(node, ...arguments)` after a method that a node type may have. */
function after(prototype, name, added) {
  const before = prototype[name];
  prototype[name] = function (...args) {
    const result = before?.apply(this, args);
    added(this, ...args);
    return result;
  };
}

function addViewer(node) {
  const viewer = new Viewer({
    open: ({ filename, subfolder, type }) => api.fetchApi(`/view?${new URLSearchParams({ filename, subfolder, type })}`),
    keep: (state) => {
      node.properties[KEPT] = state;
      node.graph?.change?.();
    },
    say: translator(app.extensionManager?.setting?.get("Comfy.Locale") ?? "en"),
    styles: new URL("./viewer/style.css", import.meta.url).href,
  });
  viewer.root.style.cssText = `width:100%;height:100%;min-height:${LEAST}px;box-sizing:border-box;overflow:hidden;outline-offset:-2px`;
  viewer.root.addEventListener("pointerdown", () => viewer.root.focus({ preventScroll: true }));
  viewer.root.addEventListener("wheel", (event) => app.canvas.processMouseWheel(event), { passive: false });
  const widget = node.addDOMWidget("viewer", "i2am_viewer", viewer.root, { serialize: false, getMinHeight: () => LEAST });
  widget.serialize = false;
  node.i2amViewer = viewer;
  node.setSize([Math.max(node.size[0], SIZE[0]), Math.max(node.size[1], SIZE[1])]);
}

/** A node from a workflow, a copy, or a step of undo: what it looked at, and the result if it is still there. */
function restore(node) {
  node.i2amViewer?.restore(node.properties[KEPT]);
  recall(node);
}

function recall(node) {
  const known = app.nodeOutputs?.[node.locatorId ?? node.id]?.[OUTPUT]?.[0] ?? node.properties[RESULT];
  if (known && node.i2amViewer) node.i2amViewer.load(known);
}

function show(node, output) {
  const result = output?.[OUTPUT]?.[0];
  if (!result) return;
  node.properties[RESULT] = result;
  node.i2amViewer.load(result);
}

/** Viewers of a graph and of the subgraphs in it. */
function* viewers(graph) {
  for (const node of graph?.nodes ?? []) {
    if (node.i2amViewer) yield node;
    if (node.subgraph) yield* viewers(node.subgraph);
  }
}

// The state of a run. The page hears of every run of its client, and of which node it is at.

api.addEventListener("execution_start", () => everywhere((viewer) => viewer.running()));
api.addEventListener("execution_success", () => everywhere((viewer) => viewer.rests()));
api.addEventListener("execution_interrupted", () => everywhere((viewer) => viewer.rests()));
api.addEventListener("execution_error", () => everywhere((viewer) => viewer.failed()));

function everywhere(act) {
  for (const { i2amViewer } of viewers(app.rootGraph ?? app.graph)) act(i2amViewer);
}
