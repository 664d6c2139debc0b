"""Runs of a study's scenes on a model that a part of the study has changed, and the maps that were captured."""

from __future__ import annotations

import torch
from torch import Tensor

from ..demo import data
from ..demo.effect import BATCH, Study
from ..i2am_core import Attribution, MapKind, Removal, Selection, maps
from ..nodes.comfy import handle
from ..nodes.comfy.captured import capture_with
from ..nodes.comfy.measured import effect_with
from ..nodes.comfy.removals import Settings

ON_PICTURE = {"R2G of the paper": "r2g_paper", "share": "r2g_share", "Effect": "effect"}
ON_REFERENCE = {"G2R of the paper": "g2r_paper", "G2R by share": "g2r_share"}


def captured(
    study: Study, model: object, part: Tensor, pair_maps: str = "off", probe_steps: int = 0, noise: int = 0
) -> tuple[Tensor, Attribution]:  # fmt: skip
    """Latents of the scenes ``part``, and what was captured; Effect is measured in so many steps."""
    capture = handle.Capture(handle.Settings("auto", "positive", pair_maps, 2**32))
    model = capture_with(model, capture)  # type: ignore[arg-type]
    if probe_steps:
        model = effect_with(model, Settings(probe_steps=probe_steps))
    samples = study.run(model, "own", part, noise)
    return samples, capture.find(samples)


def maps_of(study: Study, model: object, probe_steps: int, noise: int = 0) -> dict[str, Tensor]:
    """Of all scenes in ``study.order``: pictures, and maps of the object ``[n, h, w]``; G2R is of the mask."""
    parts = [
        _maps_in(study, *captured(study, model, part, probe_steps=probe_steps, noise=noise))
        for part in study.order.split(BATCH)
    ]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def unified(study: Study, attribution: Attribution, key: str, item: int) -> Tensor:
    """A map of the object ``[h, w]``; G2R is of the mask."""
    selection = Selection(item=item, reference=study.subject.object)
    return maps(attribution, MapKind.parse(key), selection=selection).values[0]


def _maps_in(study: Study, samples: Tensor, attribution: Attribution) -> dict[str, Tensor]:
    result = {"image": data.to_image(samples)}
    for key in ("r2g_paper", "r2g_share", "g2r_paper", "g2r_share"):
        result[key] = torch.stack([unified(study, attribution, key, item) for item in range(attribution.items)])
    effects, owner = attribution.effects, study.subject.object
    if effects is not None:
        measured = torch.stack([effects.maps[Removal(step, owner)] for step in effects.steps(owner)])
        result["effect"] = measured.mean(0).unflatten(1, (data.GRID, data.GRID))
    return result
