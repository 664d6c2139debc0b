"""References that are frames beside those of the video, in its self-attention: Phantom, Wan Fun, VACE, HunyuanVideo.

Where they are is in ``token_orders``. References of VACE and of HunyuanVideo's "v2 (replace)" are frames of the
latent itself: VACE generates its own again, as it is asked to keep them, and HunyuanVideo keeps the first.
"""

import dataclasses

import torch

from ....i2am_core.tokens import TokenGrid, span
from ..located import CallSite, Chunk, Located, ModelCall, Skip
from ..token_orders import Sequence, sequence_of
from ..token_orders.wan import REFERENCE, frame_groups, vace_references
from .base import Documented, Mechanism

GENERATED_AGAIN = (
    "VACE generates its reference frames anew, as the first of the latent: attention is to them as they are at that "
    "step, and maps are of the other frames"
)
KEPT = "the first frame of the latent is the reference itself: it is kept, and counts as 0 in maps of the video"


class ReferenceFrames(Mechanism):
    name = "reference frames"
    priority = 20
    documented = (
        Documented(
            users="Wan Phantom, Fun reference, HuMo; HunyuanVideo custom",
            captured="self-attention of the video to frames beside it",
            spatial="yes",
            certainty="exact",
            limits="HunyuanVideo custom takes one row a call (the host)",
        ),
        Documented(
            users="Wan VACE",
            captured="the same, to the first frames of the latent",
            spatial="yes",
            certainty="exact",
            limits="the reference is generated anew with the video, and seen as it is at that step; not in context "
            "windows",
        ),
        Documented(
            users="HunyuanVideo I2V, v2 (replace)",
            captured="the same, to the first frame, which is kept",
            spatial="yes",
            certainty="exact",
            limits="that frame's own maps are 0",
        ),
    )

    def locate(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip | None:
        conditions = call.conditions
        inside = "VaceWanModel" in call.family
        kept = conditions.get("guiding_frame_index") is not None and "HunyuanVideo" in call.family
        named = ("time_dim_concat", "reference_latent", "ref_latent")
        if not (inside or kept or any(conditions.get(name) is not None for name in named)):
            return None
        sequence = sequence_of(site, call)
        if isinstance(sequence, Skip):
            return sequence
        if chunk.placement.window is not None and (inside or kept):
            return Skip(
                "references inside the latent of a video that is denoised in context windows: not supported yet"
            )
        gain, note = None, ""
        if inside:
            count = call.once(("VACE references", chunk.rows.start), lambda: vace_references(call, chunk))
            if isinstance(count, Skip):
                return count
            if 0 < count < sequence.grid.frames:
                sequence, note = _split(sequence, count), GENERATED_AGAIN
        elif kept:
            first = dataclasses.replace(sequence.grid, frames=1)
            start = span("start image", sequence.picture.start, first)
            sequence = dataclasses.replace(sequence, references=(*sequence.references, start))
            gain = (torch.arange(sequence.grid.cells) >= first.cells).float()[None]
            note = KEPT
        if not sequence.references:
            return Skip(f"self-attention of a {type(call.denoiser).__name__} without a reference frame")
        return sequence.located(site, sequence.references, gain, note)


def _split(sequence: Sequence, count: int) -> Sequence:
    """The first ``count`` frames of the video as references, the others as the video."""
    grid, start, stop = sequence.grid, sequence.picture.start, sequence.picture.stop
    references = TokenGrid(grid.height, grid.width, count)
    rest = TokenGrid(grid.height, grid.width, grid.frames - count)
    rows = slice(start + references.cells, stop)
    groups = (*frame_groups(REFERENCE, start, references), *sequence.references)
    return dataclasses.replace(sequence, grid=rest, queries=rows, picture=rows, references=groups)
