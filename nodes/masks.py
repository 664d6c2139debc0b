"""Masks that a person connects: which part they mean, and what is to be said of one that may mean another."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ..i2am_core import Attribution, TokenGrid, cells_of, inside_of, is_soft, level_of
from .images import choose, generated_picture
from .load_image import check_not_placeholder

LEAST_SHARED = 0.5
"""Of what two masks cover together, the part that both cover: with less, they hardly are of one place.

Tried on random rectangles and ellipses that were cut out as Inpaint Crop and detailers do, with 1.1 to 2.5 times their
size around them, against the mask on the whole picture: crops of less than 0.6 of the picture's side share less than
that in all cases, those of 0.6 to 0.8 in nine of ten. Crops that are nearly the whole picture hardly move anything.
"""
GROWN = 1 / 16
"""Of the longer side of the picture: masks whose edges are no further from each other are one, grown or blurred for the
sampler (6 to 32 pixels of 512 are usual), even if the small one covers less than half of the large one."""


@dataclass(frozen=True)
class PaintedMask:
    """Where a picture was painted: ``inside [H, W]`` of 0 and 1, which mask it is, and what is to be said of it."""

    inside: Tensor
    name: str
    notes: tuple[str, ...] = ()


def painted_mask(attribution: Attribution, mask: Tensor | None, item: int, name: str) -> PaintedMask:
    """The mask of picture ``item``: the one that is connected to the input ``name``, or the sampler's."""
    attribution.check_item(item)
    if mask is not None:
        check_not_placeholder(mask, name)
        chosen = choose(mask, generated_picture(attribution, item))
        notes = (*soft_notes(chosen, name), *other_place(attribution, chosen, item, name))
        return PaintedMask(inside_of(chosen).float(), name, notes)
    if attribution.denoise_mask is None:
        raise ValueError(
            f"this run had no inpainting mask, so there is nothing to score against: connect {name}, the part "
            "of the picture where the reference should act."
        )
    own = attribution.denoise_mask[item]
    cells = cells_of(own, TokenGrid(attribution.grid.height, attribution.grid.width))
    return PaintedMask(cells.view(own.shape).float(), "the sampler's", soft_notes(own, "the sampler's mask"))


def soft_notes(mask: Tensor, name: str) -> tuple[str, ...]:
    """How a mask ``[H, W]`` was cut, and how much of it was left out, where it has other values than 0 and 1."""
    if not is_soft(mask) or not mask.any():
        return ()
    level, largest, inside = level_of(mask).item(), mask.max().item(), inside_of(mask)
    if not inside.any():
        return (f"{name} is empty: it is nowhere above {largest:.2g}, and what is not above {level:.2g} is no mask",)
    left_out = ((mask > 0) & ~inside).float().mean().item()
    return (
        f"{name} is soft, up to {largest:.3g}: inside is what is above {level:.3g}, half as bright as its bright "
        f"parts; what is fainter, {left_out:.1%} of the picture, is left out",
    )


def other_place(attribution: Attribution, mask: Tensor, item: int, name: str) -> tuple[str, ...]:
    """That a mask ``[H, W]`` of the picture hardly overlaps the one that the sampler worked with."""
    masks = _on_latent(attribution, mask, item)
    if masks is None:
        return ()
    given, own = masks
    shared = ((given & own).sum() / (given | own).sum()).item()
    if shared >= LEAST_SHARED or (_is_near(given, own) and _is_near(own, given)):
        return ()
    return (
        f"{name} hardly overlaps the mask that the sampler worked with: it covers {_percent(given)} of the picture, "
        f"the sampler's {_percent(own)}, and they share {shared:.0%} of what they cover together. If the picture was "
        "cropped before it was sampled (Inpaint Crop, detailers), the maps are of the crop: connect the cropped image "
        f"and the cropped mask that went into the sampler, or leave {name} unconnected, and the sampler's mask is "
        "used. If another part of the picture is meant, all is well",
    )


def outside_notes(attribution: Attribution, region: Tensor, item: int, name: str) -> tuple[str, ...]:
    """That most of a region ``[H, W]`` of the picture lies where the sampler painted nothing."""
    masks = _on_latent(attribution, region, item)
    if masks is None:
        return ()
    given, own = masks
    outside = ((given & ~own).sum() / given.sum()).item()
    if outside <= LEAST_SHARED:
        return ()
    return (
        f"{outside:.0%} of {name} lies outside of the mask that the sampler worked with, where it painted nothing. If "
        "the picture was cropped before it was sampled (Inpaint Crop, detailers), the maps are of the crop: paint "
        f"{name} on the cropped image that went into the sampler",
    )


def _on_latent(attribution: Attribution, mask: Tensor, item: int) -> tuple[Tensor, Tensor] | None:
    """A mask and the sampler's on the latent's grid, ``[h, w]`` boolean each; None where one of them says nothing."""
    if attribution.denoise_mask is None:
        return None
    plane = TokenGrid(attribution.grid.height, attribution.grid.width)
    given, own = (cells_of(x, plane).view(plane.height, plane.width) for x in (mask, attribution.denoise_mask[item]))
    return (given, own) if given.any() and own.any() and not own.all() else None


def _is_near(one: Tensor, other: Tensor) -> bool:
    """Whether all of a mask ``[h, w]`` is within ``GROWN`` of another."""
    cells = max(1, round(GROWN * max(one.shape)))
    grown = F.max_pool2d(other[None, None].float(), 2 * cells + 1, 1, cells)[0, 0] > 0
    return not bool((one & ~grown).any())


def _percent(inside: Tensor) -> str:
    return f"{inside.float().mean().item():.1%}"
