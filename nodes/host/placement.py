"""Conditionings that act on a part of the picture, or together: how much each counts where, and where it lies.

ComfyUI narrows the latent to a conditioning's area, and adds up the outputs of all conditionings, each times its
mask and strength, over their sum (``get_area_and_mult`` and ``_calc_cond_batch``, comfy/samplers.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.samplers
import torch
import torch.nn.functional as F
from torch import Tensor

from ...i2am_core.attention import Marginals
from ...i2am_core.tokens import TokenGrid

Conditioning = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """What a conditioning has of the latent: its weight ``[items, h, w]`` there, in [0, 1], and the first cell."""

    weight: Tensor
    top: int
    left: int
    cropped: bool  # whether the denoiser is given a part of the latent only


def parts_of(conditionings: Sequence[Conditioning], x: Tensor, timestep: Tensor) -> dict[Any, Part]:
    """The part of each conditioning by its uuid; empty where there is one alone, for all of ``x [B, C, (f,) h, w]``.

    Raises ValueError for areas and masks of a video, which may differ between its frames.
    """
    limited = any({"area", "mask"} & c.keys() for c in conditionings)
    if not limited and len(conditionings) == 1:
        return {}
    if limited and x.ndim != 4:
        raise ValueError("conditionings of a video that are limited to an area or a mask: not supported yet")
    total = torch.zeros_like(x[:, 0]) if x.ndim == 4 else torch.zeros_like(x[:, 0, 0])
    active = {}
    for c in conditionings:
        if "default" not in c and (found := comfy.samplers.get_area_and_mult(c, x, timestep)) is not None:
            mult = found.mult.mean(1) if x.ndim == 4 else found.mult[:, 0, 0]
            top, left = (0, 0) if found.area is None else found.area[2:]  # height, width, top, left
            active[c["uuid"]] = mult, top, left
            _window(total, mult, top, left).add_(mult)
    rest = F.relu(1 - total)  # is for those that are default (``finalize_default_conds``, comfy/hooks.py)
    for c in conditionings:
        if "default" in c and comfy.samplers.get_area_and_mult(c, x, timestep) is not None:
            active[c["uuid"]] = rest, 0, 0
            total = total + rest
    parts = {}
    for uuid, (mult, top, left) in active.items():
        here = _window(total, mult, top, left).clamp(min=1e-37)
        parts[uuid] = Part(mult / here, top, left, mult.shape[-2:] != x.shape[-2:])
    return parts


def _window(whole: Tensor, part: Tensor, top: int, left: int) -> Tensor:
    return whole[:, top : top + part.shape[1], left : left + part.shape[2]]


def weight_on(part: Part, grid: TokenGrid) -> Tensor:
    """The weight of a part's cells on the grid of a layer, ``[items, cells]``; the same in all frames of a video."""
    pooled = F.adaptive_avg_pool2d(part.weight[:, None].float(), (grid.height, grid.width)).flatten(1)
    return pooled.repeat(1, grid.frames)


@dataclass(frozen=True)
class Placement:
    """Where the cells of a part are among those of the whole picture, on a layer's grid."""

    grid: TokenGrid  # of the whole
    cells: Tensor  # [cells of the part]
    exact: bool  # or to the nearest cell


def place(part: Part, grid: TokenGrid, latent: TokenGrid) -> Placement:
    """``grid`` is the layer's for the part alone."""
    height, width = part.weight.shape[-2:]
    rows, columns = (-(-side // cells) for side, cells in ((height, grid.height), (width, grid.width)))
    whole = TokenGrid(-(-latent.height // rows), -(-latent.width // columns))
    top, left = (min(round(start / step), most - size) for start, step, most, size in (
        (part.top, rows, whole.height, grid.height), (part.left, columns, whole.width, grid.width),
    ))  # fmt: skip
    y, x = torch.arange(grid.height) + top, torch.arange(grid.width) + left
    exact = part.top == top * rows and part.left == left * columns
    return Placement(whole, (y[:, None] * whole.width + x).flatten(), exact)


def spread(maps: Marginals, placement: Placement, scope: Tensor | None) -> dict[str, Tensor]:
    """The maps over positions, among those of the whole picture; 0 elsewhere. A mean over positions takes all in.

    ``scope [items, cells]`` is that of the whole picture.
    """
    found = {}
    for name in ("r2g_paper", "r2g_share"):
        values = getattr(maps, name)
        found[name] = values.new_zeros(*values.shape[:-1], placement.grid.cells)
        found[name][..., placement.cells.to(values.device)] = values
    found["g2r_share"] = maps.g2r_share * (len(placement.cells) / placement.grid.cells)
    if maps.g2r_share_scope is not None and scope is not None:
        inside = scope[:, placement.cells].sum(1) / scope.sum(1).clamp(min=1)
        found["g2r_share_scope"] = maps.g2r_share_scope * inside[:, None, None].to(maps.g2r_share_scope)
    return found
