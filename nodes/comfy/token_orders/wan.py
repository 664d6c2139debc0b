"""Wan: each block has self-attention of the video, then attention to an image, where it has one, and to the text."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ....i2am_core.tokens import TokenGrid, TokenGroup
from ..blocks import Block, ForeignModule, Part, inner
from ..located import CallSite, Chunk, ModelCall, Skip
from .base import Sequence, TokenOrder, other_lengths

REFERENCE = "reference frame"
NEARLY_ZERO = 1e-3  # of a latent whose values are around 1: what a zero becomes in the model's scaling
OTHER_ROLES = {  # than self-attention
    "text": "attention of the video to the text",
    "image": "attention of the video to an image",
    "": "attention of a block of which it is not known what it attends to",
}


class Wan(TokenOrder):
    """Self-attention, ``R|video|R``: of Wan Fun, VACE and others before the video, of Phantom and HuMo after it.

    ``WanAttentionBlock`` (comfy/ldm/wan/model.py). References of VACE are frames of the latent itself, which are
    trimmed off when it is sampled; a layer's grid is the rest. See ``vace_references``.
    """

    family = "WanModel"

    def sequence(self, site: CallSite, call: ModelCall) -> Sequence | Skip:
        if (role := role_of(site, call)) != "self":
            return Skip(OTHER_ROLES[role], absent=bool(role))
        model, conditions = call.denoiser, call.conditions
        grid = video_grid(call.x, model.patch_size)
        before, after = [], []
        reference = conditions.get("reference_latent")
        if reference is not None and "HumoWanModel" in call.family:
            after.append(video_grid(reference.shape, model.patch_size))
        elif reference is not None and getattr(model, "ref_conv", None) is not None:
            frames = reference.shape[2] if reference.ndim == 5 else 1
            height, width = (side // p for side, p in zip(reference.shape[-2:], model.patch_size[1:], strict=True))
            before.append(TokenGrid(height, width, frames))
        if (appended := conditions.get("time_dim_concat")) is not None:
            after.append(video_grid(appended.shape, model.patch_size))
        first = sum(x.cells for x in before)
        expected = first + grid.cells + sum(x.cells for x in after)
        if not site.queries == site.keys == expected:
            return other_lengths(site, the_video=grid.cells, reference_frames=expected - grid.cells)
        groups = [group for x in before for group in frame_groups(REFERENCE, 0, x)]
        groups += [group for x in after for group in frame_groups(REFERENCE, first + grid.cells, x)]
        rows = slice(first, first + grid.cells)
        return Sequence(site.layer, grid, rows, rows, slice(0, 0), tuple(groups))

    def variant(self, call: ModelCall) -> tuple[bool, int]:
        """Whether there is an image to attend to; how many controls VACE has."""
        controls = call.conditions["vace_context"].shape[1] if "VaceWanModel" in call.family else 0
        return call.conditions.get("clip_fea") is not None, controls

    def blocks(self, denoiser: ForeignModule, call: ModelCall) -> Iterator[Block]:
        """Of VACE, control blocks run once for each control."""
        with_image, controls = self.variant(call)
        for number, block in enumerate(denoiser.blocks):
            module, replaced = inner(block, "self_attn"), (("dit", ("double_block", number)),)
            yield Block((f"block {number}",), module, _parts(module, with_image), replaced)
        for number, block in enumerate(denoiser.vace_blocks if controls else ()):
            several = [f"vace {number} of control {n}" for n in range(controls)]
            module, names = inner(block, "self_attn"), tuple(several) if controls > 1 else (f"vace {number}",)
            yield Block(names, module, _parts(module, False))


def role_of(site: CallSite, call: ModelCall) -> str:
    """The attention that a call is: "self", "image" or "text". "" where that is not known.

    In a compiled graph no hook says it, but the number of keys may.
    """
    if site.role or not site.layer:
        return site.role
    features = call.conditions.get("clip_fea")
    others = {"text": call.text, "image": 0 if features is None else features.shape[-2]}
    by_length = [name for name, tokens in others.items() if tokens == site.keys != site.queries]
    return by_length[0] if len(by_length) == 1 else ""


def _parts(block: ForeignModule, with_image: bool) -> tuple[Part, ...]:
    """``WanI2VCrossAttention`` attends to image and text: the module whose output its keys are tells them apart."""
    if not hasattr(block, "self_attn"):
        return (Part(),)
    own, cross = Part("self", block.self_attn), block.cross_attn
    if with_image and hasattr(cross, "k_img"):
        return own, Part("image", cross, cross.norm_k_img), Part("text", cross, cross.norm_k)
    return own, Part("text", cross)


def video_grid(shape: torch.Size, patch: tuple[int, int, int]) -> TokenGrid:
    """The tokens of a latent ``[..., frames, h, w]``, padded to whole patches."""
    frames, height, width = (-(-side // p) for side, p in zip(shape[-3:], patch, strict=True))
    return TokenGrid(height, width, frames)


def frame_groups(name: str, start: int, grid: TokenGrid) -> list[TokenGroup]:
    """Each frame of ``grid`` as a reference of its own, from column ``start``."""
    one = TokenGrid(grid.height, grid.width)
    return [
        TokenGroup(f"{name} {n + 1}", slice(start + n * one.cells, start + (n + 1) * one.cells), one.cells, one, str(n))
        for n in range(grid.frames)
    ]


def vace_references(call: ModelCall, chunk: Chunk) -> int | Skip:
    """How many of the first frames of a VACE latent stand for references.

    ``WanVaceToVideo`` (comfy_extras/nodes_wan.py) gives them as frames of which nothing is to be changed (a mask of 0),
    with exactly 0 where frames of a control video have what is changed in them, encoded.
    """
    counts = set()
    for control in call.conditions["vace_context"][chunk.rows].unbind(1):  # [items, 16 + 16 + 64, frames, h, w]
        counts.add(references_of_control(control))
    if len(counts) > 1:
        return Skip(f"VACE with controls that have different numbers of reference frames: {sorted(counts)}")
    return counts.pop()


def references_of_control(control: Tensor) -> int:
    """How many of the first frames of a control, ``[items, 96, frames, h, w]``, stand for references."""
    count = 0
    while count < control.shape[2] and _is_reference(control[:, :, count]):
        count += 1
    return count


def _is_reference(frame: Tensor) -> bool:
    """Whether a frame of a control, ``[items, 96, h, w]``, stands for a reference."""
    changed, mask = frame[:, 16:32], frame[:, 32:]
    return frame.shape[1] == 96 and not mask.any() and bool(changed.abs().max() < NEARLY_ZERO)
