/** I2AM Viewer in ComfyUI's page: one widget on its node, for the LiteGraph canvas and for Nodes 2.0. */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { Origins } from "./viewer/origin.mjs";
import { sentencesIn } from "./viewer/sentences.mjs";
import { soFarIn } from "./viewer/so_far.mjs";
import { translator } from "./viewer/text.mjs";
import { Viewer } from "./viewer/viewer.mjs";
import { scrollsHere } from "./viewer/wheel.mjs";

/** @import { Result } from "./viewer/results.mjs" */

/** @import { ViewerNode } from "./viewer/origin.mjs" */

const NODE = "I2AM_Viewer";
const CAPTURE = "I2AM_Capture";
const SIZE = [800, 780]; // its menus in two lines at most, and each picture 250 px with findings above it
const MIN_HEIGHT = 360; // px, in LiteGraph
const MIN_HEIGHT_VUE = 630; // the first Nodes 2.0 gave a widget no more than it asked for
const STATE = "i2am_view"; // what one looks at, in node.properties
const ID = "i2am_id"; // the viewer's name, there too
const RESULTS = "i2am.results"; // the files of last results, in the browser's storage
const GONE_MS = 1000; // within which undoing has made a node anew
const REMEMBERED = 100; // of them
const EARLIER = 8; // of one viewer: as long as ComfyUI's temp folder has them, they can be compared with
const OUTPUT = "i2am_view"; // what the node returns
const NO_MAPS = "This run has no maps: I2AM Collect is bypassed, or nothing is connected to attribution.";
const BLOCKED = "Execution Blocked: "; // before the sentence of a node that has nothing for those after it

app.registerExtension({
  name: "i2am.viewer",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== NODE) return;
    after(nodeType.prototype, "onNodeCreated", addViewer);
    after(nodeType.prototype, "onConfigure", restore);
    after(nodeType.prototype, "onAdded", own);
    after(nodeType.prototype, "onExecuted", show);
    after(nodeType.prototype, "onRemoved", (node) => {
      node.i2amViewer?.remove();
      if (node.i2amViewer) leavePlace(node);
    });
  },
  /** A workflow's tab was opened, or a finished job was chosen. */
  onNodeOutputsUpdated() {
    for (const node of viewers(rootGraph())) recall(node);
  },
});

/**
 * Do something after a method that a class of nodes may have.
 * @param {ComfyNodeMethods} prototype
 * @param {keyof ComfyNodeMethods} name
 * @param {(node: ViewerNode, argument: unknown) => void} added
 */
function after(prototype, name, added) {
  const before = prototype[name];
  prototype[name] = function (...args) {
    const result = before?.apply(this, args);
    added(/** @type {ViewerNode} */ (this), args[0]); // addViewer makes it one, when the node is created
    return result;
  };
}

/** @param {ViewerNode} node */
function addViewer(node) {
  const locale = app.extensionManager?.setting?.get("Comfy.Locale") ?? "en";
  const viewer = new Viewer({
    open: ({ filename, subfolder, type }) =>
      api.fetchApi(`/view?${new URLSearchParams({ filename, subfolder, type })}`),
    keep: (state) => {
      node.properties[STATE] = state;
      looks.set(idOf(node), state);
      keepQuietly(node);
    },
    opened: () => origins.request(),
    earlier: () => remembered()[idOf(node)]?.earlier ?? [],
    keepPinned: (result) => rememberPinned(idOf(node), result),
    forget: ({ filename }) => forget(idOf(node), filename),
    locale: String(locale),
    say: translator(locale),
    sentences: sentencesIn(locale),
    styles: new URL("./viewer/style.css", import.meta.url).href,
  });
  const minHeight = LiteGraph.vueNodesMode ? MIN_HEIGHT_VUE : MIN_HEIGHT;
  viewer.root.style.cssText = `width:100%;height:100%;min-height:${minHeight}px;box-sizing:border-box;overflow:hidden;outline-offset:-2px`;
  viewer.root.addEventListener("pointerdown", (event) => {
    viewer.root.focus({ preventScroll: true });
    event.stopPropagation(); // or the node would be dragged
  });
  viewer.root.addEventListener("wheel", (event) => wheel(event, viewer.root), { passive: false });
  const widget = node.addDOMWidget("viewer", "i2am_viewer", viewer.root, {
    serialize: false,
    getMinHeight: () => MIN_HEIGHT,
    hideOnZoom: false, // as pictures of ComfyUI's own: they stay when one steps back
  });
  widget.serialize = false;
  // The newest frontend's side panel gives the widgets of a selected node its own width, which they then have in the node.
  Object.defineProperty(widget, "width", { get: () => undefined, set: () => {} });
  node.i2amViewer = viewer;
  node.properties[ID] ??= newId();
  node.setSize([Math.max(node.size[0], SIZE[0]), Math.max(node.size[1], SIZE[1])]);
}

