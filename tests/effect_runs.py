"""Runs with I2AM Effect, held against the same run without it: shared by its tests."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from i2am_pack.i2am_core.attribution import Attribution
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.effect import I2AMEffect


def measured(
    model: ModelPatcher,
    probe_steps: int = 2,
    regions: int = 2,
    regions_by: str = "both",
    through: str = "both",
    owners: str = "references and text",
    without: Any = None,
) -> ModelPatcher:
    """The model behind an I2AM Effect, which measures all that it can unless it is told otherwise."""
    return I2AMEffect.execute(model, probe_steps, regions, regions_by, through, owners, without).args[0]


def captured(model: ModelPatcher, branch: str = "positive", mechanism: str = "auto", budget_mb: int = 512) -> tuple:
    """The model behind an I2AM Capture, and the handle."""
    return I2AMCapture.execute(model, mechanism, branch, "off", budget_mb).args


def drawn() -> tuple:
    """The states of all generators that a run may draw from."""
    return torch.random.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())


def picture_and_drawn(sample: Callable[[], dict[str, Tensor] | Tensor]) -> tuple[Tensor, tuple]:
    """What a run gives, and the states of the generators after it. Before it, they are the same in each run."""
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    output = sample()
    return output["samples"] if isinstance(output, dict) else output, drawn()


def check(
    sample: Callable[[ModelPatcher], dict[str, Tensor] | Tensor], model: ModelPatcher, branch: str = "positive",
    mechanism: str = "auto", maps: bool = True, **settings: Any,
) -> Attribution:  # fmt: skip
    """The attribution of a run with Effect, which leaves the picture and random numbers as they are.

    And, with ``maps``, those of Capture.
    """
    plain, drawn_by_plain = picture_and_drawn(lambda: sample(model))
    with_capture, handle = captured(model, branch, mechanism)
    watched, drawn_by_watched = picture_and_drawn(lambda: sample(measured(with_capture, **settings)))
    assert torch.equal(plain, watched)
    assert drawn_by_plain == drawn_by_watched
    attribution = handle.find(watched)
    if maps:
        alone, handle = captured(model, branch, mechanism)
        without, _ = picture_and_drawn(lambda: sample(alone))
        same_maps(attribution, handle.find(without))
    return attribution


def same_maps(attribution: Attribution, expected: Attribution) -> None:
    """Of attention, bit by bit; and the same calls were captured and skipped."""
    assert attribution.captured_calls == expected.captured_calls and attribution.skipped == expected.skipped
    assert attribution.entries.keys() == expected.entries.keys()
    for key, entry in expected.entries.items():
        for name, values in entry.maps.items():
            assert torch.equal(attribution.entries[key].maps[name], values)
    assert attribution.notes == expected.notes


def owners_and_reasons(attribution: Attribution) -> tuple[list, dict[str, str]]:
    """What was taken away, and why other things were not."""
    assert attribution.effects is not None
    return attribution.effects.owners, dict(attribution.effects.unmeasured)


def strongest(attribution: Attribution, owner: Any = 0) -> float:
    """How strong the effect of an owner is, at the step where it is the strongest."""
    maps = [values for removal, values in attribution.effects.maps.items() if removal.owner == owner]
    assert maps, attribution.effects.unmeasured
    return max(float(values.abs().max()) for values in maps)
