"""The specific reference attribution map (SRAM) of a region: what it was made from, or where it went.

Park & Jang, section 3. From the pair maps of the selected layers: the mean over a region A of the picture of
``softmax_j S[i, j]`` (which parts of the reference A was made from), or the mean over a region B of the reference of
``softmax_i S[i, j]`` (where in the picture B went). Layers are averaged as in ``aggregate``.
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
    """A map ``[h, w]`` (float32), and ``note``: which layers it is a mean of, in words."""

    values: Tensor
    note: str


def specific(
    attribution: Attribution, region: Tensor, direction: Direction, selection: Selection = EVERYTHING
) -> SpecificMap:
    """The map of a region ``[H, W]`` in [0, 1] (SRAM of Park & Jang, section 3).

    For 'g2r' the region is on the picture, and the map on the reference's grid. It sums to 1, but where layers have
    the reference on several grids, and it was resized. For 'r2g' the region is on the reference, and the map on the
    largest grid of the selected layers. It sums to 1 before it is resized, if there are pair maps of every position.
    Of a video, the region is the same in all frames, and the map is the mean over frames. Raises an AttributionError
    where the region is empty, the selection is bad, or there are no pair maps of it.
    """
    result = unclamped(attribution, region, direction, selection)
    return SpecificMap(clamped(result.values), result.note)


def unclamped(
    attribution: Attribution, region: Tensor, direction: Direction, selection: Selection = EVERYTHING
) -> SpecificMap:
    """``specific`` before the map is clamped."""
    attribution.check_item(selection.item)
    reference = attribution.check_reference(selection.reference)
    if reference.grid is None:
        raise NoLayout(selection.reference, reference.name, reference.tokens, part=True)
    if not (region > 0).any():
        raise EmptyRegion()
    _check_means(attribution, selection)
    selected = selection.of(attribution)
    entries = {n: e for n in selected.layers if (e := attribution.entries[selected.reference, n]).pairs}
    if not entries:
        raise NoPairMaps()
    reading = _Reading(attribution, selected, MapKind(direction), region)
    by_layer = {n: values for n, entry in entries.items() if (values := reading.of_layer(n, entry)) is not None}
    if not by_layer:
        raise NoPairMaps(outside=True)
    largest = largest_of(grid_of(attribution, reading.kind, selected.reference, n) for n in by_layer)
    values = torch.stack([resampled(x, largest.height, largest.width) for x in by_layer.values()]).mean(0)
    partial = any(_rows(e) < attribution.layers[n].grid.cells for n, e in entries.items())
    where = ", of the inpainting mask only" if partial else ""
    names = ", ".join(attribution.layers[n].name for n in entries)
    return SpecificMap(values, f"mean of {len(by_layer)} layer(s): {names}{where}")


def _check_means(attribution: Attribution, selection: Selection) -> None:
    if len(selection.step_numbers(attribution.steps)) != attribution.steps:
        raise UnresolvedAxis("steps", selection.steps, pairs=True)
    if not selection.all_heads:
        raise UnresolvedAxis("heads", selection.heads, pairs=True)


@dataclass(frozen=True)
class _Reading:
    """The pair maps of a selection, for one region."""

    attribution: Attribution
    selected: Selected
    kind: MapKind
    region: Tensor  # [H, W]

    def of_layer(self, number: int, entry: LayerMaps) -> Tensor | None:
        """``[h, w]`` on the layer's own grid, or None where the region holds no position that has a pair map."""
        grid = self.attribution.layers[number].grid
        reference = grid_of(self.attribution, MapKind("g2r"), self.selected.reference, number)
        pairs = entry.pairs[PAIR_KEY[self.kind.direction]][self.selected.item]
        assert entry.pair_rows is not None
        if self.kind.on_reference:
            in_region = cells_of(self.region, grid)[entry.pair_rows]
            return _over_frames(pairs[in_region].mean(0), reference) if in_region.any() else None
        values = pairs.new_zeros(grid.cells)
        values[entry.pair_rows] = pairs[:, cells_of(self.region, reference)].mean(1)
        return _over_frames(values, grid)


def _over_frames(values: Tensor, grid: TokenGrid) -> Tensor:
    return values.unflatten(0, (grid.frames, grid.height, grid.width)).mean(0)


def _rows(entry: LayerMaps) -> int:
    return 0 if entry.pair_rows is None else len(entry.pair_rows)
