"""Qwen-Image and Qwen-Image-Edit."""

from collections.abc import Iterator

from ..blocks import Block, ForeignModule, listed
from ..located import CallSite, ModelCall, Skip
from .base import Sequence, TokenOrder, text_first_perhaps_with_styles


class QwenImage(TokenOrder):
    """``QwenImageTransformer2DModel._forward`` (comfy/ldm/qwen_image/model.py): latents have frames, mostly one."""

    family = "QwenImageTransformer2DModel"
    takes_latents = True

    def sequence(self, site: CallSite, call: ModelCall) -> Sequence | Skip:
        latents = call.conditions.get("ref_latents")
        return text_first_perhaps_with_styles(site, call, call.denoiser.patch_size, latents)

    def blocks(self, denoiser: ForeignModule, call: ModelCall) -> Iterator[Block]:
        yield from listed(denoiser.transformer_blocks, "double", "double_block")
