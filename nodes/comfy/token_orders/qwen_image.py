"""Qwen-Image and Qwen-Image-Edit."""

from collections.abc import Iterator

from ..blocks import Block, ForeignModule, listed
from ..located import CallSite, ModelCall, Skip
from .base import Sequence, TokenOrder, text_first, uso_styles


class QwenImage(TokenOrder):
    """``QwenImageTransformer2DModel._forward`` (comfy/ldm/qwen_image/model.py): latents have frames, mostly one."""

    family = "QwenImageTransformer2DModel"
    takes_latents = True

    def sequence(self, site: CallSite, call: ModelCall) -> Sequence | Skip:
        """Newer cores run what USO puts before the text in this model too: the lengths say whether this one does."""
        patch, latents, styles = call.denoiser.patch_size, call.conditions.get("ref_latents"), uso_styles(call)
        with_styles = text_first(site, call, patch, latents, styles)
        return text_first(site, call, patch, latents) if styles and isinstance(with_styles, Skip) else with_styles

    def blocks(self, denoiser: ForeignModule, call: ModelCall) -> Iterator[Block]:
        yield from listed(denoiser.transformer_blocks, "double", "double_block")
