"""Parts of an image as cells of a grid: one rule for masks of the picture, of the reference and of the sampler."""

import torch.nn.functional as F
from torch import Tensor

from .tokens import TokenGrid


def has_aspect_of(region: Tensor, grid: TokenGrid) -> bool:
    """Whether a region ``[..., H, W]``, of any size, has the shape of the grid, to within a cell."""
    height, width = region.shape[-2:]
    off = abs(grid.width - grid.height * width / height), abs(grid.height - grid.width * height / width)
    return min(off) <= 1


def cells_of(region: Tensor, grid: TokenGrid) -> Tensor:
    """The cells that a region ``[..., H, W]`` in [0, 1] covers: ``[..., cells]`` boolean.

    These are the cells covered by more than half; where there are none, all that the region touches. An empty region
    has no cells. On the grid of a video, the region is the same in all frames.
    """
    flat = region.reshape(-1, 1, *region.shape[-2:]).float()
    cover = F.adaptive_avg_pool2d(flat, (grid.height, grid.width)).flatten(1)
    inside = cover > 0.5
    touched = (cover > 0) & ~inside.any(1, keepdim=True)
    return (inside | touched).repeat(1, grid.frames).reshape(*region.shape[:-2], grid.cells)
