/** Whether a result was made by the settings that a workflow has: what differs, in words. No page is needed. */

/** @import { HeaderMadeBy } from "./header.d.ts" */
/** @import { Say } from "./text.mjs" */

/**
 * @typedef {object} Difference
 * @property {string} place the node and its input, by which it is known again
 * @property {string} node as people know it
 * @property {string} input empty where the node is another
 * @property {unknown} was
 * @property {unknown} is undefined where it is not a value
 * @property {"was" | "is"} [only] where alone the node stands, between two that both have
 */

/** The present workflow, of which a result may be. @typedef {HeaderMadeBy & {titles?: Record<string, string>}} Present */

const LONGEST = 24; // letters of a value
const LOOKING = ["I2AM_Capture.live"]; // inputs that change nothing of a result
/** What is said of a node, of a result and the present workflow. */
const NOW = { was: "{0} is gone.", is: "{0} is new.", otherwise: "{0} is connected otherwise now." };
/** The same, of two results. */
const BETWEEN = { was: "{0}: in A alone", is: "{0}: in B alone", otherwise: "{0}: connected otherwise" };

/**
 * What differs in the settings that made a result. Names of nodes do not count: they change when nodes are moved.
 * @param {HeaderMadeBy} madeBy
 * @param {Present} present
 * @returns {Difference[]}
 */
export function differences(madeBy, present) {
  /** @type {Difference[]} */
  const all = [];
  const pairs = [[madeBy.last, present.last]];
  const seen = new Set();
  for (let [was, is] = pairs.pop() ?? []; was !== undefined; [was, is] = pairs.pop() ?? []) {
    if (seen.has(`${was} ${is}`)) continue;
    seen.add(`${was} ${is}`);
    const [before, now] = [madeBy.nodes[was], present.nodes[is]];
    if (!before || !now) continue; // of a node that the workflow does not say
    const node = present.titles?.[is] || now.class_type;
    if (before.class_type !== now.class_type) {
      const [lost, added] = [behind(madeBy, before, now.class_type), behind(present, now, before.class_type)];
      const named = added || !lost ? node : before.class_type;
      const only = added ? "is" : lost ? "was" : undefined;
      all.push({ place: is, node: named, input: "", was: before.class_type, is: now.class_type, only });
      if (added) pairs.push([was, added]);
      else if (lost) pairs.push([lost, is]);
      continue;
    }
    for (const input of new Set([...Object.keys(before.inputs), ...Object.keys(now.inputs)])) {
      if (LOOKING.includes(`${now.class_type}.${input}`)) continue;
      const [old, value] = [before.inputs[input], now.inputs[input]];
      const [from, to] = [linkIn(madeBy, old), linkIn(present, value)];
      if (from && to && from[1] === to[1]) pairs.push([from[0], to[0]]);
      else if (old !== null && (from || to || !same(old, value)))
        all.push({ place: `${is}.${input}`, node, input, was: from ? undefined : old, is: to ? undefined : value });
    }
  }
  return all;
}

/**
 * The node of a class that one takes something from; there is one where it was put before a node that was there.
 * @param {HeaderMadeBy} graph
 * @param {HeaderMadeBy["nodes"][string]} node
 * @param {string} type
 */
function behind(graph, { inputs }, type) {
  const before = Object.values(inputs).map((value) => linkIn(graph, value)?.[0] ?? "");
  return before.find((id) => graph.nodes[id]?.class_type === type);
}

/**
 * @param {HeaderMadeBy} graph
 * @param {unknown} value
 * @returns {[node: string, output: number] | null}
 */
function linkIn({ nodes }, value) {
  const isLink = Array.isArray(value) && value.length === 2 && String(value[0]) in nodes && Number.isInteger(value[1]);
  return isLink ? [String(value[0]), value[1]] : null;
}

/** @param {unknown} one @param {unknown} other */
const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

/**
 * @param {Difference[]} all
 * @param {Say} say
 * @returns {string} nothing where nothing differs
 */
export function inWords(all, say) {
  if (!all.length) return "";
  const values = all.filter(({ input, was, is }) => input && was !== undefined && is !== undefined);
  const [first] = values.length ? values : all;
  const what = values.length
    ? say("{0} of {1} was {2}, and is {3} now.", first.input, first.node, short(first.was), short(first.is))
    : say(NOW[first.only ?? "otherwise"], first.node);
  const others = all.length - 1;
  const more = others === 1 ? say("One more setting differs.") : say("{0} more settings differ.", others);
  return [say("These maps are of another run."), what, ...(others ? [more] : [])].join(" ");
}

const MOST = 3; // settings that are said

/**
 * The settings in which two runs differ, A and B, of which the first are said.
 * @param {Difference[]} all
 * @param {Say} say
 */
export function settingsInWords(all, say) {
  if (!all.length) return say("A and B have the same settings.");
  const parts = all
    .slice(0, MOST)
    .map(({ node, input, was, is, only }) =>
      was === undefined || is === undefined || !input
        ? say(BETWEEN[only ?? "otherwise"], [node, input].filter(Boolean).join(" "))
        : say("{0} {1}: {2} in A, {3} in B", node, input, short(was), short(is)),
    );
  if (all.length > MOST) parts.push(say("{0} more settings differ.", all.length - MOST));
  return parts.join(" \u00b7 ");
}

/** @param {unknown} value */
function short(value) {
  const text = typeof value === "string" ? `'${value}'` : JSON.stringify(value);
  return text.length > LONGEST ? `${text.slice(0, LONGEST - 1)}\u2026` : text;
}
