"""The demo's networks: ComfyUI's own UNetModel as the denoiser, and an encoder for the reference.

Imports ComfyUI (``comfy.ldm``) but none of its model management, so that training and the loader node
build the same modules.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor, nn

from .data import GRID, PATCH

LATENT_CHANNELS = 3 * PATCH * PATCH
CONTEXT_DIM = 128
_FREQUENCIES = (1, 2, 4)  # periods of pi over [-1, 1]
COORDINATE_CHANNELS = 4 * len(_FREQUENCIES)
REFERENCE_TOKENS = GRID * GRID

UNET_CONFIG = dict(
    image_size=GRID,
    # noisy latent, mask, mask coordinates, masked image
    in_channels=LATENT_CHANNELS + 1 + COORDINATE_CHANNELS + LATENT_CHANNELS,
    out_channels=LATENT_CHANNELS,
    model_channels=96,
    channel_mult=(1, 1),
    num_res_blocks=1,
    transformer_depth=[1, 1],
    transformer_depth_output=[1, 1, 1, 1],
    transformer_depth_middle=-2,  # no middle block: at this size the levels around it do its work
    num_heads=4,
    use_spatial_transformer=True,
    use_linear_in_transformer=True,
    context_dim=CONTEXT_DIM,
    legacy=False,
)


def build_unet(operations: type, dtype: torch.dtype = torch.float32) -> UNetModel:
    return UNetModel(**UNET_CONFIG, dtype=dtype, operations=operations)


def no_tokens() -> Tensor:
    """Those of no reference, as in training: ``[1, REFERENCE_TOKENS, CONTEXT_DIM]`` zeros."""
    return torch.zeros(1, REFERENCE_TOKENS, CONTEXT_DIM)


def mask_coordinates(mask: Tensor) -> Tensor:
    """Position inside the mask's bounding box, as waves: ``[B, 1, h, w]`` in {0, 1} to ``[B, 12, h, w]``.

    Zero outside the mask. From them the network knows where in the object a cell is.
    """
    inside = mask[:, 0] > 0.5
    x = _position_in_box(inside.any(1))[:, None, :].expand(inside.shape)
    y = _position_in_box(inside.any(2))[:, :, None].expand(inside.shape)
    return _waves(x, y) * inside[:, None]


def _position_in_box(occupied: Tensor) -> Tensor:
    """Cells ``[B, n]`` of which some are occupied: their centres, scaled so that the box spans (-1, 1)."""
    n = occupied.shape[1]
    first = occupied.int().argmax(1)
    last = n - 1 - occupied.int().flip(1).argmax(1)
    cell = torch.arange(n, device=occupied.device)
    middle, size = (first + last) / 2, last - first + 1
    return (cell[None] - middle[:, None]) / (size[:, None] / 2)


def _waves(x: Tensor, y: Tensor) -> Tensor:
    waves = [wave(f * math.pi * axis) for axis in (x, y) for f in _FREQUENCIES for wave in (torch.sin, torch.cos)]
    return torch.stack(waves, 1)


class ReferenceEncoder(nn.Module):
    """Reference latent ``[B, 48, GRID, GRID]`` to ``[B, GRID * GRID, CONTEXT_DIM]`` tokens, row-major."""

    def __init__(self, operations: Any) -> None:
        """``operations``: whose layers to use, of torch.nn or comfy.ops; the latter leave weights uninitialized."""
        super().__init__()
        width = CONTEXT_DIM
        self.stem = operations.Conv2d(LATENT_CHANNELS + COORDINATE_CHANNELS, width, 3, padding=1)
        self.mix = operations.Conv2d(width, width, 3, padding=1)
        self.position = nn.Parameter(torch.zeros(1, REFERENCE_TOKENS, width))
        self.transformer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.norm = operations.LayerNorm(width)

    def forward(self, latent: Tensor) -> Tensor:
        everywhere = torch.ones_like(latent[:, :1])
        x = self.stem(torch.cat([latent, mask_coordinates(everywhere)], 1))
        x = x + self.mix(F.silu(x))
        tokens = x.flatten(2).transpose(1, 2) + self.position
        return self.norm(self.transformer(tokens))
