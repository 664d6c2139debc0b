"""OmniGen2: refiners of text, picture and references apart, then layers over all of them."""

from collections.abc import Iterator

from ..blocks import Block, ForeignModule, listed
from ..located import CallSite, ModelCall, Skip
from .base import REFINER, Sequence, TokenOrder, count_of, latent_groups, other_lengths, patches


class OmniGen2(TokenOrder):
    """``text|references|picture`` (``OmniGen2Transformer2DModel.forward``, comfy/ldm/omnigen/omnigen2.py)."""

    family = "OmniGen2Transformer2DModel"
    takes_latents = True

    def sequence(self, site: CallSite, call: ModelCall) -> Sequence | Skip:
        patch = call.denoiser.patch_size
        grid = patches(call.x, patch)
        references = latent_groups(call.conditions.get("ref_latents"), call.text, patch)
        start = call.text + count_of(references)
        picture = slice(start, start + grid.cells)
        if site.queries == site.keys == picture.stop:
            return Sequence(site.layer, grid, picture, picture, slice(0, call.text), references)
        if site.queries == site.keys and site.keys in (call.text, count_of(references), grid.cells):
            return Skip(REFINER, absent=True)
        return other_lengths(site, text=call.text, reference_latents=count_of(references), the_picture=grid.cells)

    def blocks(self, denoiser: ForeignModule, call: ModelCall) -> Iterator[Block]:
        yield from self.refiners(denoiser)
        yield from listed(denoiser.layers, "block")

    def refiners(self, denoiser: ForeignModule) -> Iterator[Block]:
        """Of text, picture and references, each apart."""
        for name in ("context_refiner", "noise_refiner", "ref_image_refiner"):
            yield from listed(getattr(denoiser, name, None), name.replace("_", " "))
