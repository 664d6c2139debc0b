"""The order of the tokens in models of videos: Wan and HunyuanVideo.

Wan does not say which of its blocks asks, so its attention calls are told by their number, and proved by their lengths.
"""

import torch
from torch import Tensor

from ....i2am_core.tokens import TokenGrid, TokenGroup
from .base import CallSite, Chunk, ModelCall, Skip
from .sequences import Sequence, other_lengths

REFERENCE = "reference frame"
NOTHING = 1e-3  # of a latent whose values are around 1: what is left of zero when it went through the model's scaling


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


# Wan (comfy/ldm/wan/model.py)


def wan_call(site: CallSite, call: ModelCall) -> tuple[str, str] | Skip:
    """The block that asks, and whom: "self", "image" or "text".

    Each block asks itself, the image (``WanI2VCrossAttention``), and the text; of VACE, control blocks come between.
    """
    if call.options.get("patches_replace", {}).get("dit"):
        return Skip("another pack replaces blocks of this model, so that it is not known which of them asks")
    model = call.denoiser
    with_image = call.conditions.get("clip_fea") is not None and hasattr(model.blocks[0].cross_attn, "k_img")
    asked = ("self", "image", "text") if with_image else ("self", "text")
    calls = []
    controls = call.conditions["vace_context"].shape[1] if "VaceWanModel" in call.family else 0
    for i in range(len(model.blocks)):
        calls += [(f"block {i}", kind) for kind in asked]
        control = model.vace_layers_mapping.get(i) if controls else None
        if control is not None:
            names = [f"vace {control}" + (f" of control {n}" if controls > 1 else "") for n in range(controls)]
            calls += [(name, kind) for name in names for kind in ("self", "text")]
    if site.number >= len(calls):
        return Skip(f"attention call {site.number} of a {type(model).__name__}, which has {len(calls)} of its own")
    return calls[site.number]


def wan(site: CallSite, call: ModelCall) -> Sequence | Skip:
    """Self-attention, ``R|video|R``: of Wan Fun, VACE and others before the video, of Phantom and HuMo after it.

    References of VACE are frames of the latent itself, which are trimmed off when it is sampled; a layer's grid is
    the rest. See ``vace_references``.
    """
    found = wan_call(site, call)
    if isinstance(found, Skip):
        return found
    layer, asked = found
    if asked != "self":
        return Skip("attention of the video to the text" if asked == "text" else "attention of the video to an image")
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
    return Sequence(layer, grid, rows, rows, slice(0, 0), tuple(groups))


def vace_references(call: ModelCall, chunk: Chunk) -> int | Skip:
    """How many of the first frames of a VACE latent stand for references.

    ``WanVaceToVideo`` (comfy_extras/nodes_wan.py) gives them as frames of which nothing is to be changed (a mask of 0),
    with exactly 0 where frames of a control video have what is changed in them, encoded.
    """
    found = set()
    for control in call.conditions["vace_context"][chunk.rows].unbind(1):  # [items, 16 + 16 + 64, frames, h, w]
        count = 0
        while count < control.shape[2] and _is_reference(control[:, :, count]):
            count += 1
        found.add(count)
    if len(found) > 1:
        return Skip(f"VACE with controls that have different numbers of reference frames: {sorted(found)}")
    return found.pop()


def _is_reference(frame: Tensor) -> bool:
    """``frame [items, 96, h, w]``"""
    changed, mask = frame[:, 16:32], frame[:, 32:]
    return frame.shape[1] == 96 and not mask.any() and bool(changed.abs().max() < NOTHING)


# HunyuanVideo (comfy/ldm/hunyuan_video/model.py)


def hunyuan_video(site: CallSite, call: ModelCall) -> Sequence | Skip:
    """``R|video|T``, or ``T|R|video`` in newer hosts; ``T`` is the text, and byt5 and SigLIP tokens beside it."""
    model, conditions = call.denoiser, call.conditions
    if len(model.patch_size) != 3 or len(call.x) != 5:
        return Skip(f"attention of a {type(model).__name__} for single pictures")
    if site.queries == site.keys == call.text:
        return Skip("a refiner of the text, before it meets the video")
    grid = video_grid(call.x, model.patch_size)
    reference = conditions.get("ref_latent")
    references = [] if reference is None else [video_grid(reference.shape, model.patch_size)]
    before, texts = sum(x.cells for x in references), vision_tokens(call) + byt5_tokens(call) + call.text
    if not site.queries == site.keys == before + grid.cells + texts:
        return other_lengths(site, reference_frames=before, the_video=grid.cells, text_and_images=texts)
    first = 0 if video_first(call) else texts
    rows = slice(first + before, first + before + grid.cells)
    text = (rows.stop if video_first(call) else 0) + vision_tokens(call)
    if getattr(model, "cond_type_embedding", None) is not None:
        text += byt5_tokens(call)  # of 1.5, before the text; else behind it
    groups = [group for x in references for group in frame_groups(REFERENCE, first, x)]
    return Sequence(site.layer, grid, rows, rows, slice(text, text + call.text), tuple(groups))


def video_first(call: ModelCall) -> bool:
    """Whether the video is before the text: as ``DoubleStreamBlock`` (comfy/ldm/flux/layers.py) says it."""
    return bool(getattr(call.denoiser.double_blocks[0], "flipped_img_txt", False))


def vision_start(sequence: Sequence, call: ModelCall) -> int:
    """The column of the first image token, which are the first of all texts."""
    return sequence.picture.stop if video_first(call) else 0


def vision_tokens(call: ModelCall) -> int:
    """Of an image that CLIP vision encoded."""
    features = call.conditions.get("clip_fea")
    return 0 if features is None or getattr(call.denoiser, "vision_in", None) is None else features.shape[-2]


def byt5_tokens(call: ModelCall) -> int:
    features = call.conditions.get("txt_byt5")
    return 0 if features is None or getattr(call.denoiser, "byt5_in", None) is None else features.shape[-2]