/**
 * Scroll what is under the pointer, or let the canvas behind have the wheel.
 * @param {WheelEvent} event
 * @param {HTMLElement} root
 */
function wheel(event, root) {
  if (scrollsHere(event, root)) event.stopPropagation();
  else app.canvas?.processMouseWheel(event);
}

// Fingers on a picture are for the picture: ComfyUI would take two of them for its canvas, before anything in it has them.
for (const name of ["touchstart", "touchmove", "touchend", "touchcancel"]) {
  window.addEventListener(name, (event) => isInPane(event) && event.stopPropagation(), {
    capture: true,
    passive: true,
  });
}

/** @param {Event} event */
function isInPane(event) {
  const path = event.composedPath();
  const isPane = path.some((target) => target instanceof Element && target.matches(".pane"));
  return isPane && path.some((target) => target instanceof Element && target.matches(".i2am-viewer"));
}

// Looking is no edit: it is kept in the workflow, but there is nothing to undo, and undoing does not take it back.

/** What is looked at, by the names of viewers. @type {Map<string, unknown>} */
const looks = new Map();

/** What ComfyUI compares the workflow with, to see whether it was edited. */
function tracker() {
  return app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
}

/**
 * Put what a viewer looks at where ComfyUI would notice that it has changed.
 * @param {ViewerNode} node
 */
function keepQuietly(node) {
  const state = tracker()?.activeState;
  const graphs = [state, ...(state?.definitions?.subgraphs ?? [])];
  if (node.properties[STATE] === undefined) return;
  for (const { properties } of graphs.flatMap((graph) => graph?.nodes ?? [])) {
    if (properties && properties[ID] === node.properties[ID])
      properties[STATE] = JSON.parse(JSON.stringify(node.properties[STATE]));
  }
}

api.addEventListener("graphChanged", () => {
  for (const node of viewers(rootGraph())) keepQuietly(node);
  origins.request();
});

// A result is of the run that made it. Where the workflow has other settings by now, that is said.

const origins = new Origins({
  viewers: () => viewers(rootGraph()),
  graph: rootGraph,
  prompt: () => app.graphToPrompt(),
  expected: (node) => remembered()[idOf(node)]?.next,
  expect(node, next) {
    const result = remembered()[idOf(node)];
    if (result) remember(idOf(node), { ...result, next });
  },
});

/**
 * A node from a workflow, a copy, or a step of undo: what it looked at, and the result if it is still there.
 * @param {ViewerNode} node
 */
function restore(node) {
  node.properties[ID] ??= newId();
  if (tracker()?._restoringState) node.properties[STATE] = looks.get(idOf(node)) ?? node.properties[STATE];
  node.i2amViewer.restore(node.properties[STATE]);
  takePlace(node);
  recall(node);
  own(node);
}

/** Elements of viewers that are gone, by their names. @type {Map<string, HTMLElement>} */
const gone = new Map();

/**
 * The element of a node that is removed, for the moment in which undoing makes the node anew.
 * @param {ViewerNode} node
 */
