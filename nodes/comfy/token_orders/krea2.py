"""Krea 2."""

from collections.abc import Iterator, Mapping
from typing import Any

from ..blocks import Block, ForeignModule, listed, of_text
from ..located import CallSite, ModelCall, Skip
from .base import Sequence, TokenOrder, text_first_perhaps_with_styles

NO_METHOD = (
    "reads them only where a method says where they are: put FluxKontextMultiReferenceLatentMethod after the last "
    "ReferenceLatent, for example with 'index'"
)


class Krea2(TokenOrder):
    """``text|picture|references`` in its blocks (``SingleStreamDiT._forward``, comfy/ldm/krea2/model.py).

    Before, its text is alone: in attention to the layers of the language model, for each token apart, and to itself.
    """

    family = "SingleStreamDiT"
    takes_latents = True

    def sequence(self, site: CallSite, call: ModelCall) -> Sequence | Skip:
        unread = self.why_latents_are_unread(call.denoiser, call.conditions)
        latents = None if unread else call.conditions.get("ref_latents")
        return text_first_perhaps_with_styles(site, call, call.denoiser.patch, latents)

    def patch(self, denoiser: ForeignModule) -> int:
        patch: int = denoiser.patch
        return patch

    def why_latents_are_unread(self, denoiser: ForeignModule, conditions: Mapping[str, Any]) -> str:
        method = conditions.get(
            "ref_latents_method", getattr(denoiser, "default_ref_method", None)
        )  # None in older cores
        return NO_METHOD if method is None else ""

    def blocks(self, denoiser: ForeignModule, call: ModelCall) -> Iterator[Block]:
        yield from of_text(denoiser.txtfusion.layerwise_blocks, "text layers", "attn")
        yield from of_text(denoiser.txtfusion.refiner_blocks, "text refiner", "attn")
        yield from listed(denoiser.blocks, "single")
