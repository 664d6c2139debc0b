"""Flux.1, Kontext, Fill, Flux.2 and Chroma: double and single blocks, each with one attention over all tokens."""

from collections.abc import Iterator, Mapping
from typing import Any

from ..blocks import Block, ForeignModule, listed
from ..located import CallSite, ModelCall, Skip
from .base import NO_PLACE, Sequence, TokenOrder, text_first, uso_styles


class Flux(TokenOrder):
    """``Flux._forward`` (comfy/ldm/flux/model.py); Flux.2 has text padded to 512 and one token for a cell."""

    family = "Flux"
    takes_latents = True

    def sequence(self, site: CallSite, call: ModelCall) -> Sequence | Skip:
        return text_first(site, call, call.denoiser.patch_size, call.conditions.get("ref_latents"), uso_styles(call))

    def blocks(self, denoiser: ForeignModule, call: ModelCall) -> Iterator[Block]:
        yield from listed(denoiser.double_blocks, "double", "double_block")
        yield from listed(denoiser.single_blocks, "single", "single_block")


class Chroma(Flux):
    """``Chroma._forward`` (comfy/ldm/chroma/model.py) has no place for reference latents, though it may get some."""

    family = "Chroma"
    takes_latents = False

    def sequence(self, site: CallSite, call: ModelCall) -> Sequence | Skip:
        return text_first(site, call, call.denoiser.patch_size)

    def why_latents_are_unread(self, denoiser: ForeignModule, conditions: Mapping[str, Any]) -> str:
        return NO_PLACE
