"""The specific reference attribution map (SRAM): what made *this* part of the picture, and where *that* part went.

Paper, section 3. From the pair maps of the chosen layers: the mean over a region A of the picture of
``softmax_j S[i, j]`` (which parts of the reference made A), or the mean over a region B of the reference of
``softmax_i S[i, j]`` (where B went). Layers are averaged as in ``aggregate``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..attribution import Attribution, LayerMaps
from ..errors import EmptyRegion, NoLayout, NoPairMaps, UnresolvedAxis
from ..kinds import PAIR_KEY, Direction, MapKind
from ..regions import cells_of
from ..selection import Selected, Selection
from ..tokens import TokenGrid
from .aggregate import clamped, grid_of, largest_of, resampled

EVERYTHING = Selection()


@dataclass(frozen=True)
class SpecificMap:
    """A map ``[h, w]``, and ``note``: what it was taken from, in words."""

    values: Tensor
    note: str


def specific(
    attribution: Attribution, region: Tensor, direction: Direction, selection: Selection = EVERYTHING
) -> SpecificMap:
    """The map of a region ``[H, W]`` in [0, 1], given on the picture for 'g2r' and on the reference for 'r2g'.

    'g2r' lives on the reference's grid and sums to 1 (before resizing, where layers see it on several grids); 'r2g'
    lives on the largest grid of the chosen layers, and where pair maps were kept for every position it sums to 1
    (before resizing). Of a video, the region is the same in all frames, and the map is the mean of the frames. Raises
    an ``errors.AttributionError`` where nothing was kept that could answer.
    """
    found = unclamped(attribution, region, direction, selection)
    return SpecificMap(clamped(found.values), found.note)


def unclamped(
    attribution: Attribution, region: Tensor, direction: Direction, selection: Selection = EVERYTHING
) -> SpecificMap:
    """``specific`` before the clamp at its end."""
    attribution.check_item(selection.item)
    shown = attribution.check_reference(selection.reference)
    if shown.grid is None:
        raise NoLayout(selection.reference, shown.name, shown.tokens, part=True)
    if not (region > 0).any():
        raise EmptyRegion()
    _check_means(attribution, selection)
    selected = selection.of(attribution)
    kept = {n: e for n in selected.layers if (e := attribution.entries[selected.reference, n]).pairs}
    if not kept:
        raise NoPairMaps()
    reading = _Reading(attribution, selected, MapKind(direction), region)
    found = {n: part for n, entry in kept.items() if (part := reading.of_layer(n, entry)) is not None}
    if not found:
        raise NoPairMaps(outside=True)
    largest = largest_of(grid_of(attribution, reading.kind, selected.reference, n) for n in found)
    values = torch.stack([resampled(x, largest.height, largest.width) for x in found.values()]).mean(0)
    partial = any(_rows(e) < attribution.layers[n].grid.cells for n, e in kept.items())
    where = ", of the inpainting mask only" if partial else ""
    names = ", ".join(attribution.layers[n].name for n in kept)
    return SpecificMap(values, f"mean of {len(found)} layer(s): {names}{where}")


def _check_means(attribution: Attribution, selection: Selection) -> None:
    if len(selection.step_numbers(attribution.steps)) != attribution.steps:
        raise UnresolvedAxis("steps", selection.steps, pairs=True)
    if not selection.all_heads:
        raise UnresolvedAxis("heads", selection.heads, pairs=True)


@dataclass(frozen=True)
class _Reading:
    attribution: Attribution
    selected: Selected
    kind: MapKind
    region: Tensor  # [H, W]

    def of_layer(self, number: int, entry: LayerMaps) -> Tensor | None:
        """``[h, w]`` on the layer's own grid, or None where the region holds no position whose pairs were kept."""
        grid = self.attribution.layers[number].grid
        reference = grid_of(self.attribution, MapKind("g2r"), self.selected.reference, number)
        pairs = entry.pairs[PAIR_KEY[self.kind.direction]][self.selected.item]
        assert entry.pair_rows is not None
        if self.kind.on_reference:
            asked = cells_of(self.region, grid)[entry.pair_rows]
            return _over_frames(pairs[asked].mean(0), reference) if asked.any() else None
        values = pairs.new_zeros(grid.cells)
        values[entry.pair_rows] = pairs[:, cells_of(self.region, reference)].mean(1)
        return _over_frames(values, grid)


def _over_frames(values: Tensor, grid: TokenGrid) -> Tensor:
    return values.unflatten(0, (grid.frames, grid.height, grid.width)).mean(0)


def _rows(entry: LayerMaps) -> int:
    return 0 if entry.pair_rows is None else len(entry.pair_rows)
