/** Two runs beside one another, computed without a page: the map of A, that of B, and what B has more. */

import { certaintyOf, effectMap, isEffect, regionsOf } from "../effects.mjs";
import { rangeOf, restore } from "../heat.mjs";
import { differences, settingsInWords } from "../made_by.mjs";
import { mapOf, referenceOf } from "../maps.mjs";
import { settled } from "../model.mjs";
import { modeOf } from "../mode.mjs";
import { maskOutline, pictureOf } from "../scene.mjs";
import { small } from "../words.mjs";
import { DIVERGING, enlarged } from "./diverging.mjs";
import { MISSING, sameIn } from "./same.mjs";

/** @import { ViewFile } from "../file.mjs" */
/** @import { Grid } from "../geometry.mjs" */
/** @import { Side } from "../kinds.mjs" */
/** @import { PaneMap } from "../pane_maps.mjs" */
/** @import { Scene } from "../scene.mjs" */
/** @import { PaneScreen } from "../screen.mjs" */

/**
 * A pane with what it is drawn from; `colors` are 256, where they are not those that a person chose.
 * @typedef {{scene: Scene, pane: PaneScreen, colors?: ArrayLike<number>}} Drawn
 */

/** A map on its own grid; `isZero` where it is too small to measure. @typedef {{values: Float32Array, grid: Grid, resolves: number, isZero: boolean}} Cells */

/**
 * @typedef {object} Compared
 * @property {Drawn} a
 * @property {Drawn} b
 * @property {Drawn} difference
 * @property {string[]} words what each selection comes to, and the settings in which they differ
 */

/**
 * @param {Scene} scene of B
 * @param {ViewFile} pinned that of A
 * @returns {Compared}
 */
export function comparedOf(scene, pinned) {
  const side = scene.state.compared;
  const b = { ...scene, question: null };
  const same = sameIn(pinned, b.file, b.state);
  const a = { ...b, file: pinned, state: "missing" in same ? b.state : same.state };
  const second = mapOn(b, side);
  const settings = settingsOf(a, b);
  if ("missing" in same) {
    const message = scene.say(MISSING[same.missing]);
    const nothing = { scene: { ...b, file: pinned, state: settled(pinned, b.state) }, pane: emptyOf("A", message) };
    return { a: nothing, b: onOneScale("B", b, second), difference: none(b, ""), words: [numbersOf("B", b), settings] };
  }
  const first = mapOn(a, side);
  const high = Math.max(...[first, second].map(({ heat }) => heat?.range.high ?? 0));
  return {
    a: onOneScale("A", a, first, high),
    b: onOneScale("B", b, second, high),
    difference: differenceOf(a, b, side),
    words: [numbersOf("A", a), numbersOf("B", b), settings],
  };
}

/** @param {string} called @param {Scene} scene */
function numbersOf(called, scene) {
  const numbers = modeOf(scene.state).numbers(scene);
  return `${called}: ${numbers.map(({ words }) => words).join(" \u00b7 ")}`;
}

/** @param {Scene} a @param {Scene} b */
function settingsOf(a, b) {
  const [before, now] = [a, b].map(({ file }) => file.header.made_by);
  return before && now ? settingsInWords(differences(before, now), b.say) : "";
}

/** @param {Scene} scene @param {Side} side @returns {PaneMap} */
function mapOn(scene, side) {
  return modeOf(scene.state).selected(side, scene, pictureOf(scene.file, scene.state, side).canvas);
}

/**
 * @param {string} called
 * @param {string} message
 * @returns {PaneScreen}
 */
const emptyOf = (called, message) => ({
  ...{ title: called, detail: "", message, note: "", heat: null, patches: [], outline: "", requested: null, value: "" },
});

/** @param {Scene} scene @param {string} message @returns {Drawn} */
const none = (scene, message) => ({ scene, pane: emptyOf("B - A", message) });

/**
 * The map of one run, whose colours begin at 0 and end where those of both do.
 * @param {string} called
 * @param {Scene} scene
 * @param {PaneMap} map
 * @param {number} [high] without one, it is its own
 * @returns {Drawn}
 */
function onOneScale(called, scene, map, high = map.heat?.range.high ?? 0) {
  const { file, state } = scene;
  const side = state.compared;
  const heat = map.heat && { ...map.heat, range: { low: 0, high } };
  const labels = modeOf(state).axes.map((axis) => modeOf(state).bars(axis, scene, "share").label);
  const pane = {
    ...emptyOf(`${called} \u00b7 ${map.title}`, map.message ?? ""),
    detail: labels.filter(Boolean).join(" \u00b7 "),
    note: pictureOf(file, state, side).note,
    heat,
    outline: side === "generated" ? maskOutline(file, state.item) : "",
    value: valueAt(scene, side, heat?.values, called),
  };
  return { scene, pane };
}

