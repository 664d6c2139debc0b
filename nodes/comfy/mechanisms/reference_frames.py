"""References that are frames beside those of the video, in its self-attention: Phantom, Wan Fun, VACE, HunyuanVideo.

``token_orders`` say where they are. References of VACE and of HunyuanVideo's "v2 (replace)" are frames of the
latent itself: VACE is conditioned to generate its own once more, and HunyuanVideo leaves the first as it is.
"""

import dataclasses

import torch

from ....i2am_core.printing import listed
from ....i2am_core.tokens import TokenGrid, span
from ..located import CallSite, Chunk, Located, ModelCall, Skip
from ..token_orders import Sequence, sequence_of
from ..token_orders.wan import REFERENCE, frame_groups, vace_references
from .base import Documented, Mechanism

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


class ReferenceFrames(Mechanism):
    name = "reference frames"
    priority = 20
    documented = (
        Documented(
            users="Wan Phantom, Fun reference, HuMo; HunyuanVideo custom",
            captured="self-attention of the video to frames beside it",
            spatial="yes",
            certainty="exact",
            limits="ComfyUI runs HunyuanVideo custom for one row a call only",
        ),
        Documented(
            users="Wan VACE",
            captured="the same, to the first frames of the latent",
            spatial="yes",
            certainty="exact",
            limits="the reference is generated anew with the video, and read as it is at that step; a share does not "
            "know the strength, of which 0 is said; not in context windows",
        ),
        Documented(
            users="HunyuanVideo I2V, v2 (replace)",
            captured="the same, to the first frame, which does not change",
            spatial="yes",
            certainty="exact",
            limits="that frame's own maps are 0",
        ),
    )

    def may_be_read(self, role: str, call: ModelCall) -> bool:
        return "UNetModel" not in call.family

    def locate(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip | None:
        conditions = call.conditions
        of_vace = "VaceWanModel" in call.family
        first_frame = conditions.get("guiding_frame_index") is not None and "HunyuanVideo" in call.family
        names = ("time_dim_concat", "reference_latent", "ref_latent")
        if not (of_vace or first_frame or any(conditions.get(name) is not None for name in names)):
            return None
        sequence = sequence_of(site, call)
        if isinstance(sequence, Skip):
            return sequence
        if chunk.placement.window is not None and (of_vace or first_frame):
            return Skip(
                "references inside the latent of a video that is denoised in context windows: not supported yet"
            )
        gain, note, inert = None, "", False
        if of_vace:
            count = call.once(("VACE references", chunk.rows.start), lambda: vace_references(call, chunk))
            if isinstance(count, Skip):
                return count
            if 0 < count < sequence.grid.frames:
                sequence, (note, inert) = _split(sequence, count), _on_strength(call)
        elif first_frame:
            first = dataclasses.replace(sequence.grid, frames=1)
            start = span("start image", sequence.picture_span.start, first)
            sequence = dataclasses.replace(sequence, references=(*sequence.references, start))
            gain = (torch.arange(sequence.grid.cells) >= first.cells).float()[None]
            note = FIRST_FRAME
        if not sequence.references:
            return Skip(f"self-attention of a {type(call.denoiser).__name__} without a reference frame")
        return dataclasses.replace(sequence.located(site, sequence.references, gain, note), inert=inert)


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


def _split(sequence: Sequence, count: int) -> Sequence:
    """The first ``count`` frames of the video as references, the others as the video."""
    grid, picture = sequence.grid, sequence.picture_span
    references = TokenGrid(grid.height, grid.width, count)
    rest = TokenGrid(grid.height, grid.width, grid.frames - count)
    rows = slice(picture.start + references.cells, picture.stop)
    groups = (*frame_groups(REFERENCE, picture.start, references), *sequence.references)
    return dataclasses.replace(sequence, grid=rest, queries=rows, picture=rows, references=groups)
