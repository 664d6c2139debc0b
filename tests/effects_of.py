"""Runs behind I2AM Effect: their attributions, what they must leave as it is, and how near effects must be."""

from typing import Any

import torch
from tiny_graphs import Graph
from torch import Tensor

from i2am_pack.i2am_core.attribution import Attribution
from i2am_pack.nodes.comfy.captured import capture_with
from i2am_pack.nodes.comfy.handle import Capture
from i2am_pack.nodes.comfy.handle import Settings as CaptureSettings
from i2am_pack.nodes.comfy.located import Regions
from i2am_pack.nodes.comfy.measured import effect_with
from i2am_pack.nodes.comfy.removals import Settings


def measured(
    graph: Graph,
    mechanism: str = "auto",
    branch: str = "positive",
    sampling: dict[str, Any] | None = None,
    plain: Tensor | None = None,
    marked: Regions | None = None,
    **settings: Any,
) -> Attribution:
    """The attribution of a run with I2AM Effect, whose latent is that of a run without anything of ours (``plain``).

    ``settings`` are those of the node, ``sampling`` what ``Graph.sample`` takes, ``marked`` is on I2AM Capture.
    """
    handle = Capture(CaptureSettings(mechanism, branch, "off", 2**29, marked or Regions()))
    model = effect_with(capture_with(graph.model, handle), Settings(**settings))
    latent = graph.sample(model, **sampling or {})["samples"]
    plain = graph.sample(**sampling or {})["samples"] if plain is None else plain
    assert torch.equal(latent, plain)
    return handle.find(latent)


def close(effect: Tensor, expected: Tensor, prediction: Tensor) -> None:
    """Within rounding: all but the oracle's attention is float32 in both, which has 1e-7 of the ``prediction``'s size.

    Effects of a size that would drown in that prove nothing.
    """
    rounding = 5e-7 * float(prediction.abs().max())
    torch.testing.assert_close(effect.double(), expected, rtol=1e-5, atol=rounding)
    assert expected.max() > 100 * rounding