/**
 * @param {Scene} scene
 * @param {Side} side
 * @param {Float32Array | undefined} values at the size of the canvas
 * @param {string} called
 */
function valueAt({ file, state, pointed }, side, values, called) {
  if (!pointed || !values) return "";
  const [height, width] = pictureOf(file, state, side).canvas;
  const [x, y] = [width, height].map((size, axis) => Math.min(size - 1, Math.floor(pointed.place[axis] * size)));
  return `${called} ${small(values[y * width + x])}`;
}

/**
 * @param {Scene} a
 * @param {Scene} b
 * @param {Side} side
 * @returns {Drawn}
 */
function differenceOf(a, b, side) {
  const { say } = b;
  const [canvas, other] = [b, a].map(({ file, state }) => pictureOf(file, state, side).canvas);
  if (!isOneForm(canvas, other))
    return none(b, say("The pictures have another form: no place of one is a place of the other."));
  const unlike = unlikeRegions(a, b, side);
  if (unlike) return none(b, say(unlike));
  const [first, second] = [a, b].map((scene) => cellsOf(scene, side, canvas));
  if (!first || !second) return none(b, say("One of the two has no map here."));
  if (first.isZero && second.isZero) return none(b, say("Both are too small to measure."));
  if (first.grid.join() !== second.grid.join()) {
    const sizes = [first, second].map(({ grid: [height, width] }) => `${width}\u00d7${height}`);
    return none(b, say("The maps have other grids ({0} in A, {1} in B): use I2AM Compare.", ...sizes));
  }
  const cells = second.values.map((value, cell) => value - first.values[cell]);
  const most = Math.max(...Object.values(rangeOf(cells)).map(Math.abs));
  const resolves = Math.max(first.resolves, second.resolves);
  if (most <= resolves)
    return none(b, say("No difference: nowhere more than {0}, which the files do not resolve.", small(resolves)));
  const values = enlarged(cells, ...second.grid, ...canvas);
  const range = { low: -most, high: most };
  const zero = [first, second].findIndex(({ isZero }) => isZero);
  const details = [
    zero < 0 ? "" : say("{0} is too small to measure, and counts as 0", "AB"[zero]),
    haveOneMask(a, b) ? "" : say("the masks differ"),
  ];
  const pane = {
    ...emptyOf(say("B - A: red is more, blue is less"), ""),
    detail: details.filter(Boolean).join(" \u00b7 "),
    heat: { values, own: range, range },
    outline: side === "generated" ? maskOutline(b.file, b.state.item) : "",
    value: valueAt(b, side, values, "B - A"),
  };
  return { scene: b, pane, colors: DIVERGING };
}

/** @param {Scene} a @param {Scene} b */
function haveOneMask(a, b) {
  const [one, other] = [a, b].map(({ file, state }) => file.tensors.get(`mask/${state.item}`)?.data);
  return one?.length === other?.length && (!one || one.every((value, pixel) => value === other?.[pixel]));
}

/** @param {Grid} one @param {Grid} other */
const isOneForm = ([height, width], [tall, wide]) => Math.abs((height * wide) / (width * tall) - 1) < 0.02;

/**
 * What the maps on a reference are of, where it is not the same in both.
 * @param {Scene} a
 * @param {Scene} b
 * @param {Side} side
 */
function unlikeRegions(a, b, side) {
  if (side === "generated") return "";
  const [scope, other] = [a, b].map(({ file, state }) => file.header.items[state.item].scope);
  if (scope !== other) return "One is of the whole picture, and one of the mask alone.";
  if (!isEffect(b.state)) return "";
  const [first, second] = [a, b].map(({ file: { header }, state }) => {
    const regions = regionsOf(header, state);
    return (
      regions && [
        regions.grid,
        regions.route,
        regions.step / (header.sigmas.length - 1),
        referenceOf(header, state.reference).grid,
      ]
    );
  });
  return JSON.stringify(first) === JSON.stringify(second) ? "" : "The parts were measured otherwise in A and in B.";
}

/**
 * @param {Scene} scene
 * @param {Side} side
 * @param {Grid} canvas for what is of regions, which are squares on it
 * @returns {Cells | null}
 */
function cellsOf(scene, side, canvas) {
  const { file, state } = scene;
  if (isEffect(state) && side === "reference") {
    const values = modeOf(state).selected(side, scene, canvas).heat?.values;
    return values ? { values, grid: canvas, resolves: 0, isZero: false } : null;
  }
  const map = isEffect(state)
    ? effectMap(file, state)
    : mapOf(file, state, `${side === "generated" ? "r2g" : "g2r"}_${state.kind}`);
  if (!map) return null;
  const isZero = isEffect(state) && certaintyOf(file.header, state) !== "measured";
  const values = isZero ? new Float32Array(map.levels.length) : restore(map);
  return { values, grid: [map.height, map.width], resolves: isZero ? 0 : (map.high - map.low) / 255, isZero };
}
