/** The axes that one moves along. Null is the mean of all. Frames are there only of a video. */

import { iconButton, PAUSE, PLAY, setIcon } from "../icon.mjs";
import { modeOf } from "../mode.mjs";
import { integer } from "./control.mjs";
import { Scrubber } from "./scrubber.mjs";

/** @import { Axis } from "../maps.mjs" */
/** @import { Viewer } from "../viewer.mjs" */
/** @import { Control } from "./control.mjs" */

/**
 * @param {Axis} axis
 * @param {string} label
 * @returns {Control<number | null>}
 */
const along = (axis, label) => ({
  ...integer(null),
  label,
  make(viewer) {
    const scrubber = scrubberOf(viewer, axis, label);
    const player = axis === "step" ? playerOf(viewer) : null;
    if (player) scrubber.all.before(player);
    return {
      root: scrubber.root,
      show({ axes }) {
        scrubber.set(axes[axis]);
        scrubber.root.hidden = axis === "frame" && !axes[axis].heights.length;
        if (player) showPlaying(player, viewer);
      },
    };
  },
});

/**
 * @param {Viewer} viewer
 * @param {Axis} axis
 * @param {string} label
 */
function scrubberOf(viewer, axis, label) {
  const { say } = viewer;
  const words = {
    name: say(label),
    all: say("all"),
    scale: say("Bars begin at 0: the tallest is the largest of all."),
  };
  const scrubber = new Scrubber(words, (number) => {
    if (axis === "step") viewer.play(false);
    const { opened, state } = viewer;
    viewer.change({ [axis]: number === null ? null : modeOf(state).choices(opened.header, state, axis)[number] });
  });
  scrubber.root.dataset.axis = axis;
  return scrubber;
}

/** @param {Viewer} viewer */
const playerOf = (viewer) => iconButton(PLAY, viewer.say("play"), () => viewer.play());

/** @param {HTMLButtonElement} player @param {Viewer} viewer */
function showPlaying(player, { playing, say }) {
  const words = say(playing === null ? "play" : "pause");
  if (player.title !== words) setIcon(player, playing === null ? PLAY : PAUSE, words);
}

export const step = along("step", "Step");
export const frame = along("frame", "Frame");
export const layer = along("layer", "Layer");
export const head = along("head", "Head");
