"""LTX Video and LTX-2: self-attention of the video and of its guides, which are frames at the end of the latent."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ....i2am_core.tokens import TokenGrid, TokenGroup, span
from ..blocks import Block, ForeignModule, Part, inner
from ..located import CallSite, ModelCall, Skip
from ..several_latents import SHAPES
from .base import Sequence, TokenOrder, count_of, other_lengths

WITHOUT_SELF = "stg_self_attn_blocks"  # as in ``model_calls``: blocks whose self-attention is left out
GUIDE = "guide"
TEXT = "attention of the video to the text"
SOUND, SOUND_TEXT, FROM_SOUND, TO_SOUND = "sound", "text of the sound", "from the sound", "to the sound"
OF_SOUND = {
    SOUND: "self-attention of the sound",
    SOUND_TEXT: "attention of the sound to the text",
    FROM_SOUND: "attention of the video to the sound",
}
NOT_SELF = "attention of a block of which it is not known what it attends to"


@dataclass(frozen=True)
class Guides:
    """The frames of the latent that are the video, and the guides behind them."""

    grid: TokenGrid
    groups: tuple[TokenGroup, ...]


class LTXV(TokenOrder):
    """``video|guides``, a cell for each token (``LTXVModel``, comfy/ldm/lightricks/model.py).

    ``LTXVAddGuide`` (comfy_extras/nodes_lt.py) appends them to the latent, and the conditioning says how many tokens
    these are. Those of a coarser grid, of an IC-LoRA, are the tokens of it that the noise mask does not leave out. With
    guides whose strength is not 1, newer cores make one call for the rows of the video, and one for those of guides.
    LTX-2's sound, which is a latent beside the video's, attends to the video and to its guides as well.
    """

    family = "LTXVModel"

    def sequence(self, site: CallSite, call: ModelCall) -> Sequence | Skip:
        if site.role not in ("self", TO_SOUND):
            return Skip(OF_SOUND.get(site.role, TEXT), absent=True) if site.role else Skip(NOT_SELF)
        guides = call.once("guides", lambda: guides_of(call.x, call))
        if isinstance(guides, Skip):
            return guides
        video, others = guides.grid.cells, count_of(guides.groups)
        if site.role == TO_SOUND and site.keys == video + others:
            columns = slice(0, video)
            return Sequence(site.layer, guides.grid, columns, columns, slice(0, 0), guides.groups, of_others=True)
        if site.keys != video + others or site.queries not in (video, others, site.keys):
            return other_lengths(site, the_video=video, guides=others)
        of_guides = site.queries == others and (others != video or site.masked_rows == others)  # one mask for the video
        rows = slice(0, video)
        return Sequence(site.layer, guides.grid, rows, rows, slice(0, 0), guides.groups, of_others=of_guides)

    def variant(self, call: ModelCall) -> bool:
        """Whether there is a latent of sound beside the video's."""
        return len(call.conditions.get(SHAPES) or ()) > 1

    def blocks(self, denoiser: ForeignModule, call: ModelCall) -> Iterator[Block]:
        for number, block in enumerate(denoiser.transformer_blocks):
            module, replaced = inner(block, "attn1"), (("dit", ("double_block", number)),)
            yield Block((f"double {number}",), module, _parts(module, number, self.variant(call)), replaced)


def _parts(block: ForeignModule, number: int, with_sound: bool) -> tuple[Part, ...]:
    """``BasicAVTransformerBlock`` (comfy/ldm/lightricks/av_model.py) has the same for sound, and two between both.

    Guidance of LTX-2 leaves some out on purpose.
    """
    if not hasattr(block, "attn1"):
        return (Part(),)
    without_self = ((WITHOUT_SELF, number),)
    video = Part("self", block.attn1, replaced=without_self), Part("text", block.attn2)
    if not with_sound:
        return video
    between = (
        Part(FROM_SOUND, block.audio_to_video_attn, replaced=(("a2v_cross_attn", False),)),
        Part(TO_SOUND, block.video_to_audio_attn, replaced=(("v2a_cross_attn", False),)),
    )
    return *video, Part(SOUND, block.audio_attn1, replaced=without_self), Part(SOUND_TEXT, block.audio_attn2), *between


def guides_of(shape: torch.Size, call: ModelCall) -> Guides | Skip:
    """The guides of a latent ``[rows, channels, frames, h, w]``, as the model gets them."""
    frames, height, width = shape[2:]
    plane, keyframes = height * width, call.conditions.get("keyframe_idxs")
    appended = 0 if keyframes is None else keyframes.shape[2]
    if appended % plane or appended >= frames * plane:
        return Skip(f"guides of {appended} tokens, which are not whole frames of a video of {frames}")
    grid = TokenGrid(height, width, frames - appended // plane)
    if not appended:
        return Guides(grid, ())
    left = tokens_left(call.conditions.get("denoise_mask"), shape)
    if not bool(left[: grid.cells].all()):
        return Skip("a noise mask that leaves tokens of the video itself out: not supported yet")
    entries = call.conditions.get("guide_attention_entries")
    groups = _by_entry(entries, left[grid.cells :], grid) if entries else _by_frame(left[grid.cells :], grid)
    return groups if isinstance(groups, Skip) else Guides(grid, groups)


def tokens_left(mask: Tensor | None, shape: torch.Size) -> Tensor:
    """Which tokens of the latent the model gets: newer cores leave out those where the noise mask is below 0."""
    frames, height, width = shape[2:]
    if mask is None or mask.ndim != 5:
        return torch.ones(frames * height * width, dtype=torch.bool)
    left = ~(mask[0] < 0).any(0)  # as the model does, of the first row
    return left.expand(frames, height, width).flatten().cpu()


def _by_entry(entries: Any, left: Tensor, grid: TokenGrid) -> tuple[TokenGroup, ...] | Skip:
    """Each guide as a node has added it; of several frames, it is one reference of so many."""
    groups: list[TokenGroup] = []
    start = 0
    for number, entry in enumerate(entries):
        count = int(left[start : start + entry["pre_filter_count"]].sum())
        frames, height, width = entry["latent_shape"]
        own = TokenGrid(height, width, frames)
        if own.cells != count:
            return Skip(f"a guide of {count} tokens, which are not a grid of {own}")
        groups.append(span(f"{GUIDE} {number + 1}", grid.cells + count_of(groups), own))
        start += entry["pre_filter_count"]
    if start != len(left):
        return Skip(f"guides of {start} tokens, where the latent has {len(left)} behind the video")
    return tuple(groups)


def _by_frame(left: Tensor, grid: TokenGrid) -> tuple[TokenGroup, ...] | Skip:
    """Older cores do not say which guide has several frames: each frame is a reference of its own."""
    if not bool(left.all()):
        return Skip("guides on a coarser grid, of which the conditioning does not say which: not supported")
    one = TokenGrid(grid.height, grid.width)
    return tuple(span(f"{GUIDE} frame {n + 1}", grid.cells + n * one.cells, one) for n in range(len(left) // one.cells))
