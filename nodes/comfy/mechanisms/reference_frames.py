"""References that are frames beside those of the video, in its self-attention: Phantom, Wan Fun, Bernini, SCAIL, S2V.

``token_orders`` say where they are. References of some models are frames of the latent itself: ``frames_inside``.
"""

import dataclasses

from ..located import CallSite, Chunk, Located, ModelCall, Skip
from ..token_orders import sequence_of
from .base import Documented, Mechanism
from .frames_inside import Split, inside_latent

BESIDE_THE_VIDEO = (  # what the model gets that has tokens of its own there
    "time_dim_concat",
    "reference_latent",
    "ref_latent",
    "context_latents",
    "reference_motion",
    "pose_latents",
    "keyframe_idxs",
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
            users="Wan S2V, SCAIL, SCAIL-2, Bernini",
            captured="the same, also to frames of motion before it (S2V), poses (SCAIL) and whole videos (Bernini), "
            "each a reference of its own",
            spatial="yes; a video as the mean of its frames",
            certainty="exact",
            limits="S2V from ComfyUI 0.8 on",
        ),
        Documented(
            users="LTXV and LTX-2: `LTXVAddGuide`, IC-LoRA",
            captured="the same, to guides at the end of the latent; the strength of a guide counts in the share",
            spatial="each on its own grid, also a coarser one",
            certainty="exact",
            limits="maps are of the video without its guides, not of the sound. In ComfyUI 0.3.75 each frame of a "
            "guide is a reference. Not in context windows",
        ),
        Documented(
            users="Wan Animate",
            captured="the same, to the first frame of the latent, beside the image's CLIP tokens",
            spatial="yes",
            certainty="exact",
            limits="the frame is generated anew with the video, and read as it is at that step; its own maps are 0. A "
            "background and motion that goes on count as video",
        ),
        Documented(
            users="Wan VACE",
            captured="the same, to the first frames of the latent",
            spatial="yes",
            certainty="exact",
            limits="the reference is generated anew with the video, and read as it is at that step; a share does not "
            "know the strength, of which 0 is said. In context windows from ComfyUI 0.33 on",
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

    def is_in_use(self, chunk: Chunk, call: ModelCall) -> bool:
        beside = any(call.conditions.get(name) is not None for name in BESIDE_THE_VIDEO)
        return beside or inside_latent(call) is not None

    def locate(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip:
        frames_of_latent = inside_latent(call)
        sequence = sequence_of(site, call)
        if isinstance(sequence, Skip):
            return sequence
        split: Split | Skip = frames_of_latent(sequence, chunk, call) if frames_of_latent else Split(sequence)
        if isinstance(split, Skip):
            return split
        if not split.sequence.references:
            return Skip(f"self-attention of a {type(call.denoiser).__name__} without a reference frame")
        located = split.sequence.located(site, split.sequence.references, split.gain, split.note)
        return dataclasses.replace(located, inert=split.inert)
