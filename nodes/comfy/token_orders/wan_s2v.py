"""Wan S2V: a reference frame after the video, then frames of motion that came before it, coarser the older they are."""

import torch

from ....i2am_core.tokens import TokenGroup
from ..located import ModelCall
from .wan import REFERENCE, Wan, frame_groups, whole_patches

MOTION = "motion, {} frame{} before"  # how many there are before those that are nearer


class WanS2V(Wan):
    """``video|R|motion`` (``WanModel_S2V`` and ``FramePackMotioner``, comfy/ldm/wan/model.py).

    Sound is attended to apart, in calls without the run's options. Before ComfyUI 0.8 no call has them.
    """

    family = "WanModel_S2V"

    def beside(self, call: ModelCall) -> tuple[list[TokenGroup], list[TokenGroup]]:
        model, after = call.denoiser, []
        if (reference := call.conditions.get("reference_latent")) is not None:
            after += frame_groups(REFERENCE, 0, whole_patches(reference.shape, model.patch_size))
        if (motion := call.conditions.get("reference_motion")) is not None:
            packer = model.frame_packer
            layers = packer.proj, packer.proj_2x, packer.proj_4x
            for frames, layer in zip(packer.zip_frame_buckets, layers, strict=True):
                grid = whole_patches(torch.Size((frames, *motion.shape[-2:])), layer.kernel_size)
                name = MOTION.format(frames, "s" * (frames > 1))
                after.append(TokenGroup(name, slice(0), grid.cells, grid, f"motion {frames}"))
        return [], after
