"""LTX Video and LTX-2 with guides, made and sampled by the host's own nodes: frames at the end of the latent."""

from typing import Any

import comfy_extras.nodes_lt as nodes_lt
import given_graphs
import tiny_graphs
import tiny_models
import torch
from this_core import leave_out
from tiny_graphs import Graph, TinyVAE, pixels
from tiny_models import TEXT_WIDTH

VAE = TinyVAE(128, 8, 32)
VAE.downscale_index_formula = (8, 32, 32)
TOKENS_BY_GUIDE = hasattr(nodes_lt, "_append_guide_attention_entry")  # whether this core says which guide is which
LTX2 = {
    "image_model": "ltxav",
    "cross_attention_dim": 32,
    "audio_cross_attention_dim": 16,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "audio_attention_head_dim": 8,
    "audio_num_attention_heads": 2,
    "caption_channels": TEXT_WIDTH,
    "num_layers": 2,
    "connector_attention_head_dim": 16,
    "connector_num_attention_heads": 2,
    "audio_connector_attention_head_dim": 8,
    "connector_num_layers": 1,
}


def guides(strengths: tuple[float, ...] = (1.0,), frames: int = 1, downscale: int = 1, cfg: float = 3.0) -> Graph:
    """LTXVAddGuide once for each strength, behind a video of 3 frames of 2 x 4 cells: ``video|guides``.

    Of several ``frames`` of the latent, and on a grid that is coarser by ``downscale``, as IC-LoRAs have it.
    """
    return with_guides(given_graphs.ltxv_text(cfg=cfg, size=(3, 2, 4)), strengths, frames, downscale)


def ltx2(strengths: tuple[float, ...] = (1.0,), sound: bool = True, cfg: float = 3.0) -> Graph:
    """LTX-2 with guides, with a latent of sound beside that of the video, or the video alone."""
    if not hasattr(nodes_lt, "LTXVConcatAVLatent"):
        leave_out("LTX-2")
    graph = tiny_graphs._image(tiny_models.build(LTX2), 1, 128, size=(3, 2, 4), lengths=(9, 9), cfg=cfg)
    graph = tiny_graphs.with_attention_mask(graph)
    for number, conditioning in enumerate((graph.positive, graph.negative)):
        conditioning[0][0] = tiny_graphs.noise(30 + number, 1, 9, 2 * TEXT_WIDTH)  # for video and sound
    graph = with_guides(graph, strengths)
    if sound:
        audio = {"samples": torch.zeros(1, 8, 5, 16)}
        graph.latent = tiny_graphs.run(nodes_lt.LTXVConcatAVLatent, graph.latent, audio)[0]
    return graph


def with_guides(graph: Graph, strengths: tuple[float, ...], frames: int = 1, downscale: int = 1) -> Graph:
    """LTXVAddGuide for each strength."""
    inputs: dict[str, Any] = {}
    if downscale > 1 or any(strength != 1 for strength in strengths):
        if not TOKENS_BY_GUIDE:
            leave_out("a strength of a guide, or a coarser grid")
        inputs["iclora_parameters"] = {"reference_downscale_factor": downscale}
    for number, strength in enumerate(strengths):
        image = pixels(2 + number, 8 * frames - 7, 64, 128)
        graph.references.append(image)
        given = graph.positive, graph.negative, VAE, graph.latent, image, 8 * number, strength
        outputs = tiny_graphs.run(nodes_lt.LTXVAddGuide, *given, **inputs)
        graph.positive, graph.negative, graph.latent = outputs
    return graph
