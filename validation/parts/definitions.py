"""Are our maps and scores those of the paper's definitions? And what do the variants of its authors' code change?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ...demo.effect import Study, spearman
from ...demo.steer import bracketed, table
from ...i2am_core import Attribution, Level, MapKind, Selection, imacs, maps, specific
from .. import oracle
from ..intercepted import calls_of
from ..lab import Lab
from ..oracle import Array, Call, Mask
from ..runs import captured
from ..section import Section

QUESTION = "Are maps and IMACS those of the paper's definitions?"
TOGETHER = 1  # scenes: all of their queries and keys are in memory
LEVELS: dict[str, Level] = {"ULAM": "unified", "TLAM": "time", "HLAM": "head", "LLAM": "layer"}
SCOPES = {"mask": "inpainting mask", "whole": "whole image"}
SCORES = {
    "IMACS of R2G": "r2g_paper",
    "IMACS of G2R, mask": "g2r_paper, mask",
    "IMACS of G2R, whole": "g2r_paper, whole",
}
DIFFERENCE = "difference, "
BROUGHT = ["SRAM of a region of the picture", "SRAM of a region of the reference"]
R2G, G2R = "r2g_paper", "g2r_paper, mask"
STATED = (
    "Queries and keys of plain runs, taken by ComfyUI's own override without I2AM, were put through the paper's "
    "definitions, written once more in numpy and 64 bits from what the paper says (`validation/oracle.py` imports "
    "nothing of ours). The same scenes were then captured by I2AM. Each number is the largest difference between the "
    "two in any scene: of maps relative to the largest value of the map, of scores as it is. The choices that the "
    "paper leaves open are ours in both: a cell of a coarse grid is in the mask where more than half of it is, every "
    "layer counts once in a mean, with its map as it is (which has larger values on a coarser grid), maps are resized "
    "by the bicubic kernel of sharpness -0.75 that PyTorch has, steps are divided into 5 groups as equal as they can "
    "be, and maps are clamped at 0 once, at the end."
)
CHOICES = "The authors' code makes some choices otherwise than ours. Each variant takes one of them."
VARIANTS = {
    "clamped each": "Each token's and head's map is clamped at 0 after it is resized, before all means. Ours: once, at "
    "the end.",
    "side by side": "Positions of all layers count the same in a mean, so that layers of finer grids weigh more. Ours: "
    "layers weigh the same.",
    "mask first": "The map on the reference is multiplied with the object's mask before it is stretched to [0, 1], so "
    "that nothing is left outside. Ours: it is not.",
    "1 - map": "The score is that of one minus the map.",
    "cut at 0.4": "What is up to 0.4 of the stretched map is 0 in the map, as in the authors' figures. Ours: in IMACS "
    "alone.",
    "not cut": "IMACS without that threshold.",
}
NOT_TRIED = (
    "Spearman is over the positions in the mask for R2G, and over all of the reference for G2R. IMACS is of the "
    "unified map, with the mask for R2G and with the object in the reference for G2R. Where all layers have one grid, "
    "as in the joint model, 'clamped each' and 'side by side' are ours by algebra. Not tried is the middle block left "
    "out, which neither model has."
)


def run(lab: Lab) -> Section:
    results = {
        name: lab.stored(f"definitions, {study.subject.key}", partial(_of_study, study))
        for name, study in lab.studies.items()
    }
    of_maps, of_scores = _largest(results.values())
    variants = [row for name, result in results.items() for row in _variants(name, result)]
    text = [
        STATED,
        *(_differences(name, result) for name, result in results.items()),
        f"{lab.scenes} scenes of each model, {lab.steps} steps. The largest of all is {of_maps:.1e} of a map and "
        f"{of_scores:.1e} of a score; float32, in which the models compute, is good for about 1e-7 of a value.",
        CHOICES,
        "\n".join(f"* *{name}*: {what}" for name, what in VARIANTS.items()),
        table(["variant", "map", "model", "Spearman with ours", "IMACS, ours", "IMACS, variant"], variants),
        NOT_TRIED,
    ]
    verdict = (
        f"largest difference of a map {of_maps:.1e} of its largest value, of a score {of_scores:.1e}, in {lab.scenes} "
        f"scenes of each of {len(results)} models"
    )
    return Section("The same numbers as the definitions", text, verdicts={QUESTION: verdict})


# What is computed of each scene


def _of_study(study: Study) -> dict[str, Tensor]:
    """By name, of all scenes ``[n, ...]``."""
    rows: list[dict[str, float | Array | Mask]] = []
    for part in study.order.split(TOGETHER):
        intercepted = calls_of(study, part)
        _, attribution = captured(study, study.model, part, pair_maps="everywhere")
        rows += [_of_scene(study, int(scene), calls, attribution, item)
                 for item, (scene, calls) in enumerate(zip(part, intercepted, strict=True))]  # fmt: skip
    return {name: torch.from_numpy(np.stack([np.asarray(row[name]) for row in rows])) for name in rows[0]}


def _of_scene(
    study: Study, scene: int, steps: Sequence[Sequence[Call]], attribution: Attribution, item: int
) -> dict[str, float | Array | Mask]:
    mask = study.scenes.mask[scene, 0].numpy() > 0.5
    on_object = study.scenes.reference_object_mask[scene, 0].numpy() > 0.5
    theirs = _by_level(steps, mask) | _of_regions(steps, mask)
    ours = _ours(attribution, Selection(item=item, reference=study.subject.object), mask.shape)
    result: dict[str, float | Array | Mask] = {
        DIFFERENCE + name: np.abs(ours[name] - x).max() / np.abs(x).max() for name, x in theirs.items()
    }
    for name, kind in SCORES.items():
        where = mask if kind == R2G else on_object
        own = imacs(torch.from_numpy(ours[f"{kind}, ULAM"][0]), torch.from_numpy(where).float())
        result[DIFFERENCE + name] = abs(own - oracle.imacs(theirs[f"{kind}, ULAM"][0], where))
    result["inside"] = oracle.cells(mask, theirs[f"{R2G}, ULAM"].shape[-1])
    return result | _variants_of(steps, theirs[f"{R2G}, ULAM"][0], theirs[f"{G2R}, ULAM"][0], mask, on_object)


def _by_level(steps: Sequence[Sequence[Call]], mask: Mask) -> dict[str, Array]:
    """Maps of the oracle by kind and level."""
    of_calls = [[call.maps(mask) for call in calls] for calls in steps]
    layers = range(len(of_calls[0]))
    return {
        f"{kind}, {level}": values
        for kind in of_calls[0][0]
        for level, values in oracle.levels([np.stack([step[n][kind] for step in of_calls]) for n in layers]).items()
    }


def _of_regions(steps: Sequence[Sequence[Call]], mask: Mask) -> dict[str, Array]:
    picture, reference = _regions(mask.shape)
    layers = range(len(steps[0]))
    of_picture = [np.mean([calls[n].of_region(picture) for calls in steps], 0) for n in layers]
    of_reference = [np.mean([calls[n].to_picture(reference) for calls in steps], 0) for n in layers]
    return dict(zip(BROUGHT, (oracle.mean_of(of_picture), oracle.mean_of(of_reference)), strict=True))


def _regions(shape: tuple[int, ...]) -> tuple[Mask, Mask]:
    """The right half of the picture, and the upper left quarter of the reference."""
    picture, reference = np.zeros(shape, bool), np.zeros(shape, bool)
    picture[:, shape[1] // 2 :] = True
    reference[: shape[0] // 2, : shape[1] // 2] = True
    return picture, reference


def _ours(attribution: Attribution, selection: Selection, shape: tuple[int, ...]) -> dict[str, Array]:
    """The same maps, by I2AM."""
    result: dict[str, Array] = {}
    for key in ("r2g_paper", "r2g_share", "g2r_paper", "g2r_share"):
        for scope in (None,) if key.startswith("r2g") else SCOPES:
            chosen = (
                selection
                if scope is None
                else Selection(item=selection.item, reference=selection.reference, scope=SCOPES[scope])
            )
            for level, ours in LEVELS.items():
                values = maps(attribution, MapKind.parse(key), ours, chosen).values
                result[f"{key}, {scope}, {level}" if scope else f"{key}, {level}"] = values.double().numpy()
    for name, region, direction in zip(BROUGHT, _regions(shape), ("g2r", "r2g"), strict=True):
        values = specific(attribution, torch.from_numpy(region).float(), direction, selection).values  # type: ignore[arg-type]
        result[name] = values.double().numpy()
    return result


def _variants_of(
    steps: Sequence[Sequence[Call]], r2g: Array, g2r: Array, mask: Mask, on_object: Mask
) -> dict[str, float | Array | Mask]:
    """Maps and scores of the variants, and of ours by the same functions."""
    side, size = r2g.shape[-1], len(mask)
    clamped = np.mean([[call.clamped_each(side) for call in calls] for calls in steps], (0, 1))
    weights = [int(oracle.cells(mask, call.side).sum()) for call in steps[0]]
    by_layer = [[call.maps(mask)[G2R].mean(0) for call in calls] for calls in steps]
    beside = np.average(np.mean(by_layer, 0), 0, weights)
    at_size = oracle.stretched(np.maximum(oracle.resized(r2g, size), 0))
    object_first = np.maximum(oracle.resized(g2r, size), 0) * on_object
    cut = oracle.stretched(r2g)
    return {
        "map, ours, R2G": r2g, "score, ours, R2G": oracle.imacs(r2g, mask),
        "map, ours, G2R": g2r, "score, ours, G2R": oracle.imacs(g2r, on_object),
        "map, clamped each, R2G": clamped, "score, clamped each, R2G": oracle.imacs(clamped, mask),
        "map, side by side, G2R": beside, "score, side by side, G2R": oracle.imacs(beside, on_object),
        "map, mask first, G2R": g2r * oracle.squared(oracle.cells(on_object, side).astype(np.float64)),
        "score, mask first, G2R": oracle.scored(oracle.stretched(object_first), on_object),
        "map, 1 - map, R2G": -r2g, "score, 1 - map, R2G": oracle.scored(1 - at_size, mask),
        "map, cut at 0.4, R2G": np.where(cut > 0.4, cut, 0),
        "map, not cut, R2G": r2g, "score, not cut, R2G": oracle.scored(at_size, mask, threshold=-1),
    }  # fmt: skip


# The tables


def _differences_of(result: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """By the name of a map or score, relative, of each scene ``[n]``; of scores the difference itself."""
    return {name[len(DIFFERENCE) :]: x for name, x in result.items() if name.startswith(DIFFERENCE)}


def _largest(results: Iterable[Mapping[str, Tensor]]) -> tuple[float, float]:
    """The largest difference of maps, and that of scores."""
    differences = [(name, float(x.max())) for result in results for name, x in _differences_of(result).items()]
    of_scores = [x for name, x in differences if name in SCORES]
    return max(x for name, x in differences if name not in SCORES), max(of_scores)


def _differences(model: str, result: Mapping[str, Tensor]) -> str:
    largest = {name: f"{float(x.max()):.1e}" for name, x in _differences_of(result).items()}
    kinds = sorted({name.rpartition(", ")[0] for name in largest if name.endswith(tuple(LEVELS))}, reverse=True)
    rows = [[_named(kind), *(largest[f"{kind}, {level}"] for level in LEVELS)] for kind in kinds]
    others = ", ".join(f"{name} {largest[name]}" for name in [*BROUGHT, *SCORES])
    return f"{model}:\n\n{table(['map', *LEVELS], rows)}\n\n{others}."


def _named(kind: str) -> str:
    key, _, scope = kind.partition(", ")
    return f"{key[:3].upper()}, {key[4:]}" + (f", over the {SCOPES[scope]}" if scope else "")


def _variants(model: str, result: Mapping[str, Tensor]) -> list[list[str]]:
    tried = [(variant, of) for variant in VARIANTS for of in ("R2G", "G2R") if f"map, {variant}, {of}" in result]
    return [_variant(model, result, *which) for which in tried]


def _variant(model: str, result: Mapping[str, Tensor], variant: str, of: str) -> list[str]:
    one, other = (result[f"map, {which}, {of}"].flatten(1) for which in ("ours", variant))
    named = [f"score, {which}, {of}" for which in ("ours", variant)]
    scores = [bracketed(result[name].float(), 2) if name in result else "" for name in named]
    alike = spearman(one, other, result["inside"] if of == "R2G" else None)
    return [variant, of, model, bracketed(alike, 3), *scores]
