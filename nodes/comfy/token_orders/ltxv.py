"""LTX Video: self-attention of the video and of its guides, which are frames at the end of the latent."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ....i2am_core.tokens import TokenGrid, TokenGroup, span
from ..blocks import Block, ForeignModule, Part, inner
from ..located import CallSite, ModelCall, Skip
from .base import Sequence, TokenOrder, count_of, other_lengths

GUIDE = "guide"
TEXT = "attention of the video to the text"
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
    """

    family = "LTXVModel"

    def sequence(self, site: CallSite, call: ModelCall) -> Sequence | Skip:
        if site.role != "self":
            return Skip(TEXT, absent=True) if site.role == "text" else Skip(NOT_SELF)
        guides = call.once("guides", lambda: guides_of(call.x, call))
        if isinstance(guides, Skip):
            return guides
        video, others = guides.grid.cells, count_of(guides.groups)
        if site.keys != video + others or site.queries not in (video, others, site.keys):
            return other_lengths(site, the_video=video, guides=others)
        of_guides = site.queries == others and (others != video or site.masked_rows == others)  # one mask for the video
        rows = slice(0, video)
        return Sequence(site.layer, guides.grid, rows, rows, slice(0, 0), guides.groups, of_others=of_guides)

    def blocks(self, denoiser: ForeignModule, call: ModelCall) -> Iterator[Block]:
        for number, block in enumerate(denoiser.transformer_blocks):
            module, replaced = inner(block, "attn1"), (("dit", ("double_block", number)),)
            yield Block((f"block {number}",), module, _parts(module), replaced)


def _parts(block: ForeignModule) -> tuple[Part, ...]:
    if not hasattr(block, "attn1"):
        return (Part(),)
    return Part("self", block.attn1), Part("text", block.attn2)


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
