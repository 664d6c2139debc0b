"""Means over steps, heads, frames and layers: the one arithmetic under levels, viewer and regions.

A map of a layer is resized bicubically to the largest grid of the selected layers, and then averaged (paper, section
3). Bicubic weights are partly negative, so that a resized map may fall below 0 where it is steep: means are taken of
maps as they are, and only what comes out at the very end is clamped. So a mean of means is the mean of all, whatever
was merged before. Steps, layers and heads weigh the same, each within its kind.
"""

from collections.abc import Hashable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..attribution import Attribution
from ..kinds import MapKind
from ..selection import Selected
from ..tokens import TokenGrid


def resize(values: Tensor, height: int, width: int) -> Tensor:
    """Bicubic resize of finished maps ``[..., h, w]``, clamped at 0. Maps of that size pass unchanged."""
    return values if values.shape[-2:] == (height, width) else clamped(resampled(values, height, width))


def resampled(values: Tensor, height: int, width: int) -> Tensor:
    """Bicubic resize of maps ``[..., h, w]`` that go on into a mean: not clamped."""
    if values.shape[-2:] == (height, width):
        return values
    flat = values.reshape(-1, 1, *values.shape[-2:])
    bicubic = F.interpolate(flat, size=(height, width), mode="bicubic", align_corners=False)
    return bicubic.reshape(*values.shape[:-2], height, width)


def clamped(values: Tensor) -> Tensor:
    """The end of a mean: nothing below 0. What is not a number stays so."""
    return values.clamp(min=0)


def grid_of(attribution: Attribution, kind: MapKind, reference: int, layer: int) -> TokenGrid:
    """What the maps of a layer lie on; for maps on a reference, it must have a grid."""
    if not kind.on_reference:
        return attribution.layers[layer].grid
    grid = attribution.entries[reference, layer].reference_grid or attribution.references[reference].grid
    assert grid is not None
    return grid


def largest_of(grids: Iterable[TokenGrid]) -> TokenGrid:
    """The first of those with the most cells in a frame."""
    return max(grids, key=lambda grid: grid.plane)


def layer_values(
    attribution: Attribution, kind: MapKind, selected: Selected, layer: int, by_frame: bool = False
) -> Tensor:
    """Maps of the selected heads in every time bin, ``[bins, heads, frames, h, w]`` on the layer's own grid.

    There is one frame, the mean of all, unless they are asked for ``by_frame``.
    """
    grid = grid_of(attribution, kind, selected.reference, layer)
    values = attribution.entries[selected.reference, layer].maps[kind.key][selected.item][:, selected.heads[layer]]
    values = values.unflatten(-1, (grid.frames, grid.height, grid.width))
    if grid.frames == 1 or by_frame:
        return values
    return values.mean(2, keepdim=True)


def over_steps(values: Tensor, seen: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """Means over groups of bins, of ``values [bins, ...]`` to ``[groups, ...]``, in which every step weighs the same.

    ``seen [bins]`` are the steps in which there was anything. A group without any is not a number.
    """
    weights = torch.zeros(len(groups), len(seen), dtype=values.dtype)
    for number, group in enumerate(groups):
        weights[number, list(group)] = seen[list(group)].to(values.dtype)
    weights /= weights.sum(1, keepdim=True)  # 0 / 0 is not a number
    return (weights @ values.flatten(1)).view(len(groups), *values.shape[1:])


class MeanOfLayers:
    """The mean of layers that have maps ``[n, ...]`` of one kind, each of the n over the layers that have it.

    Kinds are told apart by a key, such as the number of heads: head 3 of 10 is not head 3 of 20.
    """

    def __init__(self) -> None:
        self._sums: dict[Hashable, Tensor] = {}
        self._counts: dict[Hashable, Tensor] = {}

    def add(self, key: Hashable, values: Tensor) -> None:
        """Maps ``[n, ..., h, w]`` on the grid of the mean; those that are not numbers, as a whole, do not count."""
        there = ~values[..., :1, :1].isnan()
        values = values if there.all() else values.nan_to_num(0)
        self._sums[key] = self._sums[key].add_(values) if key in self._sums else values.clone()
        self._counts[key] = self._counts[key].add_(there) if key in self._counts else there.to(values.dtype)

    def means(self) -> dict[Hashable, Tensor]:
        """By key, in the order in which they were first added. Not clamped."""
        return {key: total / self._counts[key] for key, total in self._sums.items()}
