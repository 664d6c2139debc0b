"""Several latents in one run: a video and its sound, which newer ComfyUI cores put into one tensor.

``pack_latents`` (comfy/utils.py) lays them out one behind the other: ``[items, 1, values of all]``. Ours is the first,
the video.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

SHAPES = "latent_shapes"  # the name under which samplers, conditionings and models get the shapes of all of them
WITH_SOUND = {"LTXAVModel", "MiniMaxH3Model"}  # denoisers of which it is known what becomes of the others


def first_of(latents: Tensor, shapes: Sequence[torch.Size]) -> Tensor:
    """The first latent of those that are in one tensor, ``[items, C, (frames,) h, w]``: a view."""
    if len(shapes) < 2:
        return latents
    shape = shapes[0][1:]
    return latents[:, 0, : shape.numel()].unflatten(1, shape)


def shape_of_first(x: Tensor, conditions: Mapping[str, Any]) -> torch.Size:
    """The shape of the first latent in what a denoiser is given."""
    shapes: Sequence[torch.Size] = conditions.get(SHAPES) or ()
    return torch.Size((x.shape[0], *shapes[0][1:])) if len(shapes) > 1 else x.shape


def is_several(samples: Any) -> bool:
    """Whether a node's output holds several latents."""
    return bool(getattr(samples, "is_nested", False)) and not isinstance(samples, Tensor)


def packed(samples: Any) -> Tensor:
    """Such an output in one tensor, as samplers have it."""
    return torch.cat([latent.flatten(1) for latent in samples.unbind()], 1)[:, None]
