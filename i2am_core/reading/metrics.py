"""Numbers that say something of a map. IMACS is the paper's "Inpainting Mask Attention Consistency Score"."""

import math

import torch
from torch import Tensor

from ..errors import FlatMap, OneSidedMask
from ..half import ROUNDING
from ..regions import inside_of
from .aggregate import resize

FLAT = 2 * ROUNDING
"""What the values of a map may differ by, relative to the largest, and still be equal but for rounding.

Half precision moves each of two equal values by ``ROUNDING`` at most, in opposite directions. It is taken of maps in
full precision, too, so that a map is flat or not whatever the memory budget was: there, a value is a sum over products
of a head's D numbers, whose rounding is D times 6e-8 of the logit at the worst, 8e-6 for the usual 128, and with logits
of 100 just below this. Stretching such a map to [0, 1] would show nothing but rounding.
"""


def is_flat(values: Tensor) -> Tensor:
    """Which maps of ``[..., h, w]`` are the same everywhere, but for rounding: ``[..., 1, 1]`` boolean."""
    low, high = values.amin((-2, -1), keepdim=True), values.amax((-2, -1), keepdim=True)
    return high - low <= FLAT * torch.maximum(low.abs(), high.abs())


def has_competitors(shares: Tensor) -> bool:
    """Whether any of these shares of the attention, of any shape, is less than all of it but for rounding.

    A reference that is alone in its softmax has a share of 1 everywhere, and where it is looked at is in no share.
    """
    return bool((shares < 1 - 1e-4).any())


def min_max(values: Tensor) -> Tensor:
    """Each map of ``[..., h, w]`` stretched to [0, 1]; one that is flat but for rounding becomes 0."""
    low, high = values.amin((-2, -1), keepdim=True), values.amax((-2, -1), keepdim=True)
    stretched = (values - low) / (high - low).clamp(min=torch.finfo(values.dtype).tiny)
    return torch.where(is_flat(values), 0.0, stretched)


def imacs(values: Tensor, mask: Tensor, penalty: float = 3.0, threshold: float = 0.4) -> float:
    """IMACS (Park & Jang, ICLR 2025) of a unified map ``[h, w]`` against a mask ``[H, W]`` at image size.

    The map is resized to the mask, stretched to [0, 1], and values up to ``threshold`` are set to 0. The score
    is its mean inside the mask minus ``penalty`` times its mean outside: at most 1, and negative where the
    attention falls outside. What is inside a soft mask: see ``regions``. Raises OneSidedMask where it is empty or full,
    and FlatMap where the map is the same everywhere but for rounding: what is stretched then would be the rounding.
    """
    inside = inside_of(mask)
    check_sides(inside)
    if is_flat(values):
        raise FlatMap()
    stretched = min_max(resize(values.float(), *mask.shape))
    strong = torch.where(stretched > threshold, stretched, 0.0)
    return (strong[inside].mean() - penalty * strong[~inside].mean()).item()


def check_sides(inside: Tensor) -> None:
    """Raises OneSidedMask where the inside of a mask, boolean, is nothing or everything."""
    if not inside.any() or inside.all():
        raise OneSidedMask(full=bool(inside.any()))


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
