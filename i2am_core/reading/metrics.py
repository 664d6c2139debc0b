"""Numbers that say something of a map. IMACS is the paper's "Inpainting Mask Attention Consistency Score"."""

import math

import torch
from torch import Tensor

from ..errors import OneSidedMask
from .aggregate import resize


def min_max(values: Tensor) -> Tensor:
    """Each map of ``[..., h, w]`` stretched to [0, 1]; a flat map becomes 0."""
    low, high = values.amin((-2, -1), keepdim=True), values.amax((-2, -1), keepdim=True)
    return torch.where(high > low, (values - low) / (high - low).clamp(min=torch.finfo(values.dtype).tiny), 0.0)


def imacs(values: Tensor, mask: Tensor, penalty: float = 3.0, threshold: float = 0.4) -> float:
    """IMACS (Park & Jang, ICLR 2025) of a unified map ``[h, w]`` against a mask ``[H, W]`` at image size.

    The map is resized to the mask, stretched to [0, 1], and values up to ``threshold`` are set to 0. The score
    is its mean inside the mask minus ``penalty`` times its mean outside: at most 1, and negative where the
    attention falls outside. The mask is 1 inside, and cut at 0.5. Raises OneSidedMask where it is empty or full.
    """
    inside = mask > 0.5
    if not inside.any() or inside.all():
        raise OneSidedMask(full=bool(inside.any()))
    stretched = min_max(resize(values.float(), *mask.shape))
    strong = torch.where(stretched > threshold, stretched, 0.0)
    return (strong[inside].mean() - penalty * strong[~inside].mean()).item()


def share_inside(values: Tensor, mask: Tensor) -> float:
    """The part of a map's sum that lies inside a mask, in [0, 1]; both ``[h, w]``, and the mask may be soft."""
    total = values.sum()
    return (values * mask).sum().item() / total.item() if total > 0 else 0.0


def concentration(values: Tensor) -> Tensor:
    """How far maps ``[n, h, w]`` are from flat, ``[n]``: 0 where all cells are equal, 1 where all but one are 0.

    It is one minus the entropy of the map, scaled to sum to 1, over the entropy of a flat map.
    """
    flat = values.flatten(1)
    if flat.shape[1] == 1:
        return torch.ones(len(flat))
    total = flat.sum(1, keepdim=True)
    p = torch.where(total > 0, flat / total, 1 / flat.shape[1])  # a map of zeros is flat
    return 1 - torch.special.entr(p).sum(1) / math.log(flat.shape[1])
