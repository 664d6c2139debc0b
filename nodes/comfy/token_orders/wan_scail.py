"""SCAIL and SCAIL-2: reference frames before the video, and a video of poses after it."""

import dataclasses

from ....i2am_core.tokens import TokenGroup
from ..located import ModelCall
from .wan import REFERENCE, VideoTokens, Wan, frame_groups, video_grid

POSES = "pose video"


class WanScail(Wan):
    """``R|video|poses`` (``SCAILWanModel``, comfy/ldm/wan/model.py). Masks of identities are added to these tokens.

    Of several references the first is right before the video: ``WAN21_SCAIL.extra_conds`` (comfy/model_base.py).
    """

    family = "SCAILWanModel"

    def tokens(self, call: ModelCall) -> VideoTokens:
        """With references in the order in which a person connects them."""
        tokens = super().tokens(call)
        count = len(self.beside(call)[0])
        before, others = tokens.references[:count], tokens.references[count:]
        return dataclasses.replace(tokens, references=(*before[-1:], *before[:-1], *others))

    def beside(self, call: ModelCall) -> tuple[list[TokenGroup], list[TokenGroup]]:
        patch, before, after = call.denoiser.patch_size, [], []
        if (reference := call.conditions.get("reference_latent")) is not None:
            first, *others = frame_groups(REFERENCE, 0, video_grid(reference.shape, patch))
            before = [*others, first]
        if (appended := call.conditions.get("time_dim_concat")) is not None:
            after += frame_groups("frame beside the video", 0, video_grid(appended.shape, patch))
        if (poses := call.conditions.get("pose_latents")) is not None:
            grid = video_grid(poses.shape, patch)
            after.append(TokenGroup(POSES, slice(0), grid.cells, grid, POSES))
        return before, after
