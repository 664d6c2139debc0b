/** Says in each viewer whether its maps are of the present workflow, or of another run. */

import { differences, inWords } from "./made_by.mjs";

/** @import { Difference, Present } from "./made_by.mjs" */
/** @import { Result } from "./results.mjs" */
/** @import { Viewer } from "./viewer.mjs" */

/** @typedef {ComfyNode & {i2amViewer: Viewer}} ViewerNode */

const QUIET_MS = 300; // without a change, until workflows are compared
const UPLOADS = /^(Load3D|Preview3D|RecordAudio|WebcamCapture)/; // asked for their values, these send files

/**
 * @typedef {object} OriginPage
 * @property {() => Iterable<ViewerNode>} viewers
 * @property {() => ComfyGraph | undefined} graph of the whole workflow
 * @property {() => Promise<{output: Present["nodes"]}>} prompt what would be queued
 * @property {(node: ViewerNode) => Result["next"]} expected values that the page itself has drawn since
 * @property {(node: ViewerNode, next: Result["next"]) => void} expect
 */

export class Origins {
  /** @param {OriginPage} page */
  constructor(page) {
    this.page = page;
    /** @type {number | undefined} */
    this.timer = undefined;
    /** Viewers whose result has just come. @type {Set<ViewerNode>} */
    this.fresh = new Set();
  }

  /** Compare soon. @param {ViewerNode} [fresh] whose result has just come */
  request(fresh) {
    if (fresh) this.fresh.add(fresh);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.compare(), QUIET_MS);
  }

  /** The id under which a node is queued. @param {ComfyNode} node */
  idOf(node) {
    const graph = this.page.graph();
    return graph && [...allIn(graph)].find((one) => one.node === node)?.id;
  }

  /** The node that is queued under an id. @param {string} id */
  nodeOf(id) {
    const graph = this.page.graph();
    return graph && [...allIn(graph)].find((one) => one.id === id)?.node;
  }

  async compare() {
    const graph = this.page.graph();
    const nodes = [...this.page.viewers()].filter(({ i2amViewer }) => i2amViewer.file?.header.made_by);
    if (!graph || !nodes.length || [...allIn(graph)].some(({ node }) => UPLOADS.test(node.type ?? ""))) return;
    const places = new Map([...allIn(graph)].map(({ id, node }) => [id, node]));
    try {
      const { output } = await this.page.prompt();
      for (const node of nodes) this.compareOne(node, output, places);
    } catch {
      // A workflow that cannot be queued now is not compared: ComfyUI itself says why.
    }
  }

  /**
   * @param {ViewerNode} node
   * @param {Present["nodes"]} nodes
   * @param {Map<string, ComfyNode>} places
   */
  compareOne(node, nodes, places) {
    const viewer = node.i2amViewer;
    const last = [...places].find(([, one]) => one === node)?.[0] ?? "";
    const madeBy = viewer.file?.header.made_by;
    if (!madeBy || !(last in nodes)) return viewer.sayOrigin("");
    const titles = Object.fromEntries([...places].map(([id, { title }]) => [id, title ?? ""]));
    const all = differences(madeBy, { last, nodes, titles });
    if (this.fresh.delete(node)) {
      const drawn = all.filter(({ place }) => isDrawnAnew(place, places));
      this.page.expect(node, Object.fromEntries(drawn.map(({ place, is }) => [place, is])));
    }
    const next = this.page.expected(node) ?? {};
    /** @param {Difference} one */
    const isExpected = ({ place, is }) => (place in next && next[place] === is) || isComputed(place, is, places);
    const words = inWords(
      all.filter((one) => !isExpected(one)),
      viewer.say,
    );
    return viewer.sayOrigin(viewer.live.soFar ? "" : words); // what is on the screen then is of the run under way
  }
}

/**
 * The widget that an input has its value from.
 * @param {string} place
 * @param {Map<string, ComfyNode>} places
 */
function widgetAt(place, places) {
  const at = place.lastIndexOf(".");
  return places.get(place.slice(0, at))?.widgets?.find(({ name }) => name === place.slice(at + 1));
}

/**
 * Whether a value is worked out when it is queued, as of wildcards in a prompt: it then says nothing of the settings.
 * @param {string} place
 * @param {unknown} value
 * @param {Map<string, ComfyNode>} places
 */
function isComputed(place, value, places) {
  const widget = widgetAt(place, places);
  return typeof widget?.value === "string" && widget.value !== value;
}

/**
 * Whether a value is one that the page changes by itself after each run, as seeds mostly are.
 * @param {string} place
 * @param {Map<string, ComfyNode>} places
 */
function isDrawnAnew(place, places) {
  const controls = widgetAt(place, places)?.linkedWidgets ?? [];
  return controls.some(({ name, value }) => /control/.test(name ?? "") && value !== "fixed");
}

/**
 * All nodes of a graph and of the subgraphs in it, by the ids under which they are queued.
 * @param {ComfyGraph} graph
 * @param {string} [before]
 * @returns {Generator<{id: string, node: ComfyNode}>}
 */
function* allIn(graph, before = "") {
  for (const node of graph.nodes ?? []) {
    const id = `${before}${node.id}`;
    yield { id, node };
    if (node.subgraph) yield* allIn(node.subgraph, `${id}:`);
  }
}
