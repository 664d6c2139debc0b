"""LTX Video with guides, made and sampled by the host's own nodes: frames at the end of the latent, as references."""

from typing import Any

import comfy_extras.nodes_lt as nodes_lt
import given_graphs
import pytest
import tiny_graphs
from comfyui_version import __version__
from tiny_graphs import Graph, TinyVAE, pixels

VAE = TinyVAE(128, 8, 32)
VAE.downscale_index_formula = (8, 32, 32)
TOKENS_BY_GUIDE = hasattr(nodes_lt, "_append_guide_attention_entry")  # whether this core says which guide is which


def guides(strengths: tuple[float, ...] = (1.0,), frames: int = 1, downscale: int = 1, cfg: float = 3.0) -> Graph:
    """LTXVAddGuide once for each strength, on a video of 2 frames of 2 x 4 cells: ``video|guides``.

    Of several ``frames`` of the latent, and on a grid that is coarser by ``downscale``, as IC-LoRAs have it.
    """
    graph = given_graphs.ltxv_text(cfg=cfg, size=(3, 2, 4))
    inputs: dict[str, Any] = {}
    if downscale > 1 or any(strength != 1 for strength in strengths):
        if not TOKENS_BY_GUIDE:
            pytest.skip(f"ComfyUI {__version__} has no strength of a guide, nor a coarser grid")
        inputs["iclora_parameters"] = {"reference_downscale_factor": downscale}
    for number, strength in enumerate(strengths):
        image = pixels(2 + number, 8 * frames - 7, 64, 128)
        graph.references.append(image)
        given = graph.positive, graph.negative, VAE, graph.latent, image, 8 * number, strength
        outputs = tiny_graphs.run(nodes_lt.LTXVAddGuide, *given, **inputs)
        graph.positive, graph.negative, graph.latent = outputs
    return graph
