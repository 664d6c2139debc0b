"""The runs whose attributions are saved in ``fixtures/attributions``: a graph, and how it is captured and sampled.

One for each mechanism, and some for what mechanisms have in common: a mask and its scope, guidance with a batch, a
sampler of second order.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ip_adapter_standin
import tiny_graphs
import torch
from tiny_graphs import Graph

from i2am_pack.i2am_core.attribution import Attribution
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.comfy.tags import KEY, tag

FOLDER = Path(__file__).resolve().parent / "fixtures" / "attributions"


@dataclass(frozen=True)
class SavedRun:
    """``first_order``: the model is called once a step, so that a mean over calls is one over steps."""

    graph: Callable[[], Graph]
    pair_maps: str = "everywhere"
    sampling: dict[str, Any] = field(default_factory=dict)
    first_order: bool = True
    region: bool = False  # whether the left half of the canvas is marked as the reference

    def attribution(self) -> Attribution:
        torch.manual_seed(0)
        graph = self.graph()
        region = 1 - tiny_graphs.right_half(torch.zeros(1, 64, 64)) if self.region else None
        captured = I2AMCapture.execute(graph.model, "auto", "positive", self.pair_maps, 512, reference_region=region)
        model, handle = captured.args
        return I2AMCollect.execute(handle, graph.sample(model, **self.sampling)).args[0]


def tagged_tokens(masked: bool = False) -> Graph:
    """A U-Net whose text ends in 9 tokens of a reference; where ``masked``, it paints the right half."""
    graph = tiny_graphs.sd15_text(batch=2 if masked else 1)
    tokens = tiny_graphs.noise(3, 1, 9, graph.positive[0][0].shape[2])
    text = graph.positive[0][0]
    tags = [tag("reference", text.shape[1], tokens, (3, 3))]
    graph.positive = [[torch.cat([text, tokens], 1), {KEY: tags}]]
    return tiny_graphs.with_canvas(graph, 4) if masked else graph


def ip_adapter() -> Graph:
    pack, graph = ip_adapter_standin.StandIn(), tiny_graphs.sd15_text()
    seen = (tiny_graphs.noise(seed, 1, 16, 8) for seed in (40, 60))
    graph.model = pack.apply(graph.model, ip_adapter_standin.weights(), *seen, False, **ip_adapter_standin.SETTINGS)
    return graph


SECOND_ORDER = {"steps": 3, "sampler_name": "heun"}
SAVED_RUNS = {
    "cross-attention tokens": SavedRun(tagged_tokens),
    "masked": SavedRun(lambda: tagged_tokens(masked=True), "inpainting mask", {"steps": 3}),
    "canvas regions": SavedRun(tiny_graphs.sd15_canvas, "off", region=True),
    "reference latents": SavedRun(lambda: tiny_graphs.flux_kontext(batch=2, cfg=3.0), sampling={"steps": 3}),
    "second order": SavedRun(
        tiny_graphs.flux_kontext, sampling={"steps": 3, "sampler_name": "heun"}, first_order=False
    ),
    "reference-only": SavedRun(tiny_graphs.sd15_reference_only, "off"),
    "style tokens": SavedRun(lambda: tiny_graphs.flux_redux(lengths=(256, 7)), "off"),
    "IP-Adapter": SavedRun(ip_adapter),
    "USO style": SavedRun(lambda: tiny_graphs.flux_uso(style=5)),
    "image cross-attention": SavedRun(tiny_graphs.wan_i2v, "off"),
    "reference frames": SavedRun(tiny_graphs.wan_phantom),
    "vision tokens": SavedRun(tiny_graphs.hunyuan_video_15, "off"),
}


def path_of(name: str) -> Path:
    return FOLDER / f"{name.replace(' ', '_')}.i2am.safetensors"
