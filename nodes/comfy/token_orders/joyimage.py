"""JoyImage and JoyAI-Image-Edit."""

from collections.abc import Iterator

from ..blocks import Block, ForeignModule, listed
from ..located import CallSite, ModelCall, Skip
from .base import Sequence, TokenOrder, count_of, latent_groups, other_lengths, patches


class JoyImage(TokenOrder):
    """``picture|references|text`` (``JoyImageTransformer3DModel._forward``, comfy/ldm/joyimage/model.py)."""

    family = "JoyImageTransformer3DModel"
    takes_latents = True

    def patch(self, denoiser: ForeignModule) -> int:
        """Of ``[frames, height, width]``: it is made for pictures, each of one frame."""
        patch: int = denoiser.patch_size[-1]
        return patch

    def sequence(self, site: CallSite, call: ModelCall) -> Sequence | Skip:
        patch = self.patch(call.denoiser)
        grid = patches(call.x, patch)
        references = latent_groups(call.conditions.get("ref_latents"), grid.cells, patch)
        start = grid.cells + count_of(references)
        if not site.queries == site.keys == start + call.text:
            return other_lengths(site, the_picture=grid.cells, reference_latents=count_of(references), text=call.text)
        picture, text = slice(0, grid.cells), slice(start, start + call.text)
        return Sequence(site.layer, grid, picture, picture, text, references)

    def blocks(self, denoiser: ForeignModule, call: ModelCall) -> Iterator[Block]:
        yield from listed(denoiser.double_blocks, "double", "double_block")
