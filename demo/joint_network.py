"""The joint demo model's network: ComfyUI's own Flux, small.

Picture, scene and object are tokens of one attention, as in Kontext and FLUX.2: the two references are reference
latents. Imports ComfyUI (``comfy.ldm``) but none of its model management.
"""

from typing import Any

import torch
from comfy.ldm.flux import model as flux
from torch import Tensor

from .network import LATENT_CHANNELS

TEXT_TOKENS = 8

FLUX_CONFIG: dict[str, Any] = dict(
    in_channels=LATENT_CHANNELS,
    out_channels=LATENT_CHANNELS,
    vec_in_dim=None,
    context_in_dim=TEXT_TOKENS,
    hidden_size=128,
    mlp_ratio=4.0,
    num_heads=4,
    depth=1,
    depth_single_blocks=4,
    axes_dim=[8, 12, 12],
    theta=10000,
    patch_size=1,
    qkv_bias=True,
    guidance_embed=False,
    global_modulation=True,
)


def newer_config() -> dict[str, Any]:
    """What ComfyUI must be told of a Flux since 0.3.76, and did not know before: its text's tokens have no places."""
    return {"txt_ids_dims": []} if "txt_ids_dims" in flux.FluxParams.__dataclass_fields__ else {}


def flux_config() -> dict[str, Any]:
    return FLUX_CONFIG | newer_config()


def build_flux(operations: Any, dtype: torch.dtype = torch.float32) -> flux.Flux:
    return flux.Flux(**flux_config(), dtype=dtype, operations=operations)


def text() -> Tensor:
    """A prompt that says nothing: tokens ``[1, TEXT_TOKENS, TEXT_TOKENS]`` that differ, and never change."""
    return torch.eye(TEXT_TOKENS)[None]
