"""What a run was given inside the sampler's latent: frames of a video, a canvas, a picture that is painted over."""

from collections.abc import Iterator

import comfy.sampler_helpers
import torch
from torch import Tensor

from ...i2am_core.given import GivenReference
from .ended_run import EndedRun, frames_text, is_blank

WHOLE = 0.999  # of a mask: a frame that is painted as much as that is not kept
INSIDE = "inside the latent, as a part of the video, and it counts as video in maps"
COMPARE = (
    "I2AM Effect cannot take away what is in the latent: sample once more with the same seed and without the image, "
    "and compare the two"
)
KEPT_PART = "the part of the picture that the inpainting mask keeps"
ONLY_YOU = "whether it holds a reference, as canvases side by side do, nothing says"
MARK = (
    "If it does (ACE++, IC-LoRA, side by side), mark it: reference_region of {}, and generated_region for what is "
    "painted"
)
START = "the picture in the latent that the sampler starts from, as in image to image"
PAINTED_OVER = "it is painted over, and no attention looks at it"


def given_in_latent(run: EndedRun) -> Iterator[GivenReference]:
    """Frames that the mask of a video keeps.

    Where nothing was captured, also what may be a reference: the kept part of a picture, which may be a canvas, and
    what is painted over.
    """
    if run.mask is not None and run.noise.ndim == 5:
        yield from _frames(run, run.mask)
    if run.captured or run.has_regions:
        return
    if run.mask is not None and run.noise.ndim == 4 and bool((run.mask < WHOLE).any()):
        yield GivenReference(KEPT_PART, "unknown", ONLY_YOU, MARK.format(run.node), "samples", certain=False)
    elif run.mask is None and _holds_picture(run.latent):
        yield GivenReference(START, "elsewhere", PAINTED_OVER, key="samples", certain=False)


def _holds_picture(latent: Tensor | None) -> bool:
    return latent is not None and bool(torch.count_nonzero(latent)) and not is_blank(latent)


def _guides(run: EndedRun) -> int:
    """How many frames at the end are LTXV's guides, which the conditioning accounts for."""
    tokens = max((x.shape[2] for c in run.conditionings if (x := c.get("keyframe_idxs")) is not None), default=0)
    return int(tokens // run.noise.shape[-2:].numel())


def _frames(run: EndedRun, mask: Tensor) -> Iterator[GivenReference]:
    count = run.noise.shape[2]
    painted = comfy.sampler_helpers.prepare_mask(mask.float(), run.noise.shape, "cpu").amax((0, 1, 3, 4))
    left = [n for n in (painted < WHOLE).nonzero().flatten().tolist() if n < count - _guides(run)]
    if not left or len(left) == count:
        return
    what = f"{frames_text(left, count)} of the latent, which its noise mask keeps"
    starts = any(c.get("guiding_frame_index") is not None for c in run.conditionings)
    if starts and "reference frames" in run.captured:
        yield GivenReference(what, "captured", "by reference frames", key="samples")
    else:
        yield GivenReference(what, "elsewhere", INSIDE, COMPARE, "samples")
