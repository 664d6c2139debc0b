"""Wan's attention to the image: CLIP tokens of the first frame, or of first and last, in a softmax of their own.

``WanI2VCrossAttention`` (comfy/ldm/wan/model.py) adds its output to that of the attention to the text, so the shares
are those of the image tokens alone. Each image has 257 tokens: a class token, which has no place in the image and only
competes for attention, and 16 x 16 patches of the square that CLIP saw.
"""

from collections.abc import Sequence

from torch import Tensor

from ....i2am_core.attribution import Layer, Reference
from ....i2am_core.tokens import TokenGrid, TokenGroup, span
from ..located import CallSite, Chunk, Given, Located, ModelCall, Skip
from ..token_orders import order_of
from ..token_orders.base import other_lengths
from ..token_orders.wan import OTHER_ROLES, Wan, role_of
from .base import Documented, Mechanism

FEATURES = ("clip_fea_ref", "clip_fea")  # what the model gets, in the order of its tokens; the first is WanDancer's
PATCHES = TokenGrid(16, 16)
TOKENS = 1 + PATCHES.cells


class ImageCrossAttention(Mechanism):
    name = "image cross-attention"
    priority = 30
    documented = (
        Documented(
            users="Wan 2.1 I2V and first-last-frame, Animate, Animate 2, SCAIL, WanDancer",
            captured="attention to the CLIP tokens of start and end image, with a softmax of its own; maps for each"
            " frame",
            spatial="16x16 each; the class token competes",
            certainty="exact",
            limits="not what comes through the latent's channels. Of Animate 2 only this: its reference frame is read "
            "in calls for each frame apart, which do not say of which",
        ),
    )

    def may_be_read(self, role: str, call: ModelCall) -> bool:
        return "UNetModel" not in call.family

    def given(self, run: Given) -> list[Reference]:
        """The images, which come before frames beside them, whose attention is first in a block."""
        if "WanModel" not in run.family or getattr(run.denoiser, "img_emb", None) is None:
            return []
        references: list[Reference] = []
        for c in run.conditionings:
            given = c.get("model_conds", {})
            counts = [_count(getattr(given.get(name), "cond", None)) for name in FEATURES]
            if sum(counts) in (TOKENS, 2 * TOKENS):
                references += [Reference.of(group) for group in _images(run, counts)]
        return references

    def is_in_use(self, chunk: Chunk, call: ModelCall) -> bool:
        if "WanModel" not in call.family or getattr(call.denoiser, "img_emb", None) is None:
            return False
        return any(_counts(call))

    def locate(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip | None:
        counts = _counts(call)
        order = order_of(call.family)
        assert isinstance(order, Wan)
        if (skip := order.why_not_of_video(site, call)) is not None:
            return skip
        if not (role := role_of(site, call)) and isinstance(refused := order.sequence(site, call), Skip):
            return refused
        if role != "image":
            return Skip(OTHER_ROLES.get(role, "self-attention of the video"), absent=bool(role))
        tokens, rows = sum(counts), order.tokens(call)
        positions = getattr(call.denoiser.img_emb, "emb_pos", None)
        if site.keys != tokens or site.queries != rows.count or (positions is not None and positions.shape[1] < tokens):
            return other_lengths(site, the_video=rows.grid.cells, images=tokens)
        if tokens not in (TOKENS, 2 * TOKENS):
            return Skip(f"attention to {tokens} image tokens, where CLIP vision gives {TOKENS} for each image")
        groups = _images(call, counts)
        note = "the class token of CLIP vision has no place in the image: it competes for the attention to the image"
        class_tokens = {group.name: slice(n * TOKENS, n * TOKENS + 1) for n, group in enumerate(groups)}
        layer = Layer(site.layer, rows.grid, site.heads)
        return Located(layer, rows.video, tokens, groups, note=note, placeless=class_tokens)


def _counts(call: ModelCall) -> list[int]:
    return [_count(call.conditions.get(name)) for name in FEATURES]


def _count(features: Tensor | None) -> int:
    """How many tokens an image brings."""
    return 0 if features is None else features.shape[-2]


def _images(run: Given | ModelCall, counts: Sequence[int]) -> tuple[TokenGroup, ...]:
    """Each with its patches, behind its class token."""
    return tuple(span(name, 1 + n * TOKENS, PATCHES) for n, name in enumerate(_names(run, counts)))


def _names(run: Given | ModelCall, counts: Sequence[int]) -> list[str]:
    of_reference, of_frames = (count // TOKENS for count in counts)
    if of_reference:
        return ["reference image", *["start image"] * of_frames]
    if of_frames == 2:
        return ["start image", "end image"]
    if run.family & {"AnimateWanModel", "WanAnimate2Model", "SCAILWanModel"}:
        return ["reference image"]
    return ["start image" if run.denoiser.img_emb.emb_pos is None else "start or end image"]
