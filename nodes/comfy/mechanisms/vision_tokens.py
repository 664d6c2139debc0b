"""Tokens that eyes make of an image, beside those of the text: HunyuanVideo 1.5 has SigLIP's, HiDream-O1 Qwen3-VL's."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ....i2am_core.attribution import Reference
from ....i2am_core.tokens import TokenGrid, TokenGroup, span
from ..located import CallSite, Chunk, Given, Located, ModelCall, Skip
from ..tags import fingerprint
from ..token_orders import sequence_of
from ..token_orders.base import handed_over
from ..token_orders.hidream_o1 import seen_groups
from ..token_orders.hunyuan_video import vision_start, vision_tokens
from .base import Documented, Mechanism

GRIDS = {grid.cells: grid for grid in (TokenGrid(27, 27), TokenGrid(32, 32))}
"""Patches of SigLIP-384 and -512, whose last hidden state is taken whole (``HunyuanVideo15.extra_conds``, ComfyUI's
comfy/model_base.py): no mask leaves any out, and there is no class token. Of other numbers nobody says what they are.
"""
IN_WORDS = (
    "the words behind an image in the text have read it, in attention that was not observed: what they hold of it "
    "counts as text"
)


class VisionTokens(Mechanism):
    name = "vision tokens"
    priority = 10
    documented = (
        Documented(
            users="HunyuanVideo 1.5 I2V",
            captured="joint attention of the video to SigLIP's tokens",
            spatial="27x27",
            certainty="exact",
        ),
        Documented(
            users="HiDream-O1: `HiDreamO1ReferenceImages`",
            captured="attention of the picture to the tokens among the text that the language model's eyes make of"
            " each image; its patches are reference latents",
            spatial="the eyes' grid",
            certainty="exact",
            limits="the words behind an image have read it, in attention that does not come through ComfyUI's: what"
            " they hold of it counts as text",
        ),
    )

    def may_be_read(self, role: str, call: ModelCall) -> bool:
        return "UNetModel" not in call.family

    def given(self, run: Given) -> list[Reference]:
        if "HiDreamO1Transformer" not in run.family:
            return []
        return [
            Reference.of(group) for c in run.conditionings for group in _seen_by_hidream_o1(handed_over(c), slice(0, 1))
        ]

    def locate(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip | None:
        if "HiDreamO1Transformer" in call.family:
            return self._in_hidream_o1(site, chunk, call)
        if "HunyuanVideo" not in call.family or not (count := vision_tokens(call)):
            return None
        sequence = sequence_of(site, call)
        if isinstance(sequence, Skip):
            return sequence
        grid = GRIDS.get(count)
        group = span("start image", vision_start(sequence, call), grid, count)
        return sequence.located(site, (group,))

    def _in_hidream_o1(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip | None:
        if "ref_image_grid_thw" not in call.conditions:
            return None
        sequence = sequence_of(site, call)
        if isinstance(sequence, Skip):
            return sequence
        groups = call.once(
            ("images in the text", chunk.rows.start), lambda: _seen_by_hidream_o1(call.conditions, chunk.rows)
        )
        return sequence.located(site, groups, note=IN_WORDS)


def _seen_by_hidream_o1(conditions: Mapping[str, Any], rows: slice) -> tuple[TokenGroup, ...]:
    """The images among the text, each with a hash of what the eyes saw; of the first of these rows."""
    groups = seen_groups(conditions)
    if isinstance(groups, Skip) or not groups:
        return ()
    counts = [4 * group.count for group in groups]  # of the eyes' own patches
    pixels = conditions["ref_pixel_values"][rows.start : rows.start + 1].split(counts, 1)
    keys = map(fingerprint, pixels)
    return tuple(dataclasses.replace(group, key=key) for group, key in zip(groups, keys, strict=True))
