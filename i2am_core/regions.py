"""Parts of an image as cells of a grid: one rule for masks of the picture, of the reference and of the sampler."""

import torch.nn.functional as F
from torch import Tensor

from .tokens import TokenGrid


def cells_of(region: Tensor, grid: TokenGrid) -> Tensor:
    """The cells that a region ``[..., H, W]`` covers: ``[..., cells]`` boolean.

    Those covered by more than half; of a region that covers none so far, those it touches. An empty
    region has no cells.
    """
    flat = region.reshape(-1, 1, *region.shape[-2:]).float()
    cover = F.adaptive_avg_pool2d(flat, (grid.height, grid.width)).flatten(1)
    inside = cover > 0.5
    touched = (cover > 0) & ~inside.any(1, keepdim=True)
    return (inside | touched).reshape(*region.shape[:-2], grid.cells)
