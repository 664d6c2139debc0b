"""What a run was given inside the sampler's latent: frames of a video that its noise mask keeps."""

from collections.abc import Iterator

import comfy.sampler_helpers
from torch import Tensor

from ...i2am_core.given import GivenReference
from .given_run import GivenRun, in_words

WHOLE = 0.999  # of a mask: a frame that is painted as much as that is not kept
INSIDE = "inside the latent, as a part of the video, and it counts as video in maps"
COMPARE = (
    "I2AM Effect cannot take away what is in the latent: sample once more with the same seed and without the image, "
    "and compare the two"
)
KEPT_PART = "the part of the picture that the inpainting mask keeps"
ONLY_YOU = "whether it holds a reference, as canvases side by side do, nothing says"
MARK = (
    "If it does (ACE++, IC-LoRA, side by side), mark it: reference_region of I2AM Capture, and generated_region for "
    "what is painted"
)


def given_in_latent(run: GivenRun) -> Iterator[GivenReference]:
    """Frames that the mask of a video keeps; of a picture, only where nothing was captured: it may be a canvas."""
    if run.mask is None:
        return
    if run.noise.ndim == 5:
        yield from _frames(run, run.mask)
    elif run.noise.ndim == 4 and not run.captured and not run.has_regions and bool((run.mask < WHOLE).any()):
        yield GivenReference(KEPT_PART, "unknown", ONLY_YOU, MARK, "samples", certain=False)


def _frames(run: GivenRun, mask: Tensor) -> Iterator[GivenReference]:
    count = run.noise.shape[2]
    painted = comfy.sampler_helpers.prepare_mask(mask.float(), run.noise.shape, "cpu").amax((0, 1, 3, 4))
    left = (painted < WHOLE).nonzero().flatten().tolist()
    if not left or len(left) == count:
        return
    frames = f"frame{'s' * (len(left) > 1)} {in_words(n + 1 for n in left)} of {count}"
    what = f"{frames} of the latent, which its noise mask keeps"
    starts = any(c.get("guiding_frame_index") is not None for c in run.conditionings)
    if starts and "reference frames" in run.captured:
        yield GivenReference(what, "captured", "by reference frames", key="samples")
    else:
        yield GivenReference(what, "elsewhere", INSIDE, COMPARE, "samples")