function leavePlace(node) {
  const { root } = node.i2amViewer;
  const id = idOf(node);
  gone.set(id, root);
  setTimeout(() => gone.get(id) === root && gone.delete(id), GONE_MS);
}

/**
 * Undoing makes all nodes anew. The first Nodes 2.0 leaves the element of the old node where that of the new one belongs.
 * @param {ViewerNode} node
 */
function takePlace(node) {
  const { root } = node.i2amViewer;
  const old = gone.get(idOf(node));
  gone.delete(idOf(node));
  if (!old) return;
  const take = () => old.isConnected && !root.isConnected && old.replaceWith(root);
  for (const wait of [0, 100, 400]) setTimeout(take, wait);
}

/**
 * A copy goes by its original's name until it is in the graph.
 * @param {ViewerNode} node
 */
function own(node) {
  const others = [...viewers(rootGraph())].filter((other) => other !== node);
  if (!node.graph || !others.some(({ properties }) => properties[ID] === node.properties[ID])) return;
  node.properties[ID] = newId();
  const { last } = node.i2amViewer.results;
  if (last) remember(idOf(node), last);
}

/** @param {ViewerNode} node */
function recall(node) {
  const result = resultIn(app.nodeOutputs?.[placeOf(node)]) ?? remembered()[idOf(node)];
  if (result) node.i2amViewer.load(result);
  const { pinned } = node.i2amViewer;
  const { pinned: before } = remembered()[idOf(node)] ?? {};
  if (before && !pinned.file && !pinned.wanted) pinned.load(before);
}

/**
 * @param {ViewerNode} node
 * @param {unknown} output
 */
function show(node, output) {
  const result = resultIn(output);
  if (!result && isOurs(output)) node.i2amViewer.runWithout(NO_MAPS);
  if (!result) return;
  node.i2amViewer.live.done = running;
  node.i2amViewer.load(result).then(() => origins.request(node));
  remember(idOf(node), { ...result, at: Date.now() });
}

/** Whether the node has run at all, with a result or without. @param {unknown} output */
const isOurs = (output) => Boolean(/** @type {Record<string, unknown> | undefined} */ (output)?.[OUTPUT]);

/**
 * Our result among what a node returned; other versions of it may have returned something else.
 * @param {unknown} output
 * @returns {Result | undefined}
 */
function resultIn(output) {
  return /** @type {Record<string, Result[]> | undefined} */ (output)?.[OUTPUT]?.[0];
}

/** @param {ViewerNode} node */
function idOf(node) {
  return String(node.properties[ID]);
}

/**
 * The node's place in its workflow, as ComfyUI writes it: with the id of the subgraph that it is in.
 * @param {ViewerNode} node
 */
function placeOf({ graph, id }) {
  return !graph || graph === rootGraph() ? String(id) : `${graph.id}:${id}`;
}

function rootGraph() {
  return app.rootGraph ?? app.graph;
}

// Results are remembered beside the workflow, not in it: they are of this server, and no change that could be undone.
// The workflow has only a name for each viewer, which stays when it is moved into a subgraph.

function newId() {
  return Array.from(crypto.getRandomValues(new Uint32Array(2)), (part) => part.toString(36)).join("");
}

/** A result, those before it, the last first, and the one that is pinned. @typedef {Result & {earlier?: Result[], pinned?: Result}} Remembered */

/** Results by the names of their viewers. @returns {Record<string, Remembered>} */
function remembered() {
  try {
    return JSON.parse(localStorage.getItem(RESULTS) ?? "null") ?? {};
  } catch {
    return {};
  }
}

/**
 * @param {string} id
 * @param {Result} result
 */
function remember(id, result) {
  const { [id]: before, ...others } = remembered();
  const last = [
    ...Object.entries(others),
    [id, { ...result, earlier: earlierOf(before, result), pinned: before?.pinned }],
  ].slice(-REMEMBERED);
  store(Object.fromEntries(last));
}

/**
 * @param {Remembered | undefined} before
 * @param {Result} result that comes now
 */
