"""MiniMax H3: a video and its sound in one sequence, with guides and references before them."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ....i2am_core.tokens import TokenGrid, TokenGroup, span
from ..blocks import Block, ForeignModule, listed, of_text
from ..located import CallSite, ModelCall, Skip
from ..several_latents import SHAPES
from .base import Sequence, TokenOrder, other_lengths
from .wan import video_grid

Sizes = tuple[torch.Size, ...] | list[torch.Size]

PAYLOAD = "minimax_payload"
GUIDES, REFERENCES = "cond", "ref_img"  # what the model calls the parts of its sequence that are pictures
NAMES = {"image": "reference image", "video": "reference video", "video_audio": "reference video"}


class MiniMaxH3(TokenOrder):
    """``text|guides|references|sound|video`` (``PackedLayout``, comfy/ldm/minimax/model.py).

    Guides and reference videos have their sound before them. The model makes this layout once for a run, and says in it
    what is where.
    """

    family = "MiniMaxH3Model"
    takes_latents = True

    def sequence(self, site: CallSite, call: ModelCall) -> Sequence | Skip:
        layout = call.conditions.get(PAYLOAD, {}).get("layout")
        grid, shapes = video_grid(call.x, call.denoiser.patch_size), _shapes(call.conditions)
        sides = (2 * grid.height, 2 * grid.width)
        if layout is None or len(shapes) < 2 or layout.signature != (call.text, grid.frames, *sides, shapes[1][-1]):
            return Skip("a MiniMax H3 that does not say where text, sound and video are")
        *_, sound, video = layout.segments
        text = layout.segments[0]
        rows = slice(video[0], video[1])
        if (
            site.queries != site.keys
            or site.keys != video[1]
            or (video[2], video[1] - video[0]) != ("video", grid.cells)
        ):
            return other_lengths(site, all_before_the_video=sound[1], the_video=grid.cells)
        groups = tuple(group for group, _ in placed(call.conditions, grid))
        return Sequence(site.layer, grid, rows, rows, slice(text[0], text[1]), groups)

    def references(self, denoiser: ForeignModule, conditions: Mapping[str, Any]) -> list[tuple[TokenGroup, Tensor]]:
        shapes = _shapes(conditions)
        return placed(conditions, video_grid(shapes[0], denoiser.patch_size)) if len(shapes) > 1 else []

    def blocks(self, denoiser: ForeignModule, call: ModelCall) -> Iterator[Block]:
        yield from of_text(denoiser.token_refiner.blocks, "text refiner", "attn")
        yield from listed(denoiser.blocks, "block", "double_block")


def _shapes(conditions: Mapping[str, Any]) -> Sizes:
    """Of the video, and of its sound."""
    return conditions.get(SHAPES) or ()


def placed(conditions: Mapping[str, Any], video: TokenGrid) -> list[tuple[TokenGroup, Tensor]]:
    """Guides and references of a ``video`` in the sequence, each with its latent ``[1, C, frames, h, w]``."""
    payload = conditions.get(PAYLOAD) or {}
    layout = payload.get("layout")
    if layout is None:
        return []
    guides = [x["latent"] for x in payload.get("keyframes") or () if x.get("latent") is not None]
    named = [("guide", latent, TokenGrid(video.height, video.width, latent.shape[2])) for latent in guides]
    for block in payload.get("refs") or ():
        if "latent" in block:
            grid = TokenGrid(block["latent_h"] // 2, block["latent_w"] // 2, block.get("latent_t", 1))
            named.append((NAMES[block["kind"]], block["latent"], grid))
    starts = [start for start, _, kind in layout.segments if kind in (GUIDES, REFERENCES)]
    numbers: dict[str, int] = {}
    groups = []
    for start, (name, latent, grid) in zip(starts, named, strict=True):
        numbers[name] = numbers.get(name, 0) + 1
        groups.append((span(f"{name} {numbers[name]}", start, grid), latent))
    return groups
