"""Runs of many kinds, by name: what makes the graph, and settings of ``counted_runs.counted``."""

from dataclasses import replace

import ip_adapter_runs
import ip_adapter_standin
import tiny_graphs
import torch
import workflow
from mechanisms import steered
from steered_graphs import in_windows, region

from i2am_pack.nodes.tag_reference import I2AMTagReference


def ip_adapter(**settings):
    graph, _, _ = ip_adapter_runs.graph_with(ip_adapter_standin.StandIn, tokens=257, settings=settings)
    return graph


def inpainted(graph):
    mask = torch.zeros(1, 1, *graph.latent["samples"].shape[-2:])
    mask[..., 1:, 1:] = 1
    return replace(graph, latent=graph.latent | {"noise_mask": mask})


def tagged(graph):
    tokens, about = graph.positive[0]
    graph.positive = I2AMTagReference.execute([[tokens[:, :7], about]], graph.positive, None).args[0]
    return graph


def in_areas(graph):
    """The conditioning for several areas of other sizes, which ComfyUI samples one after the other."""
    tokens, about = graph.positive[0]
    areas = [(height, width, 8 - height, 8 - width) for height in (4, 6, 8) for width in (4, 6, 8)]
    graph.positive = [[tokens, about | {"area": area, "strength": 1.0}] for area in areas]
    return graph


LEFT = torch.tensor([1.0, 0.0]).repeat_interleave(32).expand(1, 64, 64)
MASK = torch.linspace(0, 1, 64).reshape(1, 8, 8)
SOME = {"reference": 0, "reference_region": region(2, 4, (0, 1), (1, 3))}
RUNS = {
    "Kontext": (tiny_graphs.flux_kontext, {}),
    "Kontext, pair maps": (tiny_graphs.flux_kontext, {"pair_maps": "everywhere"}),
    "Kontext, a batch, with guidance": (lambda: tiny_graphs.flux_kontext(batch=3, cfg=3.0), {}),
    "Redux with a mask": (lambda: inpainted(tagged(tiny_graphs.flux_redux())), {"pair_maps": "inpainting mask"}),
    "Redux, a bias": (lambda: tagged(tiny_graphs.flux_redux_bias()), {"pair_maps": "everywhere"}),
    "Fill": (lambda: tiny_graphs.flux_fill_canvas(size=(8, 8)), {"pair_maps": "everywhere", "reference_region": LEFT}),
    "IP-Adapter": (ip_adapter, {"pair_maps": "everywhere"}),
    "IP-Adapter, a mask": (lambda: ip_adapter(attn_mask=MASK), {}),
    "IP-Adapter, K+V": (lambda: ip_adapter(embeds_scaling="K+V"), {}),
    "U-Net": (tiny_graphs.sd15_canvas, {"pair_maps": "everywhere", "reference_region": LEFT}),
    "U-Net, reference only": (tiny_graphs.sd15_reference_only, {}),
    "U-Net, tagged, inpainting": (lambda: workflow.make(batch=2, text_tokens=5), {"pair_maps": "inpainting mask"}),
    "Wan": (tiny_graphs.wan_i2v, {}),
    "Kontext, in areas": (lambda: in_areas(tiny_graphs.flux_kontext()), {}),
    "Wan, in context windows": (lambda: in_windows(tiny_graphs.wan_phantom()), {}),
    "steered": (tiny_graphs.flux_kontext, {"wrap": lambda model: steered(model, 2.0)}),
    "steered in a head, of a region": (
        tiny_graphs.flux_kontext,
        {"wrap": lambda model: steered(model, 3.0, heads="1", generated_region=region(4, 3, (0, 1), (2, 2)), **SOME)},
    ),
    "steered by output": (tiny_graphs.flux_kontext, {"wrap": lambda model: steered(model, -1.0, "output", **SOME)}),
    "IP-Adapter, steered": (ip_adapter, {"wrap": lambda model: steered(model, 2.0)}),
}  # fmt: skip
