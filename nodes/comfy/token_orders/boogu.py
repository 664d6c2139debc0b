"""Boogu-Image: made from OmniGen2, with double blocks before the others."""

from collections.abc import Iterator

from ..blocks import Block, ForeignModule, Part, inner, listed
from ..located import CallSite, ModelCall, Skip
from .base import Sequence, count_of, latent_groups, other_lengths, patches
from .omnigen2 import OmniGen2

PICTURES = "pictures"  # the role of attention in which picture and references are, without the text
WITHOUT_TEXT = " without the text"


class Boogu(OmniGen2):
    """``text|references|picture`` (``BooguTransformer2DModel.forward``, comfy/ldm/boogu/model.py).

    Each double block has this, and then attention of references and picture alone: two layers.
    """

    family = "BooguTransformer2DModel"

    def sequence(self, site: CallSite, call: ModelCall) -> Sequence | Skip:
        if site.role != PICTURES:
            return super().sequence(site, call)
        patch = call.denoiser.patch_size
        grid, references = patches(call.x, patch), latent_groups(call.conditions.get("ref_latents"), 0, patch)
        picture = slice(count_of(references), count_of(references) + grid.cells)
        if not site.queries == site.keys == picture.stop:
            return other_lengths(site, reference_latents=picture.start, the_picture=grid.cells)
        layer = f"{site.layer}{WITHOUT_TEXT}" if site.layer else ""
        return Sequence(layer, grid, picture, picture, slice(0, 0), references)

    def blocks(self, denoiser: ForeignModule, call: ModelCall) -> Iterator[Block]:
        yield from self.refiners(denoiser)
        for number, block in enumerate(denoiser.double_stream_layers):
            module: ForeignModule = inner(block, "img_self_attn")
            parts = Part("joint", module.img_instruct_attn), Part(PICTURES, module.img_self_attn)
            yield Block((f"double {number}",), module, parts)
        yield from listed(denoiser.single_stream_layers, "single")
