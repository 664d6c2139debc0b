"""Lumina 2 and Z-Image: refiners of text and picture apart, then layers over both."""

from collections.abc import Iterator

from ..blocks import Block, ForeignModule, listed
from ..located import CallSite, ModelCall, Skip
from .base import REFINER, Sequence, TokenOrder, other_lengths, patches


class Lumina(TokenOrder):
    """``text|picture``, each padded at its end by Z-Image (``NextDiT``, comfy/ldm/lumina/model.py)."""

    family = "NextDiT"

    def sequence(self, site: CallSite, call: ModelCall) -> Sequence | Skip:
        if given := sorted({"ref_latents", "ref_contexts", "siglip_feats"} & call.conditions.keys()):
            return Skip(f"attention of a {type(call.denoiser).__name__} with {', '.join(given)}: not supported yet")
        grid = patches(call.x, call.denoiser.patch_size)
        multiple = getattr(call.denoiser, "pad_tokens_multiple", None) or 1
        text, padded = (-(-count // multiple) * multiple for count in (call.text, grid.cells))
        if site.queries == site.keys == text + padded:
            picture, padding = slice(text, text + grid.cells), slice(call.text, text)  # the refiner fills it with text
            return Sequence(site.layer, grid, picture, picture, slice(0, call.text), other_text=(padding,))
        if site.queries == site.keys and site.keys in (text, padded):
            return Skip(REFINER, absent=True)
        return other_lengths(site, text=text, the_picture=padded)

    def blocks(self, denoiser: ForeignModule, call: ModelCall) -> Iterator[Block]:
        for name in ("context_refiner", "noise_refiner", "siglip_refiner"):
            yield from listed(getattr(denoiser, name, None), name.replace("_", " "))
        yield from listed(denoiser.layers, "block")
