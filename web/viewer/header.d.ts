// Written by scripts/header_types.py from i2am_core/showing/header.py: change it there, and run that.

/**
 * One picture of the batch. `scope` is the part of it that the maps on references are made for.
 */
export interface HeaderItem {
  scope: "whole image" | "inpainting mask";
}

/**
 * A layer. `grid` is `[height, width]`, of each of the `frames`.
 */
export interface HeaderLayer {
  name: string;
  grid: [number, number];
  frames: number;
  heads: number;
}

/**
 * A reference. `grid` is `[height, width]`, or null if its tokens have no place in its image.
 *
 * `layers` are the numbers of those that read it; `heads` are `[heads, layers that have so many]`;
 * `pairs_captured` are the layers whose pair maps the run recorded, in this file or not.
 */
export interface HeaderReference {
  name: string;
  tokens: number;
  grid: [number, number] | null;
  approximate: boolean;
  layers: Array<number>;
  heads: Array<[number, number]>;
  pairs_captured: Array<number>;
}

/**
 * The effect of what was taken away by one route, in `steps`.
 *
 * `certainty` is, for each item and in its scope, that of the mean of all steps and of each of them.
 */
export interface HeaderEffect {
  owner: number | "all references" | "text" | "conditioning";
  route: "everything" | "directly";
  steps: Array<number>;
  certainty: Array<Array<"measured" | "rough" | "too small to measure" | "none">>;
}

/**
 * The effects of the regions of a reference, in one `step`.
 *
 * `grid` is `[rows, columns]` of regions; `in_file` says whether the map of each on the picture is in this file.
 */
export interface HeaderRegions {
  reference: number;
  cut: "taken away" | "only this left";
  route: "everything" | "directly";
  step: number;
  grid: [number, number];
  in_file: boolean;
}

/**
 * What was measured of effects. `measures` are the names of the rows of the tensors of measures.
 *
 * `unmeasured` says in words why for what was not measured.
 */
export interface HeaderEffects {
  maps: Array<HeaderEffect>;
  regions: Array<HeaderRegions>;
  measures: Array<"strength" | "everywhere" | "inside" | "floor">;
  unmeasured: Record<string, string>;
}

/**
 * The single frames of a video that are in the file: how many, and of which layers beside the mean of all.
 */
export interface HeaderVideo {
  frames: number;
  layers: Array<number>;
}

/**
 * What `view` says of its maps.
 *
 * `sigmas` are one more than there are steps. `steps` and `joint` are groups of steps, `[first, one after the
 * last]`: those that maps resolve, and those in which heads are resolved, if `heads` are at all.
 * `pairs` are, for `<item>/<reference>`, the layers whose pair maps are in this file. `skipped` counts attention
 * calls by the reason why they were not captured. `effects` are there only where they were measured.
 * Of the skipped calls, `missed_calls` may read a reference; `all_observed` says that none may, and is False
 * where that is not known. `video` is there only where single frames are in the file.
 */
export interface Header {
  version: number;
  sigmas: Array<number>;
  steps: Array<[number, number]>;
  joint: Array<[number, number]>;
  heads: boolean;
  items: Array<HeaderItem>;
  grid: [number, number];
  frames: number;
  layers: Array<HeaderLayer>;
  references: Array<HeaderReference>;
  pairs: Record<string, Array<number>>;
  measures: Array<"share" | "inside" | "concentration">;
  mechanism: string;
  branch: string;
  captured_calls: number;
  skipped: Record<string, number>;
  notes: Array<string>;
  summary: string;
  effects?: HeaderEffects;
  missed_calls?: number;
  all_observed?: boolean;
  video?: HeaderVideo;
}

/**
 * A picture, and the heat over it. `name` is that of the tensor that holds it as PNG, or null without a picture.
 *
 * `canvas` is `[height, width]` of the heat in px; `note` says what a person should know of the picture.
 */
export interface HeaderPicture {
  name: string | null;
  canvas: [number, number];
  note: string;
}

/**
 * The pictures: `generated` by item, `reference` by reference and item.
 */
export interface HeaderPictures {
  generated: Array<HeaderPicture>;
  reference: Array<Array<HeaderPicture>>;
}

/**
 * One node of a workflow: its class, and its inputs. A link is `[node, number of the output]`.
 */
export interface HeaderNode {
  class_type: string;
  inputs: Record<string, unknown>;
}

/**
 * What the file was made by: the node that wrote it, and all `nodes` that it depends on, by their ids.
 */
export interface HeaderMadeBy {
  last: string;
  nodes: Record<string, HeaderNode>;
}

/**
 * What proves a finding. `steps` are those of the map, none for all; `owner` is whose effect, null for none.
 */
export interface HeaderEvidence {
  shows: "effect" | "regions" | "attention" | "picture" | "run";
  direction: "r2g" | "g2r";
  owner: number | "all references" | "text" | "conditioning" | null;
  steps: Array<number>;
  reference: number;
}

/**
 * What to try, as a part of a sentence; `measures`: it changes nothing of the picture.
 */
export interface HeaderTry {
  sentence: string;
  measures: boolean;
}

/**
 * A finding of an `item`, or `of_run` of the whole run, with its `sentence` in English.
 *
 * `key` is the name of its sentence, which `values` fill. `of_thumb`: its threshold is from one small model.
 */
export interface HeaderFinding {
  item: number;
  key: string;
  weight: "fault" | "fine" | "fact";
  sentence: string;
  values: Record<string, number | number | string>;
  of_thumb: boolean;
  of_run: boolean;
  tries: Array<HeaderTry>;
  evidence: HeaderEvidence;
}

/**
 * What the model predicted in one `step` of a picture, with what `owner` names and without it.
 *
 * `picture_with` and `picture_without` are the names of the tensors that hold them as PNG.
 */
export interface HeaderPrediction {
  item: number;
  owner: number | "all references" | "text" | "conditioning";
  step: number;
  picture_with: string;
  picture_without: string;
}

/**
 * The header of the whole file: the view's header, and what the node adds to the file.
 *
 * `colormaps` are the names of the rows of the tensor `colormaps`; `masked` are the names of the masks' tensors.
 * `made_by` are the settings that made the file, `findings` what is wrong or right, faults first. `predictions`
 * are there only where they were decoded.
 */
export interface FileHeader {
  version: number;
  sigmas: Array<number>;
  steps: Array<[number, number]>;
  joint: Array<[number, number]>;
  heads: boolean;
  items: Array<HeaderItem>;
  grid: [number, number];
  frames: number;
  layers: Array<HeaderLayer>;
  references: Array<HeaderReference>;
  pairs: Record<string, Array<number>>;
  measures: Array<"share" | "inside" | "concentration">;
  mechanism: string;
  branch: string;
  captured_calls: number;
  skipped: Record<string, number>;
  notes: Array<string>;
  summary: string;
  pictures: HeaderPictures;
  colormaps: Array<string>;
  masked: Array<string>;
  effects?: HeaderEffects;
  missed_calls?: number;
  all_observed?: boolean;
  video?: HeaderVideo;
  made_by?: HeaderMadeBy;
  findings?: Array<HeaderFinding>;
  predictions?: Array<HeaderPrediction>;
}
