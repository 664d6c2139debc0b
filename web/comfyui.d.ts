/**
 * What the page of ComfyUI has that `viewer.js` uses, as it is in the frontends 1.32.9 and 1.58.1. ComfyUI publishes no
 * types that an extension could be checked against: this is written by hand, and tests/web run it.
 */

interface ComfyNode {
  id: number | string;
  type?: string;
  title?: string;
  widgets?: ComfyWidget[];
  size: [number, number];
  properties: Record<string, unknown>;
  graph?: ComfyGraph | null;
  subgraph?: ComfyGraph;
  setSize(size: [number, number]): void;
  addDOMWidget(
    name: string,
    type: string,
    element: HTMLElement,
    options: { serialize: boolean; getMinHeight: () => number; hideOnZoom: boolean },
  ): { serialize?: boolean };
}

interface ComfyWidget {
  name?: string;
  value?: unknown;
  /** Such as the one that draws a new seed after each run. */
  linkedWidgets?: ComfyWidget[];
}

interface ComfyGraph {
  id: string;
  nodes: ComfyNode[];
}

/** What a class of nodes may have, each with arguments of its own. */
type ComfyNodeMethods = Partial<
  Record<
    "onNodeCreated" | "onConfigure" | "onAdded" | "onExecuted" | "onRemoved",
    (this: ComfyNode, ...args: unknown[]) => unknown
  >
>;

interface ComfyNodeData {
  name: string;
  display_name: string;
  /** Newer ComfyUI only. */
  search_aliases?: string[];
}

interface ComfyExtension {
  name: string;
  beforeRegisterNodeDef(nodeType: { prototype: ComfyNodeMethods }, nodeData: ComfyNodeData): void;
  onNodeOutputsUpdated?(): void;
}

interface ComfyApp {
  registerExtension(extension: ComfyExtension): void;
  graph: ComfyGraph;
  /** Newer frontends only: `graph` is then the one that is open, which may be a subgraph. */
  rootGraph?: ComfyGraph;
  nodeOutputs?: Record<string, unknown>;
  /** What would be queued: nodes by their ids. */
  graphToPrompt(): Promise<{ output: Record<string, { class_type: string; inputs: Record<string, unknown> }> }>;
  canvas?: { processMouseWheel(event: WheelEvent): void };
  extensionManager?: {
    setting?: { get(name: string): unknown };
    workflow?: { activeWorkflow?: { changeTracker?: ComfyChangeTracker } };
  };
}

/** Compares the workflow with what it was, and keeps what it was for undoing. */
interface ComfyChangeTracker {
  activeState?: ComfySavedGraph & { definitions?: { subgraphs?: ComfySavedGraph[] } };
  /** While a step is undone. */
  _restoringState?: boolean;
}

interface ComfySavedGraph {
  nodes: { properties?: Record<string, unknown> }[];
}

/** How a run began or ended. */
interface ComfyRun {
  prompt_id?: string;
  node_id?: string | number;
  exception_type?: string;
  exception_message?: string;
}

interface ComfyApi {
  fetchApi(route: string): Promise<Response>;
  addEventListener(
    event: "execution_start" | "execution_success" | "execution_interrupted" | "execution_error" | "graphChanged",
    listener: (event: CustomEvent<ComfyRun | undefined>) => void,
  ): void;
  /** What our nodes send. */
  addEventListener(event: "i2am.live", listener: (event: CustomEvent<unknown>) => void): void;
  /** The picture so far, of the sampler that is at work. */
  addEventListener(
    event: "b_preview_with_metadata",
    listener: (event: CustomEvent<{ blob: Blob; nodeId: string; promptId?: string; jobId?: string }>) => void,
  ): void;
}

declare module "*/scripts/app.js" {
  export const app: ComfyApp;
}

declare module "*/scripts/api.js" {
  export const api: ComfyApi;
}

declare const LiteGraph: { vueNodesMode?: boolean };