function earlierOf(before, { filename }) {
  if (!before) return [];
  const { earlier = [] } = before;
  return [alone(before), ...earlier].filter((one) => one.filename !== filename).slice(0, EARLIER);
}

/** A result without what is remembered with it. @param {Result} result @returns {Result} */
const alone = ({ filename, subfolder, type, bytes, at }) => ({ filename, subfolder, type, bytes, at });

/**
 * @param {string} id
 * @param {Result | null} result that is pinned as A; null is none
 */
function rememberPinned(id, result) {
  const all = remembered();
  if (all[id]) store({ ...all, [id]: { ...all[id], pinned: result ? alone(result) : undefined } });
}

/**
 * @param {string} id
 * @param {string} filename of a result that is gone
 */
function forget(id, filename) {
  const all = remembered();
  if (!all[id]) return;
  const { earlier = [], pinned, ...last } = all[id];
  const left = earlier.filter((one) => one.filename !== filename);
  store({ ...all, [id]: { ...last, earlier: left, pinned: pinned?.filename === filename ? undefined : pinned } });
}

/** @param {Record<string, Remembered>} results */
function store(results) {
  try {
    localStorage.setItem(RESULTS, JSON.stringify(results));
  } catch {
    // The storage is full or forbidden: the result is shown all the same.
  }
}

/**
 * Viewers of a graph and of the subgraphs in it.
 * @param {ComfyGraph | undefined} graph
 * @returns {Generator<ViewerNode>}
 */
function* viewers(graph) {
  for (const node of graph?.nodes ?? []) {
    if (hasViewer(node)) yield node;
    if (node.subgraph) yield* viewers(node.subgraph);
  }
}

/** @param {ComfyNode} node @returns {node is ViewerNode} */
function hasViewer(node) {
  return "i2amViewer" in node;
}

// The state of a run. The page is sent every run of its client, and which node it is at.

let running = ""; // the run that is under way; "" of one that began before the page was opened
/** Runs that have ended: what comes of them is late. @type {string[]} */
const ended = [];

api.addEventListener("execution_start", ({ detail }) => {
  running = detail?.prompt_id ?? "";
  everywhere((viewer) => viewer.runStarted());
});

/** @param {string | undefined} prompt */
function end(prompt) {
  ended.push(prompt ?? "");
  ended.splice(0, ended.length - REMEMBERED);
}

api.addEventListener("execution_success", ({ detail }) => {
  end(detail?.prompt_id);
  everywhere((viewer) => viewer.runEnded());
});
api.addEventListener("execution_interrupted", ({ detail }) => {
  end(detail?.prompt_id);
  everywhere((viewer) => viewer.runStopped(detail?.prompt_id ?? ""));
});
api.addEventListener("execution_error", ({ detail }) => {
  if (detail?.exception_type !== "ExecutionBlocked") {
    end(detail?.prompt_id);
    return everywhere((viewer) => viewer.runFailed());
  }
  const why = String(detail.exception_message).replace(BLOCKED, "");
  for (const node of viewers(rootGraph())) {
    if (origins.idOf(node) === String(detail.node_id)) node.i2amViewer.runWithout(why);
  }
});

/** @param {(viewer: Viewer) => void} act */
function everywhere(act) {
  for (const { i2amViewer } of viewers(rootGraph())) act(i2amViewer);
}

// The map so far. It is for the viewers of one Capture; a graph with other nodes under these ids is another workflow.

api.addEventListener("i2am.live", ({ detail }) => {
  const soFar = soFarIn(detail);
  if (!soFar || ended.includes(soFar.prompt) || origins.nodeOf(soFar.capture)?.type !== CAPTURE) return;
  for (const node of viewers(rootGraph())) {
    if (soFar.viewers.includes(origins.idOf(node) ?? "")) node.i2amViewer.live.show(soFar);
  }
});
api.addEventListener("b_preview_with_metadata", ({ detail }) => everywhere(({ live }) => live.showPreview(detail)));
