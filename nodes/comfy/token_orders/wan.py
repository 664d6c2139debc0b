"""Wan: each block has self-attention of the video, then attention to an image, where it has one, and to the text."""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ....i2am_core.tokens import TokenGrid, TokenGroup
from ..blocks import Block, ForeignModule, Part, inner
from ..located import CallSite, Chunk, ModelCall, Skip
from .base import Sequence, TokenOrder, count_of, other_lengths

REFERENCE = "reference frame"
NEARLY_ZERO = 1e-3  # of a latent whose values are around 1: what a zero becomes in the model's scaling
OTHER_ROLES = {  # than self-attention
    "text": "attention of the video to the text",
    "image": "attention of the video to an image",
    "": "attention of a block of which it is not known what it attends to",
}


@dataclass(frozen=True)
class VideoTokens:
    """The tokens of a call: those of the video, and of references beside it."""

    grid: TokenGrid
    video: slice
    references: tuple[TokenGroup, ...]

    @property
    def count(self) -> int:
        """How many there are."""
        return self.grid.cells + count_of(self.references)


class Wan(TokenOrder):
    """Self-attention, ``R|video|R``: of Wan Fun and VACE before the video, of Phantom, HuMo and Bernini after it.

    ``WanModel`` (comfy/ldm/wan/model.py). References of VACE are frames of the latent itself, which are
    trimmed off when it is sampled; a layer's grid is the rest. See ``vace_references``.
    """

    family = "WanModel"

    def sequence(self, site: CallSite, call: ModelCall) -> Sequence | Skip:
        if (role := role_of(site, call)) != "self":
            return Skip(OTHER_ROLES[role], absent=bool(role))
        tokens = self.tokens(call)
        if not site.queries == site.keys == tokens.count:
            grid = tokens.grid
            return other_lengths(site, the_video=grid.cells, reference_frames=tokens.count - grid.cells)
        return Sequence(site.layer, tokens.grid, tokens.video, tokens.video, slice(0, 0), tokens.references)

    def tokens(self, call: ModelCall) -> "VideoTokens":
        """All tokens of the call, which are the rows of each of its attentions."""
        grid = video_grid(call.x, call.denoiser.patch_size)
        before, after = self.beside(call)
        first = count_of(before)
        references = *in_a_row(0, before), *in_a_row(first + grid.cells, after)
        return VideoTokens(grid, slice(first, first + grid.cells), references)

    def why_not_of_video(self, site: CallSite, call: ModelCall) -> Skip | None:
        """Why an attention to images or to the text is not that of the video; None where it is."""
        return None

    def beside(self, call: ModelCall) -> tuple[list[TokenGroup], list[TokenGroup]]:
        """The references before the video, and those behind it, in the order of their tokens."""
        model, conditions = call.denoiser, call.conditions
        before, after = [], []
        reference = conditions.get("reference_latent")
        if reference is not None and "HumoWanModel" in call.family:
            after += frame_groups(REFERENCE, 0, video_grid(reference.shape, model.patch_size))
        elif reference is not None and getattr(model, "ref_conv", None) is not None:
            before += frame_groups(REFERENCE, 0, whole_patches(reference.shape, model.patch_size))
        if (appended := conditions.get("time_dim_concat")) is not None:
            after += frame_groups(REFERENCE, 0, video_grid(appended.shape, model.patch_size))
        for number, latent in enumerate(conditions.get("context_latents") or ()):
            grid = video_grid(latent.shape, model.patch_size)
            what = "video" if grid.frames > 1 else "image"
            after.append(TokenGroup(f"context {what} {number + 1}", slice(0), grid.cells, grid, str(number)))
        return before, after

    def variant(self, call: ModelCall) -> tuple[bool, int]:
        """Whether there is an image to attend to; how many controls VACE has."""
        controls = call.conditions["vace_context"].shape[1] if "VaceWanModel" in call.family else 0
        with_image = any(call.conditions.get(name) is not None for name in ("clip_fea", "clip_fea_ref"))
        return with_image, controls

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


def whole_patches(shape: torch.Size, patch: tuple[int, int, int]) -> TokenGrid:
    """The tokens of a latent ``[B, C, h, w]`` or ``[..., frames, h, w]`` that is not padded: the rest is left out."""
    frames = patch[0] if len(shape) == 4 else shape[-3]
    frames, height, width = (side // p for side, p in zip((frames, *shape[-2:]), patch, strict=True))
    return TokenGrid(height, width, frames)


def in_a_row(start: int, groups: Iterable[TokenGroup]) -> list[TokenGroup]:
    """The groups at neighbouring columns, from ``start`` on."""
    placed = []
    for group in groups:
        placed.append(dataclasses.replace(group, index=slice(start, start + group.count)))
        start += group.count
    return placed


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


def vace_references_in_whole(call: ModelCall, chunk: Chunk) -> int | Skip:
    """The same of the whole latent, where the denoiser is given a context window of it.

    The windows' handler leaves lists in the conditioning as they are, and these are what ``WAN21_Vace.extra_conds``
    (comfy/model_base.py) makes the model's control of.
    """
    frames, masks = chunk.conditioning.get("vace_frames"), chunk.conditioning.get("vace_mask")
    if not frames or not masks:
        return 0
    counts = {_references_of_given(call, control, mask) for control, mask in zip(frames, masks, strict=True)}
    return counts.pop() if len(counts) == 1 else Skip("VACE with controls of different numbers of reference frames")


def _references_of_given(call: ModelCall, control: Tensor, mask: Tensor) -> int:
    """The same of a control as it is given: frames are prepared one by one, up to the first that is none."""
    for number in range(control.shape[2]):
        one = slice(number, number + 1)
        halves = [call.model.process_latent_in(half.float()) for half in control[:, :, one].split(16, 1)]
        if not references_of_control(torch.cat([*halves, mask[:, :, one].to(control.device).float()], 1)):
            return number
    return control.shape[2]


def references_of_control(control: Tensor) -> int:
    """How many of the first frames of a control, ``[items, 96, frames, h, w]``, stand for references."""
    count = 0
    while count < control.shape[2] and is_reference(control[:, :, count]):
        count += 1
    return count


def are_references(frames: Tensor) -> Tensor:
    """Which frames of a control, ``[items, 96, frames, h, w]``, stand for references: on the device."""
    if frames.shape[1] != 96 or not frames.shape[2]:
        return frames.new_zeros(frames.shape[2], dtype=torch.bool)
    changed, mask = (part.abs().amax((0, 1, 3, 4)) for part in (frames[:, 16:32], frames[:, 32:]))
    return (changed < NEARLY_ZERO) & (mask == 0)


def is_reference(frame: Tensor) -> bool:
    """Whether a frame of a control, ``[items, 96, h, w]``, stands for a reference."""
    changed, mask = frame[:, 16:32], frame[:, 32:]
    return frame.shape[1] == 96 and not mask.any() and bool(changed.abs().max() < NEARLY_ZERO)
