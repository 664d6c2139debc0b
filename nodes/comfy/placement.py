"""What of the picture an attention call is about, and how much it counts there: areas, masks, context windows.

Conditionings may act on a part of the picture, or together: ComfyUI narrows the latent to a conditioning's area, and
adds up the outputs of all conditionings, each times its mask and strength, over their sum (``get_area_and_mult`` and
``_calc_cond_batch``, comfy/samplers.py). A video may be denoised some frames at a time (``windows``).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.samplers
import torch
import torch.nn.functional as F
from torch import Tensor

from ...i2am_core.attention.on_device import brought
from ...i2am_core.attention.stacked import Maps, alone
from ...i2am_core.tokens import TokenGrid
from .refusal import NotSupported
from .windows import Window

Conditioning = Mapping[str, Any]


@dataclass(frozen=True)
class Area:
    """What a conditioning has of the latent: its weight ``[items, h, w]`` there, in [0, 1], and the first cell."""

    weight: Tensor
    top: int
    left: int
    cropped: bool  # whether the denoiser is given this part of the latent only


def areas_of(conditionings: Sequence[Conditioning], x: Tensor, timestep: Tensor) -> dict[Any, Area]:
    """The area of each conditioning by its uuid; empty where there is one alone, for all of ``x [B, C, (f,) h, w]``.

    Raises NotSupported for areas and masks of a video, which may differ between its frames.
    """
    limited = any({"area", "mask"} & c.keys() for c in conditionings)
    if not limited and len(conditionings) == 1:
        return {}
    if limited and x.ndim != 4:
        raise NotSupported("conditionings of a video that are limited to an area or a mask: not supported yet")
    total = torch.zeros_like(x[:, 0]) if x.ndim == 4 else torch.zeros_like(x[:, 0, 0])
    active = {}
    for c in conditionings:
        if "default" not in c and (limits := comfy.samplers.get_area_and_mult(c, x, timestep)) is not None:
            mult = limits.mult.mean(1) if x.ndim == 4 else limits.mult[:, 0, 0]
            top, left = (0, 0) if limits.area is None else limits.area[2:]  # height, width, top, left
            active[c["uuid"]] = mult, top, left
            _window(total, mult, top, left).add_(mult)
    rest = F.relu(1 - total)  # for those that are default (``finalize_default_conds``, comfy/hooks.py)
    for c in conditionings:
        if "default" in c and comfy.samplers.get_area_and_mult(c, x, timestep) is not None:
            active[c["uuid"]] = rest, 0, 0
            total = total + rest
    areas = {}
    for uuid, (mult, top, left) in active.items():
        here = _window(total, mult, top, left).clamp(min=1e-37)
        areas[uuid] = Area(mult / here, top, left, mult.shape[-2:] != x.shape[-2:])
    return areas


def _window(whole: Tensor, area: Tensor, top: int, left: int) -> Tensor:
    return whole[:, top : top + area.shape[1], left : left + area.shape[2]]


@dataclass(frozen=True)
class Placement:
    """What of ``latent`` the rows of one conditioning are: an area, or the frames of a context window, or both.

    Without any of these they are the whole picture, and nothing else counts in it.
    """

    latent: TokenGrid | None = None
    area: Area | None = None
    window: Window | None = None

    @property
    def partial(self) -> bool:
        """Whether the denoiser is given a part of the latent only."""
        return self.window is not None or (self.area is not None and self.area.cropped)

    def shape(self, latent: torch.Size) -> torch.Size:
        """The shape of what the denoiser is given of a whole ``latent``; both are ``[(frames,) h, w]``."""
        frames: tuple[int, ...] = latent[:-2]
        size = latent[-2:]
        if self.window is not None:
            frames = (len(self.window.frames),)
        return torch.Size((*frames, *(size if self.area is None else self.area.weight.shape[1:])))

    def on(self, grid: TokenGrid) -> "Placed":
        """Where the cells of a layer are whose grid for this call is ``grid``.

        One of fewer frames than a context window leaves out the first, as it does of the whole latent: references that
        are trimmed off. A mechanism that makes such a grid has proved that these are the first frames of the latent.
        """
        weight = None if self.area is None else _weight_on(self.area, grid)
        if self.window is not None:
            left_out = len(self.window.frames) - grid.frames
            cells_of_frame = torch.arange(grid.plane)
            frames = self.window.frames[left_out:] - left_out
            cells = (frames[:, None] * grid.plane + cells_of_frame).flatten()
            of_frames = self.window.weight[left_out:].repeat_interleave(grid.plane)[None]
            whole = dataclasses.replace(grid, frames=self.window.total_frames - left_out)
            return Placed(whole, _times(weight, of_frames), cells, of_frames=of_frames)
        if self.area is not None and self.area.cropped and self.latent is not None:
            return _placed(self.area, grid, self.latent, weight)
        return Placed(grid, weight)


@dataclass(frozen=True)
class Placed:
    """Where the N cells that a layer has for a call are among those of the whole picture, on ``grid``."""

    grid: TokenGrid  # of the whole
    weight: Tensor | None = None  # [items, N]: how much each cell counts there, in [0, 1]
    cells: Tensor | None = None  # [N] of the whole; None where they are the whole
    exact: bool = True  # or to the nearest cell
    of_frames: Tensor | None = None  # [1, N]: the part of the weight that a context window has

    def gain(self, own: Tensor | None) -> Tensor | None:
        """What the mechanism multiplies its attention with, and the weight; broadcasts to ``[items, N]``."""
        return own if self.weight is None else _times(own, self.weight)

    def here(self, region: Tensor | None) -> Tensor | None:
        """A region ``[items, cells]`` of the whole picture, on the N cells."""
        return region if region is None or self.cells is None else region[:, self.cells]

    def apply(self, maps: Maps, region: Tensor | None) -> Maps:
        """``maps`` of the N cells as maps of the whole picture: 0 elsewhere, and means over all of its positions.

        ``region [items, cells]`` is the scope, of the whole picture. The paper's map over positions knows no gain: of
        a context window, it is weighted here.
        """
        if self.cells is None:
            return maps
        maps, on_whole = alone(maps), {}
        for name in ("r2g_paper", "r2g_share"):
            values = getattr(maps, name)
            if name == "r2g_paper" and self.of_frames is not None:
                values = values * brought(self.of_frames, values.device).to(values)[:, None]
            on_whole[name] = values.new_zeros(*values.shape[:-1], self.grid.cells)
            on_whole[name][..., brought(self.cells, values.device)] = values
        on_whole["g2r_share"] = maps.g2r_share * (len(self.cells) / self.grid.cells)
        if maps.g2r_share_scope is not None and region is not None:
            inside = region[:, self.cells].sum(1) / region.sum(1).clamp(min=1)
            on_whole["g2r_share_scope"] = maps.g2r_share_scope * brought(
                inside[:, None, None], maps.g2r_share_scope.device
            )
        return dataclasses.replace(maps, **on_whole)


def _placed(area: Area, grid: TokenGrid, latent: TokenGrid, weight: Tensor | None) -> Placed:
    """Where the cells of ``grid``, a layer's for a cropped area alone, are on the layer's grid of the whole latent."""
    height, width = area.weight.shape[-2:]
    rows, columns = (-(-side // cells) for side, cells in ((height, grid.height), (width, grid.width)))
    whole = TokenGrid(-(-latent.height // rows), -(-latent.width // columns))
    top, left = (min(round(start / step), most - size) for start, step, most, size in (
        (area.top, rows, whole.height, grid.height), (area.left, columns, whole.width, grid.width),
    ))  # fmt: skip
    y, x = torch.arange(grid.height) + top, torch.arange(grid.width) + left
    exact = area.top == top * rows and area.left == left * columns
    return Placed(whole, weight, (y[:, None] * whole.width + x).flatten(), exact)


def _weight_on(area: Area, grid: TokenGrid) -> Tensor:
    """The weight of an area's cells on the grid of a layer, ``[items, cells]``; the same in all frames of a video."""
    pooled = F.adaptive_avg_pool2d(area.weight[:, None].float(), (grid.height, grid.width)).flatten(1)
    return pooled.repeat(1, grid.frames)


def _times(gain: Tensor | None, weight: Tensor) -> Tensor:
    return weight if gain is None else gain * brought(weight, gain.device)
