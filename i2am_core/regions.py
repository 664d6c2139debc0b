"""Parts of an image as cells of a grid: one rule for masks of the picture, of the reference and of the sampler.

A place is inside a mask where the mask is above half of its own largest value. Of a mask of 0 and 1 that is where it is
1. A soft one may be of any strength, since samplers paint wherever it is above 0, for a part of the steps (Differential
Diffusion) or mixed with what was there: one of at most 0.45 says the same as one of at most 1. What resizing or a blur
leaves around a mask does not count.
"""

import torch.nn.functional as F
from torch import Tensor

from .tokens import TokenGrid


def has_aspect_of(region: Tensor, grid: TokenGrid) -> bool:
    """Whether a region ``[..., H, W]``, of any size, has the shape of the grid, to within a cell."""
    height, width = region.shape[-2:]
    off = abs(grid.width - grid.height * width / height), abs(grid.height - grid.width * height / width)
    return min(off) <= 1


def inside_of(mask: Tensor) -> Tensor:
    """Which pixels of a mask ``[..., H, W]`` in [0, 1] are inside: ``[..., H, W]`` boolean. Of an empty mask, none."""
    mask = mask.float().clamp(0, 1)
    return mask > level_of(mask)


def level_of(mask: Tensor) -> Tensor:
    """Above which value a place is inside a mask ``[..., H, W]``: half of its largest, ``[..., 1, 1]``."""
    return mask.float().clamp(0, 1).amax((-2, -1), keepdim=True) / 2


def is_soft(mask: Tensor) -> bool:
    """Whether a mask has other values than 0 and 1."""
    return not bool(((mask == 0) | (mask == 1)).all())


def cover_of(region: Tensor, grid: TokenGrid) -> Tensor:
    """How much of each cell of one frame is inside a region ``[..., H, W]``: ``[..., plane]`` in [0, 1]."""
    return means_over(inside_of(region).float(), grid)


def cells_of(region: Tensor, grid: TokenGrid) -> Tensor:
    """The cells that a region ``[..., H, W]`` in [0, 1] covers: ``[..., cells]`` boolean.

    These are the cells of which more than half is inside; where there are none, all that its inside touches. An empty
    region has no cells. On the grid of a video, the region is the same in all frames.
    """
    cover = cover_of(region, grid)
    inside = cover > 0.5
    touched = (cover > 0) & ~inside.any(-1, keepdim=True)
    return (inside | touched).repeat(*(1,) * (region.ndim - 2), grid.frames)


def means_over(values: Tensor, grid: TokenGrid) -> Tensor:
    """The mean of values ``[..., H, W]`` over each cell of one frame: ``[..., plane]``."""
    flat = values.reshape(-1, 1, *values.shape[-2:])
    means = F.adaptive_avg_pool2d(flat, (grid.height, grid.width))
    return means.reshape(*values.shape[:-2], grid.plane)
