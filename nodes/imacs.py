"""I2AM IMACS: does the attention fall where it should?"""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..i2am_core import (
    ALONE,
    ROUTES,
    Attribution,
    AttributionError,
    MapKind,
    Selection,
    check_sides,
    effect_inside,
    errors,
    has_competitors,
    imacs,
    inside_of,
    maps,
    resize,
    share_inside,
)
from .checked import checked
from .images import LONGEST_SIDE, choose, enlarge, reference_image
from .load_image import check_not_placeholder
from .masks import painted_mask, soft_notes
from .schema import AttributionHandle, Schema
from .selections import number_inputs, owner_of, scope_input, selection_inputs, selection_of
from .wording import NO_ATTENTION, in_words, words


class I2AMIMACS(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="I2AM_IMACS",
            display_name="I2AM IMACS",
            description="Inpainting Mask Attention Consistency Score: 1 at best, negative where the attention falls "
            "outside the mask.",
            inputs=[
                AttributionHandle.Input("attribution", tooltip="From I2AM Collect."),
                io.Mask.Input(
                    "inpainting_mask",
                    optional=True,
                    tooltip="Where the picture was painted, for the reference-to-generated score. Without it, the "
                    "mask that the sampler worked with.",
                ),
                io.Mask.Input(
                    "reference_mask",
                    optional=True,
                    tooltip="The object in the reference image, for the generated-to-reference score.",
                ),
                scope_input(),
                io.Float.Input(
                    "penalty",
                    default=3.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Weight of attention outside the mask.",
                ),
                io.Float.Input(
                    "threshold",
                    default=0.4,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Values of the stretched map up to this count as no attention.",
                ),
                *selection_inputs(),
                *number_inputs(),
            ],
            outputs=[
                io.Float.Output(display_name="r2g_score", tooltip="Reference-to-generated map in the inpainting mask."),
                io.Float.Output(
                    display_name="g2r_score",
                    tooltip="Generated-to-reference map in the reference mask; not a number without that mask.",
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="Scores and how they were taken, and how much of the effect lies in the mask, as JSON.",
                ),
            ],
        )

    @classmethod
    @in_words()
    @checked
    def execute(
        cls, attribution: Attribution, scope: str, penalty: float, threshold: float, steps: str, layers: str,
        heads: str, reference: int, item: int, inpainting_mask: Tensor | None = None,
        reference_mask: Tensor | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        selection = selection_of(steps, layers, heads, reference, item, scope)
        rule = {"penalty": penalty, "threshold": threshold}
        painted = painted_mask(attribution, inpainting_mask, item, "inpainting_mask")
        without_scope = dataclasses.replace(selection, scope="auto")  # a scope is for generated to reference only
        r2g = _r2g(attribution, painted.inside, rule, without_scope) | {"mask": painted.name} | _noted(painted.notes)
        g2r = _g2r(attribution, reference_mask, rule, selection)
        selected = dict(steps=steps, layers=layers, heads=heads, reference=reference, item=item)
        report = {
            "r2g": r2g,
            "g2r": g2r,
            "effect": _effect(attribution, reference, painted.inside, item),
            **rule,
            **selected,
        }
        scores = [math.nan if x["score"] is None else x["score"] for x in (r2g, g2r)]
        return io.NodeOutput(*scores, json.dumps(report, indent=2))


def _r2g(attribution: Attribution, mask: Tensor, rule: dict[str, float], selection: Selection) -> dict[str, Any]:
    """The reference-to-generated score, or why there is none."""
    if not attribution.entries:
        check_sides(inside_of(mask))
        return {"score": None, "reason": NO_ATTENTION}
    kind = MapKind("r2g")
    return _score(attribution, kind, mask, rule, selection) | _by_share(attribution, mask, rule, selection)


def _by_share(attribution: Attribution, mask: Tensor, rule: dict[str, float], selection: Selection) -> dict[str, Any]:
    """The same of the map by share, where the reference has competitors: else that is the same everywhere."""
    kind = MapKind("r2g", "share")
    if not has_competitors(maps(attribution, kind, "unified", selection).values):
        return {}
    return {"by_share": _score(attribution, kind, mask, rule, selection)}


def _g2r(attribution: Attribution, mask: Tensor | None, rule: dict[str, float], selection: Selection) -> dict[str, Any]:
    """The generated-to-reference score, or why there is none."""
    if not attribution.entries:
        return {"score": None, "reason": NO_ATTENTION}
    reference = attribution.check_reference(selection.reference)
    if mask is None:
        return {"score": None, "reason": "no reference_mask is connected"}
    if reference.grid is None:
        return {"score": None, "reason": f"reference '{reference.name}' has no spatial layout"}
    check_not_placeholder(mask, "reference_mask")
    mask = choose(mask, reference_image(attribution, selection.reference, selection.item))
    score = _score(attribution, MapKind("g2r"), mask, rule, selection) | _noted(soft_notes(mask, "reference_mask"))
    return score | {"approximate": True} if reference.approximate else score


def _noted(notes: Sequence[str]) -> dict[str, Any]:
    """What is to be said of a mask, where there is anything."""
    return {"mask_notes": list(notes)} if notes else {}


def _score(
    attribution: Attribution, kind: MapKind, mask: Tensor, rule: dict[str, float], selection: Selection
) -> dict[str, Any]:
    """IMACS of the unified map, and how much of its mass lies inside the mask ``[H, W]``.

    A small mask is enlarged first, so that its size does not change the score.
    """
    if max(mask.shape) < LONGEST_SIDE:
        scale = LONGEST_SIDE / max(mask.shape)
        mask = enlarge(mask, (round(mask.shape[0] * scale), round(mask.shape[1] * scale)))
    unified = maps(attribution, kind, "unified", selection)
    inside = inside_of(mask).float()
    alone = kind.direction == "r2g" and attribution.references[selection.reference].alone
    scored = {"score": None, "reason": ALONE} if alone else _imacs(unified.values[0], mask, rule)
    result: dict[str, Any] = scored | {
        "mass_inside": round(share_inside(resize(unified.values[0], *mask.shape), inside), 4),
        "mask_area": round(inside.mean().item(), 4),
    }
    if kind.direction == "g2r":
        scope = "the whole picture" if unified.scope == "whole image" else "the sampler's inpainting mask"
        result["asked_by"] = scope  # the report's names are read by other programs: they stay
    return result


def _imacs(values: Tensor, mask: Tensor, rule: dict[str, float]) -> dict[str, Any]:
    """The score of a map ``[h, w]``, or why there is none."""
    try:
        return {"score": round(imacs(values, mask, **rule), 4)}
    except errors.FlatMap as error:
        return {"score": None, "reason": words(error)}


def _effect(attribution: Attribution, reference: int, mask: Tensor, item: int) -> dict[str, Any]:
    """How much of what the reference changed is in the mask ``[H, W]``, in latent units; or why that is not known.

    Of an effect that is not three times the noise floor, the part inside would be that of the noise: there is none.
    """
    effects = attribution.effects
    if effects is None:
        return {"reason": "no I2AM Effect was on the MODEL line of this run"}
    owner = owner_of(attribution, "reference", reference)
    through = (effects.routes(owner) or ROUTES)[0]
    try:
        inside = effect_inside(attribution, owner, through, mask, item)
    except AttributionError as error:
        return {"reason": words(error)}
    of_item = torch.zeros_like(effects.floor, dtype=torch.bool)
    of_item[item] = True
    known = inside.certainty in ("measured", "rough")
    return {
        "of": attribution.owner_names[owner],
        "through": through,
        "steps": effects.steps(owner, through),
        "part_inside": round(inside.part, 4) if known else None,
        "mask_area": round(inside.area, 4),
        "strength_inside": _rounded(inside.strength),
        "strength": _rounded(effects.strength(owner, through, of_item)),
        "floor": _rounded(float(effects.floor[item].double().square().mean().sqrt())),
        "certainty": inside.certainty,
    }


def _rounded(strength: float) -> float:
    """Four digits that say something: strengths may be far below 1."""
    return float(f"{strength:.4g}")
