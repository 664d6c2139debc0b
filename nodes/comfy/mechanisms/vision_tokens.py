"""Tokens that eyes make of an image, beside those of the text.

SigLIP's in HunyuanVideo 1.5 (the first frame) and Z-Image (each image), Qwen3-VL's in HiDream-O1.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ....i2am_core.attribution import Reference
from ....i2am_core.tokens import TokenGrid, TokenGroup, span
from ..located import CallSite, Chunk, Given, Located, ModelCall, Skip
from ..tags import fingerprint
from ..token_orders import sequence_of
from ..token_orders.base import REFINER, handed_over
from ..token_orders.hidream_o1 import seen_groups
from ..token_orders.hunyuan_video import vision_start, vision_tokens
from ..token_orders.lumina import siglip_groups
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
        Documented(
            users="Z-Image Omni: `TextEncodeZImageOmni` with an image encoder and a VAE",
            captured="joint attention to SigLIP's tokens of each image; its latent is another reference",
            spatial="each on SigLIP's own grid",
            certainty="exact",
            limits="in a refiner of their own, the tokens of all images have seen each other before. Without a VAE the"
            " model reads none of them",
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

    def is_in_use(self, chunk: Chunk, call: ModelCall) -> bool:
        if "HiDreamO1Transformer" in call.family:
            return "ref_image_grid_thw" in call.conditions
        if "NextDiT" in call.family:
            return bool(siglip_groups(call))
        return "HunyuanVideo" in call.family and vision_tokens(call) > 0

    def locate(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip:
        if "HiDreamO1Transformer" in call.family:
            return self._in_hidream_o1(site, chunk, call)
        if "NextDiT" in call.family:
            return _in_z_image(site, chunk, call)
        sequence = sequence_of(site, call)
        if isinstance(sequence, Skip):
            return sequence
        count = vision_tokens(call)
        group = span("start image", vision_start(sequence, call), GRIDS.get(count), count)
        return sequence.located(site, (group,))

    def _in_hidream_o1(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip:
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


def _in_z_image(site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip:
    groups = siglip_groups(call)
    sequence = sequence_of(site, call)
    if isinstance(sequence, Skip):
        return sequence
    if not len(sequence.all_text):  # a refiner of latents and picture
        return Skip(REFINER, absent=True)
    features, first = call.conditions["siglip_feats"], slice(chunk.rows.start, chunk.rows.start + 1)
    keys = call.once(("SigLIP", chunk.rows.start), lambda: [fingerprint(x[first]) for x in features])
    return sequence.located(site, tuple(dataclasses.replace(g, key=k) for g, k in zip(groups, keys, strict=False)))
