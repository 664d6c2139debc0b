"""Parts of an image as cells of a grid: one rule for masks of the picture, of the reference and of the sampler.

A place is inside a mask where the mask is above half of its *height*, and above ``FAINT``. Of a mask of 0 and 1 that is
where it is 1.

A soft mask may be of any height, since samplers paint wherever it is above 0: mixed with what was there, or for a part
of the steps. Differential Diffusion paints a place in those steps whose threshold, which falls from 1 to 0, is no more
than the mask: with 0.45 in the last 45 % of them. So one of at most 0.45 says the same as one of at most 1. Where it is
half as high, a place is painted half as long as the rest: what resizing or a blur leaves around a mask is not inside.

Two things are none of a mask. What is at most ``FAINT`` is painted in one of 20 steps, which hardly changes it: so the
noise of a black JPEG, up to 0.03, is no mask, though all of it is above half of its largest value. And a speck does not
make the rest faint: the height is the largest value but for those of one place in ``STRAY``.
"""

import torch.nn.functional as F
from torch import Tensor

from .tokens import TokenGrid

FAINT = 0.05
STRAY = 50


def has_aspect_of(region: Tensor, grid: TokenGrid) -> bool:
    """Whether a region ``[..., H, W]``, of any size, has the shape of the grid, to within a cell."""
    height, width = region.shape[-2:]
    off = abs(grid.width - grid.height * width / height), abs(grid.height - grid.width * height / width)
    return min(off) <= 1


def inside_of(mask: Tensor) -> Tensor:
    """Which pixels of a mask ``[..., H, W]`` in [0, 1] are inside: ``[..., H, W]`` boolean. Of a faint mask, none."""
    mask = mask.float().clamp(0, 1)
    return mask > level_of(mask)


def level_of(mask: Tensor) -> Tensor:
    """Above which value a place is inside a mask ``[..., H, W]``: ``[..., 1, 1]``, half of its height or ``FAINT``."""
    ranked = mask.float().clamp(0, 1).flatten(-2).sort(-1, descending=True).values
    covered = (ranked > FAINT * ranked[..., :1]).sum(-1, keepdim=True)  # a halo is none of it, however large
    height = ranked.gather(-1, covered // STRAY)
    return (height / 2).clamp(min=FAINT)[..., None]


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
