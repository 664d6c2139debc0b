/** All controls: what of the state each is for, and where it stands. */

import { frame, head, layer, step } from "./axis.mjs";
import { colormap } from "./colormap.mjs";
import { compared } from "./compared.mjs";
import { cut } from "./cut.mjs";
import { earlier } from "./earlier.mjs";
import { findings } from "./findings.mjs";
import { fullScreen } from "./full_screen.mjs";
import { item } from "./item.mjs";
import { linked } from "./linked.mjs";
import { measure } from "./measure.mjs";
import { kind, normalization } from "./normalization.mjs";
import { notes } from "./notes.mjs";
import { numbers } from "./numbers.mjs";
import { opacity } from "./opacity.mjs";
import { question } from "./question.mjs";
import { pin } from "./pin.mjs";
import { owner, reference } from "./reference.mjs";
import { route } from "./route.mjs";
import { save } from "./save.mjs";
import { scale } from "./scale.mjs";
import { style } from "./style.mjs";
import { matrix } from "./tables.mjs";
import { thumbnailScale } from "./thumbnail_scale.mjs";
import { thumbnailSide } from "./thumbnail_side.mjs";
import { thumbnails } from "./thumbnails.mjs";
import { views } from "./views.mjs";
import { wipe } from "./wipe.mjs";

/** @import { Shape } from "./control.mjs" */

/** By the key that a workflow keeps each under: none of them may ever have another name. */
export const STATE = {
  ...{ item, reference, layer, step, frame, head, normalization, kind, owner, route, cut },
  ...{ scale, style, colormap, opacity, measure, matrix, linked, views, wipe, ask: question, compared },
  ...{ thumbnails, thumbnailSide, thumbnailScale },
};

/** On top: what there is to say. @type {Shape[]} */
export const TOP = [findings];

/** Above the panes: which map is shown, and how. @type {Shape[]} */
export const MENUS = [item, reference, normalization, route, cut, scale, style, colormap, opacity, compared, earlier];

/** Beside these. @type {Shape[]} */
export const BUTTONS = [pin, wipe, linked, views, save, fullScreen];

/** Below the panes, each row. @type {Shape[][]} */
export const BELOW = [[numbers], [question, thumbnails, measure], [step], [frame], [layer], [head], [matrix], [notes]];
