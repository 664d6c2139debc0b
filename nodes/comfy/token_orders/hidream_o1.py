"""HiDream-O1: a language model that paints pixels, and sees its references twice."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ....i2am_core.tokens import TokenGrid, TokenGroup, span
from ..blocks import Block, ForeignModule, listed
from ..located import CallSite, ModelCall, Skip
from .base import Sequence, TokenOrder, count_of, other_lengths

IMAGE_TOKEN = 151655  # of Qwen3-VL's vocabulary: where the eyes' tokens of an image are put into the text


class HiDreamO1(TokenOrder):
    """``text|time|picture|references`` (``HiDreamO1Transformer._forward``, comfy/ldm/hidream_o1/model.py).

    The images are in the text too, as the language model's eyes see them. The text looks at what is before it, in
    attention that does not come through ComfyUI's. Queries are all that is behind it, from the token on that says how
    noisy the picture is. From the second step on, the text's keys are those of the first.
    """

    family = "HiDreamO1Transformer"
    takes_latents = True

    def sequence(self, site: CallSite, call: ModelCall) -> Sequence | Skip:
        conditions = call.conditions
        if "input_ids" not in conditions or "ar_len" not in conditions:
            return Skip("a HiDream-O1 without the tokens of its text, which its own text encoder gives")
        grid = TokenGrid(*(side // call.denoiser.patch_size for side in call.x[-2:]))
        tokens, text = conditions["input_ids"].shape[1], conditions["ar_len"]
        columns = slice(tokens, tokens + grid.cells)
        known = call.once("images of HiDream-O1", lambda: (patch_groups(conditions), seen_groups(conditions)))
        for skip in known:
            if isinstance(skip, Skip):
                return skip
        of_patches, seen = known
        patches = tuple(_moved(group, columns.stop) for group in of_patches)
        keys = columns.stop + count_of(patches)
        if site.keys != keys or site.queries != keys - text or text > tokens:
            return other_lengths(site, text=tokens, the_picture=grid.cells, reference_images=count_of(patches))
        rows = slice(tokens - text, columns.stop - text)
        first, *others = _between(seen, text)
        return Sequence(site.layer, grid, rows, columns, first, patches, other_text=tuple(others), seen=seen)

    def references(self, denoiser: ForeignModule, conditions: Mapping[str, Any]) -> list[tuple[TokenGroup, Tensor]]:
        groups = patch_groups(conditions)
        if isinstance(groups, Skip) or not groups:
            return []
        return list(zip(groups, conditions["ref_patches"].split([g.count for g in groups], 1), strict=True))

    def blocks(self, denoiser: ForeignModule, call: ModelCall) -> Iterator[Block]:
        yield from listed(denoiser.language_model.layers, "double", "double_block")


def patch_groups(conditions: Mapping[str, Any]) -> tuple[TokenGroup, ...] | Skip:
    """The references as patches, from column 0 on: their grids are those of the positions that the model gives them.

    ``get_rope_index_fix_point`` (comfy/ldm/hidream_o1/utils.py) gives each image a time of its own.
    """
    patches = conditions.get("ref_patches")  # [B, patches, pixels of a patch]
    if patches is None:
        return ()
    time, y, x = conditions["position_ids"][0, :, -patches.shape[1] :].tolist()
    groups: list[TokenGroup] = []
    start = 0
    while start < len(time):
        stop = next((n for n in range(start, len(time)) if time[n] != time[start]), len(time))
        places = [(y[n] - y[start], x[n] - x[start]) for n in range(start, stop)]
        grid = TokenGrid(places[-1][0] + 1, places[-1][1] + 1)
        if places != [(row, column) for row in range(grid.height) for column in range(grid.width)]:
            return Skip("reference images whose patches have other positions than row by row")
        groups.append(span(f"reference image {len(groups) + 1}", start, grid))
        start = stop
    return tuple(groups)


def seen_groups(conditions: Mapping[str, Any]) -> tuple[TokenGroup, ...] | Skip:
    """The references as the eyes see them, among the text: each where the tokens are that stand for an image."""
    grids = conditions.get("ref_image_grid_thw")  # [B, images, 3]: of the eyes' patches, of which 2 x 2 are a token
    if grids is None:
        return ()
    columns = (conditions["input_ids"][0] == IMAGE_TOKEN).nonzero().flatten().tolist()
    groups: list[TokenGroup] = []
    for _, height, width in grids[0].tolist():
        grid = TokenGrid(height // 2, width // 2)
        own, columns = columns[: grid.cells], columns[grid.cells :]
        if len(own) != grid.cells or own != list(range(own[0], own[0] + grid.cells)):
            return Skip("reference images whose tokens among the text are not as many as the eyes see")
        groups.append(span(f"reference image {len(groups) + 1}, as seen in the text", own[0], grid))
    return Skip("more tokens of images among the text than the eyes see") if columns else tuple(groups)


def _moved(group: TokenGroup, by: int) -> TokenGroup:
    assert isinstance(group.index, slice)
    return span(group.name, group.index.start + by, group.grid, group.count)


def _between(groups: tuple[TokenGroup, ...], stop: int) -> list[slice]:
    """The columns up to ``stop`` that are in no group."""
    inside = torch.zeros(stop, dtype=torch.bool)
    for group in groups:
        inside[group.index] = True
    edges = [-1, *inside.nonzero().flatten().tolist(), stop]
    return [slice(one + 1, other) for one, other in itertools.pairwise(edges) if other > one + 1]
