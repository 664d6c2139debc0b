"""What I2AM Collect says of the templates and of cases from the field: tiny models, random weights.

``scripts/summaries_page.py`` writes docs/summaries.md from this.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy_extras.nodes_easycache as nodes_easycache
import comfy_extras.nodes_tomesd as nodes_tomesd
import given_graphs
import ip_adapter_runs
import tiny_graphs
import torch
from ip_adapter_standin import StandIn
from steered_graphs import tagged
from tiny_graphs import Graph

from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.steer import I2AMSteer
from i2am_pack.nodes.tag_reference import I2AMTagReference


@dataclass(frozen=True)
class Case:
    """``make`` gives the sentences of Collect; ``about`` says what was sampled."""

    title: str
    about: str
    make: Callable[[], str]


def said_of(
    graph: Graph, capture: dict[str, Any] | None = None, steer: dict[str, Any] | None = None, **sampling: Any
) -> str:
    """The summary of Collect, or the sentence with which it stops."""
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512, **(capture or {})).args
    if steer is not None:
        settings = dict(by="attention", reference=-1, through="everything", branch="both")
        settings |= dict(steps="all", layers="all", heads="all", mechanism="auto")
        (model,) = I2AMSteer.execute(model, **settings | steer).args
    return collected(handle, graph.sample(model, **sampling))


def collected(handle: Any, latent: dict[str, torch.Tensor]) -> str:
    try:
        return I2AMCollect.execute(handle, latent).args[2]
    except ValueError as error:
        return str(error)


def of_adapter(steps: int = 2, **settings: Any) -> str:
    """Of a stand-in that keeps IPAdapter_plus's contract."""
    graph, model, handle = ip_adapter_runs.graph_with(StandIn(), tokens=16, settings=settings)
    return collected(handle, graph.sample(model, steps=steps))


def redux() -> str:
    graph = tiny_graphs.flux_text()
    styled = tiny_graphs.flux_redux()
    styled.positive = I2AMTagReference.execute(graph.positive, styled.positive).args[0]
    return said_of(styled)


def canvas() -> str:
    graph = tiny_graphs.flux_fill_canvas()
    reference = 1 - tiny_graphs.right_half(torch.ones(1, 1, 64, 48))[0]
    return said_of(graph, {"reference_region": reference})


def easy_cache() -> str:
    graph = tiny_graphs.flux_kontext()
    graph.model = tiny_graphs.run(nodes_easycache.EasyCacheNode, graph.model, 0.9, 0.0, 1.0, False)[0]
    return said_of(graph, steps=8)


def merged_tokens() -> str:
    graph = tiny_graphs.sd15_text(size=(16, 16))
    graph.text_tokens = 3
    graph = tagged(graph)
    graph.model = tiny_graphs.run(nodes_tomesd.TomePatchModel, graph.model, 0.5)[0]
    return said_of(graph)


def vace_of_strength_0() -> str:
    graph = tiny_graphs.wan_vace()
    for branch in (graph.positive, graph.negative):
        for _, about in branch:
            about["vace_strength"] = [0.0 for _ in about["vace_strength"]]
    return said_of(graph)


TEMPLATES = (
    Case("Flux Kontext", "Two reference latents.", lambda: said_of(tiny_graphs.flux_kontext())),
    Case("Keep the face", "The same, and I2AM Steer with strength 2.",
         lambda: said_of(tiny_graphs.flux_kontext(), steer={"strength": 2.0})),
    Case("Flux Redux", "A style model, and I2AM Tag Reference after it.", redux),
    Case("IP-Adapter", "16 tokens of one image.", of_adapter),
    Case("Canvas inpainting", "Flux Fill; the left half is marked as the reference.", canvas),
    Case("Wan 2.1 image to video", "CLIP tokens of the start image.", lambda: said_of(tiny_graphs.wan_i2v())),
)  # fmt: skip
CASES = (
    Case("An adapter that ends at half of the steps", "Weight 0.6, end_at 0.5 of 4 steps.",
         lambda: of_adapter(4, weight=0.6, end_at=0.5)),
    Case("An adapter of weight 0", "IPAdapter with weight 0.", lambda: of_adapter(weight=0.0)),
    Case("VACE with strength 0", "A reference image, strength 0.", vace_of_strength_0),
    Case("Steps from a cache", "Kontext with EasyCache, 8 steps.", easy_cache),
    Case("A reference that the model ignores", "Stable Diffusion 3 with a ReferenceLatent.",
         lambda: said_of(given_graphs.with_reference(tiny_graphs.sd3_text(), (4, 8)))),
    Case("Two images in one ReferenceLatent", "Kontext with a batch of two.",
         lambda: said_of(given_graphs.with_reference(tiny_graphs.flux_text(), (4, 8), batch=2))),
    Case("A route that attention does not show", "Wan 2.2 image to video without CLIP.",
         lambda: said_of(given_graphs.wan22_i2v())),
    Case("A first frame inside the latent", "LTXV with a start image.",
         lambda: said_of(given_graphs.ltxv_first_frame())),
    Case("A style model that is not tagged", "Redux tokens made fewer after a text of 256 tokens.",
         lambda: said_of(untagged_style())),
    Case("Token merging", "Tagged tokens beside ComfyUI's Token Merging.", merged_tokens),
)  # fmt: skip


def untagged_style() -> Graph:
    return tiny_graphs.flux_text(lengths=(256 + 81, 256))
