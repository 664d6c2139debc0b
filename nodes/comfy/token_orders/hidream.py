"""HiDream-I1 and HiDream-E1."""

import dataclasses
from collections.abc import Iterator

import torch

from ....i2am_core.tokens import TokenGrid, TokenGroup
from ..blocks import Block, ForeignModule, listed
from ..located import CallSite, ModelCall, Skip
from .base import Sequence, TokenOrder, other_lengths, patches


class HiDream(TokenOrder):
    """``picture|T5|Llama|Llama`` (``HiDreamImageTransformer2DModel._forward``, comfy/ldm/hidream/model.py).

    HiDream-E1 has its reference to the right of the latent, as one wider picture: in every row of tokens, the
    reference's come after the picture's.
    """

    family = "HiDreamImageTransformer2DModel"

    def sequence(self, site: CallSite, call: ModelCall) -> Sequence | Skip:
        patch, width = call.denoiser.patch_size, call.x[-1]
        reference = call.conditions.get("image_cond")
        beside = 0 if reference is None else reference.shape[-1]
        if beside and width % patch:
            return Skip(
                f"a latent {width} cells wide, where tokens of {patch} hold both picture and reference at the border"
            )
        whole = patches((*call.x[:-1], width + beside), patch)
        cells = torch.arange(whole.cells).view(whole.height, whole.width)
        columns = -(-width // patch)
        picture, right = cells[:, :columns].flatten(), cells[:, columns:].flatten()
        states = call.conditions.get("encoder_hidden_states_llama3")  # [B, layers, tokens, width]
        llama = 0 if states is None else 2 * states.shape[2]
        if not site.queries == site.keys == whole.cells + call.text + llama:
            return other_lengths(site, picture_and_reference=whole.cells, T5=call.text, Llama=llama)
        references: tuple[TokenGroup, ...] = ()
        if beside:
            grid = TokenGrid(whole.height, whole.width - columns)
            references = (TokenGroup("reference latent 1", right, grid.cells, grid, "0"),)
        text = slice(whole.cells, whole.cells + call.text)
        own = Sequence(site.layer, TokenGrid(whole.height, columns), picture, picture, text, references)
        return dataclasses.replace(own, other_text=(slice(text.stop, text.stop + llama),))

    def blocks(self, denoiser: ForeignModule, call: ModelCall) -> Iterator[Block]:
        yield from listed(denoiser.double_stream_blocks, "block")
        yield from listed(denoiser.single_stream_blocks, "block", first=len(denoiser.double_stream_blocks))
