"""References that are frames of the latent itself: of VACE, Wan Animate, and HunyuanVideo's "v2 (replace)".

VACE and Wan Animate generate theirs once more, as the first frames, which are trimmed off when the video is sampled.
HunyuanVideo leaves the first as it is.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ....i2am_core.printing import listed
from ....i2am_core.tokens import TokenGrid, TokenGroup, span
from ..located import Chunk, ModelCall, Skip
from ..token_orders import Sequence
from ..token_orders.wan import REFERENCE, are_references, frame_groups, vace_references, vace_references_in_whole
from ..windows import Window

GENERATED_ANEW = (
    "VACE generates its reference frames anew, as the first of the latent: attention is to them as they are at that "
    "step, and maps are of the other frames"
)
WITHOUT_STRENGTH = (
    "VACE has strength 0: nothing of the reference reaches the model, which makes the reference's frame of its own; "
    "attention to that frame is measured, and says nothing of the reference"
)
SOME_WITHOUT_STRENGTH = "control video {} of {} of VACE has strength 0: nothing of it reaches the model"
FIRST_FRAME = (
    "the first frame of the latent is the reference itself: it does not change, and counts as 0 in maps of the video"
)
ANIMATE_ANEW = (
    "Wan Animate generates its reference anew, as the first frame of the latent, from channels beside it: attention is "
    "to that frame as it is at that step, and it counts as 0 in maps of the video"
)
NOT_IN_WINDOWS = "references inside the latent of a video that is denoised in context windows: not supported yet"
NONE_IN_WINDOW = "a context window that holds no frame of the reference"
SOME_IN_WINDOW = (
    "a context window that holds some of the frames of the reference, or has them between frames of the video: not "
    "supported yet"
)
ANIMATE = {"AnimateWanModel", "WanAnimate2Model"}


@dataclass(frozen=True)
class Split:
    """A call's tokens, with those frames of the latent as references that are; ``gain`` and others as of Located."""

    sequence: Sequence
    gain: Tensor | None = None
    note: str = ""
    inert: bool = False


def inside_latent(call: ModelCall) -> Callable[[Sequence, Chunk, ModelCall], Split | Skip] | None:
    """What finds the references among the frames of the latent; None where this model has none there."""
    if "VaceWanModel" in call.family:
        return _of_vace
    if "HunyuanVideo" in call.family and call.conditions.get("guiding_frame_index") is not None:
        return _of_hunyuan
    if call.family & ANIMATE and call.conditions.get("c_concat") is not None:
        return _of_animate
    return None


def _of_hunyuan(sequence: Sequence, chunk: Chunk, call: ModelCall) -> Split | Skip:
    if chunk.placement.window is not None:
        return Skip(NOT_IN_WINDOWS)
    return _first_frame(sequence, "start image", FIRST_FRAME)


def _of_animate(sequence: Sequence, chunk: Chunk, call: ModelCall) -> Split | Skip:
    """``WanAnimateToVideo`` (comfy_extras/nodes_wan.py) says in a mask that the first frame of its latent is known."""
    is_known = call.once(("first frame is known", chunk.rows.start), lambda: _is_first_known(call, chunk))
    window = chunk.placement.window
    if window is not None and 0 not in window.frames:  # what is known there goes on from an earlier video, or is kept
        return Skip(SOME_IN_WINDOW) if is_known else Skip(NONE_IN_WINDOW, absent=True)
    if window is not None and window.frames[0] != 0:
        return Skip(SOME_IN_WINDOW)
    return _first_frame(sequence, f"{REFERENCE} 1", ANIMATE_ANEW) if is_known else Split(sequence)


def _is_first_known(call: ModelCall, chunk: Chunk) -> bool:
    """By the mask, the first four of the channels ``[rows, 4 + 16, frames, h, w]`` beside the latent: 1 is known."""
    return bool((call.conditions["c_concat"][chunk.rows, :4, 0] == 1).all())


def _first_frame(sequence: Sequence, name: str, note: str) -> Split:
    """The first frame of the latent as a reference; in maps of the video, of all frames, it counts as 0."""
    grid = sequence.grid
    first = dataclasses.replace(grid, frames=1)
    reference = span(name, sequence.picture_span.start, first)
    gain = (torch.arange(grid.cells) >= first.cells).float()[None]
    return Split(dataclasses.replace(sequence, references=(*sequence.references, reference)), gain, note)


def _of_vace(sequence: Sequence, chunk: Chunk, call: ModelCall) -> Split | Skip:
    count = call.once(("VACE references", chunk.rows.start), lambda: vace_references(call, chunk))
    if isinstance(count, Skip):
        return count
    if (window := chunk.placement.window) is not None:
        skip = call.once(("VACE in windows", chunk.rows.start), lambda: _why_not_of_window(count, window, chunk, call))
        if skip is not None:
            return skip
    if not 0 < count < sequence.grid.frames:
        return Split(sequence)
    note, inert = _on_strength(call)
    return Split(_without_first(sequence, count), None, note, inert)


def _why_not_of_window(count: int, window: Window, chunk: Chunk, call: ModelCall) -> Skip | None:
    """Why the first ``count`` frames of a window are not all frames of the references, and only those."""
    whole = call.once(("VACE in whole", chunk.rows.start), lambda: vace_references_in_whole(call, chunk))
    if isinstance(whole, Skip):
        return whole
    controls = call.conditions["vace_context"][chunk.rows].unbind(1)
    later = torch.stack([are_references(control[:, :, count:]).any() for control in controls])
    if bool(later.any()) or bool((window.frames[count:] < whole).any()) or count not in (0, whole):
        return Skip(SOME_IN_WINDOW)
    return Skip(NONE_IN_WINDOW, absent=True) if whole and not count else None


def _on_strength(call: ModelCall) -> tuple[str, bool]:
    """A note on VACE's references, and whether nothing of them reaches the model.

    ``VaceWanModel`` (comfy/ldm/wan/model.py) multiplies what it makes of each control with that control's strength.
    """
    controls = call.conditions["vace_context"].shape[1]
    strengths = call.conditions.get("vace_strength") or [1.0] * controls
    without = [n + 1 for n, strength in enumerate(strengths[:controls]) if not torch.as_tensor(strength).any()]
    if len(without) == controls:
        return WITHOUT_STRENGTH, True
    some = SOME_WITHOUT_STRENGTH.format(listed(map(str, without)), controls)
    return f"{GENERATED_ANEW}; {some}" if without else GENERATED_ANEW, False


def _without_first(sequence: Sequence, count: int) -> Sequence:
    """The first ``count`` frames of the video as references, the others as the video."""
    grid, picture = sequence.grid, sequence.picture_span
    references = TokenGrid(grid.height, grid.width, count)
    rest = TokenGrid(grid.height, grid.width, grid.frames - count)
    rows = slice(picture.start + references.cells, picture.stop)
    groups: tuple[TokenGroup, ...] = (*frame_groups(REFERENCE, picture.start, references), *sequence.references)
    return dataclasses.replace(sequence, grid=rest, queries=rows, picture=rows, references=groups)
