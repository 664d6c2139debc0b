"""Means over steps, heads, frames and layers: the arithmetic that levels, viewer and specific references share.

A map of a layer is resized bicubically to the largest grid of the selected layers, and then averaged (Park & Jang,
section 3). Bicubic weights are partly negative, so that a resized map may fall below 0 where it is steep. Means are
taken of such maps as they are, and only the result is clamped: so a mean of means is the mean of all, whatever was
merged before. Each step weighs the same as any other, and so does each layer and each head.
"""

from collections.abc import Hashable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..attribution import Attribution
from ..half import full
from ..kinds import MapKind
from ..selection import Selected
from ..tokens import TokenGrid


def resize(values: Tensor, height: int, width: int) -> Tensor:
    """Bicubic resize of finished maps ``[..., h, w]``, clamped at 0. Maps of that size are returned unchanged."""
    return values if values.shape[-2:] == (height, width) else clamped(resampled(values, height, width))


def resampled(values: Tensor, height: int, width: int) -> Tensor:
    """Bicubic resize of maps ``[..., h, w]`` that enter a mean, and so are not clamped."""
    if values.shape[-2:] == (height, width):
        return values
    flat = values.reshape(-1, 1, *values.shape[-2:])
    bicubic = F.interpolate(flat, size=(height, width), mode="bicubic", align_corners=False)
    return bicubic.reshape(*values.shape[:-2], height, width)


def clamped(values: Tensor) -> Tensor:
    """The last step of a mean: values below 0 become 0, and NaN stays NaN."""
    return values.clamp(min=0)


def grid_of(attribution: Attribution, kind: MapKind, reference: int, layer: int) -> TokenGrid:
    """The grid that the maps of a layer lie on. Where that is a reference, it must have one."""
    if not kind.on_reference:
        return attribution.layers[layer].grid
    grid = attribution.entries[reference, layer].reference_grid or attribution.references[reference].grid
    assert grid is not None
    return grid


def largest_of(grids: Iterable[TokenGrid]) -> TokenGrid:
    """The grid with the most cells in a frame; the first of several."""
    return max(grids, key=lambda grid: grid.plane)


def layer_values(
    attribution: Attribution, kind: MapKind, selected: Selected, layer: int, by_frame: bool = False
) -> Tensor:
    """Maps of the selected heads in every time bin, ``[bins, heads, frames, h, w]`` on the layer's own grid.

    There is one frame, the mean of all, unless ``by_frame`` keeps them apart. There is one time bin where the selection
    is of heads ``over_steps``. The paper's R2G of one token alone would be a softmax of logits that change nothing: it
    is the share that it is given, made to sum to 1, which is flat but where its weight was not the same everywhere.
    """
    grid, entry = grid_of(attribution, kind, selected.reference, layer), attribution.entries[selected.reference, layer]
    maps = entry.head_maps if selected.over_steps else entry.maps
    alone = attribution.references[selected.reference].alone and kind == MapKind("r2g", "paper")
    key = MapKind("r2g", "share").key if alone else kind.key
    chosen = full(maps[key][selected.item][:, selected.heads[layer]])
    if alone:
        chosen = chosen / chosen.sum(-1, keepdim=True).clamp(min=torch.finfo(chosen.dtype).tiny)
    values = chosen.unflatten(-1, (-1, grid.height, grid.width))
    return values if by_frame else values.mean(2, keepdim=True)


def seen_by(attribution: Attribution, selected: Selected, layer: int) -> Tensor:
    """In how many steps the layer was captured, of each time bin of ``layer_values``: ``[bins]``."""
    seen = attribution.entries[selected.reference, layer].seen
    return seen.sum(0, keepdim=True) if selected.over_steps else seen


def over_steps(values: Tensor, seen: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """Means over groups of bins, of ``values [bins, ...]`` to ``[groups, ...]``, in which every step weighs the same.

    ``seen [bins]`` are the numbers of steps in which anything was captured. A group without any becomes NaN.
    """
    weights = torch.zeros(len(groups), len(seen), dtype=values.dtype)
    for number, group in enumerate(groups):
        weights[number, list(group)] = seen[list(group)].to(values.dtype)
    weights /= weights.sum(1, keepdim=True)  # 0 / 0 is NaN
    return (weights @ values.flatten(1)).view(len(groups), *values.shape[1:])


class MeanOfLayers:
    """The mean over layers of maps ``[n, ...]``, each of the n over the layers that have it.

    Layers are averaged with those of the same key, such as their number of heads: head 3 of 10 is not head 3 of 20.
    """

    def __init__(self) -> None:
        self._sums: dict[Hashable, Tensor] = {}
        self._counts: dict[Hashable, Tensor] = {}

    def add(self, key: Hashable, values: Tensor) -> None:
        """Add maps ``[n, ..., h, w]`` of a layer, on the grid of the mean. Maps that are all NaN do not count."""
        captured = ~values[..., :1, :1].isnan()
        values = values if captured.all() else values.nan_to_num(0)
        self._sums[key] = self._sums[key].add_(values) if key in self._sums else values.clone()
        self._counts[key] = self._counts[key].add_(captured) if key in self._counts else captured.to(values.dtype)

    def means(self) -> dict[Hashable, Tensor]:
        """The means by key, in the order in which keys were first added. Not clamped."""
        return {key: total / self._counts[key] for key, total in self._sums.items()}
