"""Models of 2026 that read no references in attention, though they may be given some: tiny, by the host's own classes.

ComfyUI 0.33 has them all, the pinned one Chroma Radiance.
"""

from typing import Any

import comfy.supported_models
import tiny_graphs
import tiny_models
import torch
from comfy.ldm.chroma_radiance.model import ChromaRadianceParams
from comfy.model_patcher import ModelPatcher
from this_core import need
from tiny_graphs import Graph
from tiny_models import FLUX, TEXT_WIDTH

SIDE = 16  # of a token, in pixels, where a model paints these


def chroma_radiance() -> ModelPatcher:
    """Chroma that paints pixels."""
    shared = {name: FLUX[name] for name in FLUX if name != "guidance_embed"}
    tiny = {
        "image_model": "chroma_radiance",
        "in_channels": 3,
        "out_channels": 3,
        "patch_size": SIDE,
        "vec_in_dim": None,
        "in_dim": 64,
        "out_dim": FLUX["hidden_size"],
        "hidden_dim": 8,
        "n_layers": 1,
        "nerf_hidden_size": 8,
        "nerf_mlp_ratio": 2,
        "nerf_depth": 1,
        "nerf_max_freqs": 2,
        "nerf_tile_size": 0,
        "nerf_final_head_type": "linear",
        "nerf_embedder_dtype": None,
        "use_x0": False,
        "use_sequential_txt_ids": False,
    }
    family = need(comfy.supported_models, "ChromaRadiance")
    return tiny_models.build(tiny_models.known_parameters(ChromaRadianceParams, shared | tiny), family)


def ernie() -> ModelPatcher:
    """ERNIE-Image."""
    tiny = {
        "image_model": "ernie",
        "hidden_size": 32,
        "num_attention_heads": 2,
        "num_layers": 2,
        "ffn_hidden_size": 32,
        "text_in_dim": TEXT_WIDTH,
        "rope_axes_dim": (4, 6, 6),
    }
    return tiny_models.build(tiny, need(comfy.supported_models, "ErnieImage"))


def lens() -> ModelPatcher:
    """Microsoft Lens."""
    tiny = {
        "image_model": "lens",
        "num_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "enc_hidden_dim": TEXT_WIDTH,
        "axes_dims_rope": (4, 6, 6),
        "multi_layer_encoder_feature": False,
        "selected_layer_index": (0,),
    }
    return tiny_models.build(tiny, need(comfy.supported_models, "Lens"))


def pixeldit(name: str = "PixelDiTT2I", **config: Any) -> ModelPatcher:
    """PixelDiT, which paints pixels."""
    tiny = {
        "image_model": "pixeldit_t2i",
        "num_groups": 2,
        "hidden_size": 32,
        "pixel_hidden_size": 4,
        "pixel_attn_hidden_size": 32,
        "pixel_num_groups": 2,
        "patch_depth": 2,
        "pixel_depth": 1,
        "txt_embed_dim": TEXT_WIDTH,
    }
    return tiny_models.build(tiny | config, need(comfy.supported_models, name))


def pid() -> ModelPatcher:
    """PiD: PixelDiT, to which a latent is added that it is to decode."""
    return pixeldit("PiD", image_model="pid", lq_hidden_dim=8, lq_num_res_blocks=1)


def of_latent(model: ModelPatcher, channels: int) -> Graph:
    """A text, and a latent of 4 x 3 cells."""
    return tiny_graphs._image(model, 1, channels, size=(4, 3))


def of_pixels(model: ModelPatcher) -> Graph:
    """A text, and a picture of 4 x 3 tokens. Older cores take pooled text for Chroma Radiance, which it leaves out."""
    return tiny_graphs.with_pooled(tiny_graphs._image(model, 1, 3, size=(4 * SIDE, 3 * SIDE)), 1)


def pid_of_latent() -> Graph:
    """PiDConditioning: the latent of a picture of a quarter of the sides."""
    from comfy_extras.nodes_pid import PiDConditioning

    graph = of_pixels(pid())
    graph.references = [tiny_graphs.noise(2, 1, 16, 2 * 4 * SIDE // 32, 2 * 3 * SIDE // 32)]
    node = PiDConditioning, graph.positive, {"samples": graph.references[0]}, "flux", 0.0
    graph.positive = tiny_graphs.run(*node)[0]
    graph.negative = [[torch.zeros_like(tokens), about] for tokens, about in graph.positive]
    return graph
