"""Stable Diffusion 3: joint attention; in some blocks of SD3.5 medium, also self-attention of the picture alone."""

import dataclasses
from collections.abc import Iterator

from ..blocks import Block, ForeignModule, Part, inner, listed
from ..located import CallSite, ModelCall, Skip
from .base import Sequence, TokenOrder, patches, text_first

ALONE = " picture alone"


class SD3(TokenOrder):
    """``_block_mixing`` (comfy/ldm/modules/diffusionmodules/mmdit.py)."""

    family = "OpenAISignatureMMDITWrapper"

    def sequence(self, site: CallSite, call: ModelCall) -> Sequence | Skip:
        grid = patches(call.x, call.denoiser.patch_size)
        if site.queries == site.keys == grid.cells:
            layer = f"{site.layer}{ALONE}" if site.layer else ""
            return Sequence(layer, grid, slice(None), slice(None), slice(0, 0))
        return text_first(site, call, call.denoiser.patch_size)

    def blocks(self, denoiser: ForeignModule, call: ModelCall) -> Iterator[Block]:
        for block in listed(denoiser.joint_blocks, "block", "double_block"):
            twice = getattr(getattr(inner(block.module, "x_block"), "x_block", None), "x_block_self_attn", False)
            yield dataclasses.replace(block, parts=(Part("joint"), Part("picture"))) if twice else block
