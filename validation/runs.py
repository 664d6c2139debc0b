"""Runs of a study's scenes on a model that a part of the study has changed, and the maps that were captured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from comfy.model_patcher import ModelPatcher
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


def keys_of(study: Study) -> dict[str, str]:
    """Of maps by name. Where the reference is all there is to look at, share is 1, and G2R by share the paper's."""
    return {
        name: key for name, key in (ON_PICTURE | ON_REFERENCE).items() if not (study.alone and "share" in key)
    }  # fmt: skip


def captured(
    study: Study, model: ModelPatcher, part: Tensor, pair_maps: str = "off", probe_steps: int = 0, noise: int = 0
) -> tuple[Tensor, Attribution]:
    """Latents of the scenes ``part``, and what was captured; Effect is measured in so many steps."""
    capture = handle.Capture(handle.Settings("auto", "positive", pair_maps, 2**32))
    model = capture_with(model, capture)
    if probe_steps:
        model = effect_with(model, Settings(probe_steps=probe_steps))
    samples = study.run(model, "own", part, noise)
    return samples, capture.find(samples)


def maps_of(study: Study, model: ModelPatcher, probe_steps: int, noise: int = 0) -> dict[str, Tensor]:
    """Of all scenes in ``study.order``: see ``maps_in``."""
    return joined([maps_in(study, model, part, probe_steps, noise) for part in study.order.split(BATCH)])


def maps_in(study: Study, model: ModelPatcher, part: Tensor, probe_steps: int, noise: int = 0) -> dict[str, Tensor]:
    """Of the scenes ``part`` pictures, and unified maps of the object ``[n, h, w]``; G2R is of the mask."""
    samples, attribution = captured(study, model, part, probe_steps=probe_steps, noise=noise)
    result = {"image": data.to_image(samples)}
    for key in ("r2g_paper", "r2g_share", "g2r_paper", "g2r_share"):
        result[key] = torch.stack([_unified(study, attribution, key, item) for item in range(attribution.items)])
    effects, owner = attribution.effects, study.subject.object
    assert effects is not None
    measured = torch.stack([effects.maps[Removal(step, owner)] for step in effects.steps(owner)])
    return result | {"effect": measured.mean(0).unflatten(1, (data.GRID, data.GRID))}


def joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Results of some scenes each, as one."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _unified(study: Study, attribution: Attribution, key: str, item: int) -> Tensor:
    selection = Selection(item=item, reference=study.subject.object)
    return maps(attribution, MapKind.parse(key), selection=selection).values[0]
