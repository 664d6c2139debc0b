"""Every map of a run that a viewer can select, computed beforehand and quantized to bytes, within a budget.

A *sheet* holds the maps of one layer, or of the mean of all layers, for one field (direction and normalization): a row
for everything, one for each group of steps, one for each head, and one for each head in each group of steps. Rows are
what ``levels.maps`` gives for the same selection; so a viewer only looks up and colours.
"""

import bisect
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..attribution import Attribution, Layer, LayerMaps
from ..half import full
from ..kinds import PAIR_KEY, UNSCOPED, MapKind
from ..reading.aggregate import MeanOfLayers, clamped, grid_of, largest_of, layer_values, over_steps, resampled, seen_by
from ..selection import Selected, Selection, resolve_scope
from ..tokens import TokenGrid
from .header import Header, HeaderItem, HeaderLayer, HeaderReference
from .quantized import nbytes, quantize
from .view_effects import add_effects
from .view_frames import add_frames
from .view_measures import MEASURES, add_measures

SHARE_OF_PICTURE = MapKind("r2g", "share")
BYTES_BESIDE_MAP = 4 * (2 + len(MEASURES))  # its range and its measures, as float32
PAIRS_OF_FILE = 0.5  # of the bytes of the view, at most, for pair maps
REGIONS_OF_FILE = 0.25  # and for the maps of regions
FRAMES_OF_FILE = 0.25  # and for single frames of a video
FEWEST_GROUPS = 4  # of steps, in which heads are resolved; fewer say nothing about time

Groups = tuple[tuple[int, ...], ...]  # each of some of the attribution's time bins


@dataclass(frozen=True)
class Detail:
    """What is resolved: groups of steps, heads, and heads in (other) groups of steps."""

    steps: Groups
    heads: bool
    joint: Groups = ()

    def rows(self, heads: int) -> int:
        """How many maps a sheet has whose layers have so many heads."""
        return 1 + len(self.steps) + (heads if self.heads else 0) * (1 + len(self.joint))


@dataclass(frozen=True)
class View:
    """``header`` is for JSON. ``tensors``, for ``<place>`` = ``<item>/<reference>/<layer number or 'all'>``:

    * ``maps/<place>/<field>`` uint8 ``[rows, h, w]`` and ``range/<place>/<field>`` float32 ``[rows, 2]``: a value is
      ``low + byte / 255 * (high - low)``; a range that is not a number says that nothing was captured;
    * ``measures/<place>`` float32 ``[3, rows]``, of the R2G maps: the share of the attention that went to the
      reference, the part of the map inside the mask (not a number without one), and the concentration;
    * ``pairs/<place>/g2r`` uint8 ``[A, h', w']``: of each position of ``pair_rows/<place>`` int32 ``[A]``, its map on
      the reference; and ``pairs/<place>/r2g`` ``[h' w', A]``: of each reference token, its map on these positions.
      Ranges as above: ``pair_range/<place>/g2r`` and ``pair_range/<place>/r2g``.

    Of effects, where they were measured: see ``view_effects``. Videos are means over their frames, on the reference as
    on the picture; single frames of the picture: see ``view_frames``.
    """

    header: Header
    tensors: dict[str, Tensor] = field(repr=False)


def view(
    attribution: Attribution,
    budget_bytes: int,
    masks: Sequence[Tensor | None] = (),
    tick: Callable[[], None] = lambda: None,
) -> View:
    """The view of a run in at most ``budget_bytes`` (as far as one map for each layer fits).

    ``masks`` are those of the items, ``[H, W]``, for the measure 'inside'. ``tick`` is called after each sheet: see
    ``sheets``.
    """
    tensors: dict[str, Tensor] = {}
    effects = None
    if attribution.effects is not None:
        region_bytes = int(budget_bytes * REGIONS_OF_FILE)
        effects = add_effects(tensors, attribution, attribution.effects, masks, region_bytes)
    pairs = {}
    places = [
        Selection(item=i, reference=r) for i in range(attribution.items) for r in range(len(attribution.references))
    ]
    for place in places:
        pairs[_name(place)] = _add_pairs(tensors, attribution, place, int(budget_bytes * PAIRS_OF_FILE / len(places)))
    video = add_frames(tensors, attribution, masks, int(budget_bytes * FRAMES_OF_FILE))
    detail = choose_detail(attribution, budget_bytes - nbytes(tensors))
    for place in places:
        selected = place.of(attribution)
        for kind in _kinds(attribution, place.reference):
            for layer, rows in _sheets(attribution, kind, selected, detail):
                name = f"{_name(place)}/{'all' if layer is None else layer}"
                tensors[f"maps/{name}/{kind.key}"], tensors[f"range/{name}/{kind.key}"] = quantize(rows)
                if not kind.on_reference:
                    measured = tensors.setdefault(f"measures/{name}", torch.full((len(MEASURES), len(rows)), math.nan))
                    mask = masks[place.item] if masks else None
                    add_measures(measured, rows, kind, (attribution, place.item), mask)
                tick()
    header = _header(attribution, detail, pairs)
    if effects is not None:
        header["effects"] = effects
    if video is not None:
        header["video"] = video
    return View(header, tensors)


def _name(place: Selection) -> str:
    return f"{place.item}/{place.reference}"


def sheets(attribution: Attribution) -> int:
    """How many sheets ``view`` makes."""
    count = 0
    for reference in range(len(attribution.references)):
        layers = sum(r == reference for r, _ in attribution.entries)
        count += len(_kinds(attribution, reference)) * (layers + 1)
    return count * attribution.items


def choose_detail(attribution: Attribution, budget_bytes: int) -> Detail:
    """The finest detail whose sheets take no more than ``budget_bytes``.

    Heads in each step, or in ever fewer groups of steps; then steps and heads apart; then steps, in ever fewer groups.
    """
    bins = len(attribution.bins)
    every = _groups(bins, bins)

    def fits(detail: Detail) -> bool:
        return _size(attribution, detail) <= budget_bytes

    def joint(count: int) -> Detail:
        return Detail(every, True, _groups(bins, count))

    def means(count: int) -> Detail:
        return Detail(_groups(bins, count), False)

    if attribution.heads == "in each step" and fits(joint(fewest := min(bins, FEWEST_GROUPS))):
        return joint(_most(fewest, bins, lambda count: fits(joint(count))))
    if attribution.heads != "merged" and fits(apart := Detail(every, True)):
        return apart
    return means(_most(1, bins, lambda count: fits(means(count))))


def _most(least: int, most: int, fits: Callable[[int], bool]) -> int:
    """The largest number that fits, or else the least: what fits in a number fits in any smaller one."""
    numbers = range(most, least, -1)
    first = bisect.bisect_left(numbers, True, key=fits)
    return numbers[first] if first < len(numbers) else least


def _groups(bins: int, count: int) -> Groups:
    return tuple(tuple(part.tolist()) for part in np.array_split(range(bins), count))


def _size(attribution: Attribution, detail: Detail) -> int:
    """Bytes of all sheets."""
    total = 0
    for reference in range(len(attribution.references)):
        layers = _layers(attribution, reference)
        for kind in _kinds(attribution, reference):
            sizes = {n: grid_of(attribution, kind, reference, n).plane + BYTES_BESIDE_MAP for n in layers}
            heads = {n: attribution.layers[n].heads for n in layers}
            total += sum(detail.rows(heads[n]) * sizes[n] for n in layers)
            total += detail.rows(sum(set(heads.values()))) * max(sizes.values(), default=0)
    return total * attribution.items


def _kinds(attribution: Attribution, reference: int) -> tuple[MapKind, ...]:
    """Without a place in the reference image, there is no map on it."""
    placed = attribution.references[reference].grid is not None
    return tuple(kind for kind in UNSCOPED if placed or not kind.on_reference)


def _layers(attribution: Attribution, reference: int) -> list[int]:
    return [n for r, n in sorted(attribution.entries) if r == reference]


def _sheets(
    attribution: Attribution, kind: MapKind, selected: Selected, detail: Detail
) -> Iterator[tuple[int | None, Tensor]]:
    """``(layer, rows [n, h, w])`` of each layer, and last, with None, of the mean of all layers."""
    if not selected.layers:
        return
    each_head = selected.selection.of(attribution, each_head=True) if detail.heads else selected
    kind = selected.kind(kind)
    largest = largest_of(grid_of(attribution, kind, selected.reference, n) for n in selected.layers)
    mean = MeanOfLayers()
    for n in selected.layers:
        over_heads = _rows(attribution, kind, selected, n, detail.steps).mean(1)
        by_head = over_heads.new_zeros(1, 0, *over_heads.shape[1:])  # none, where they are not resolved
        if detail.heads:
            by_head = _rows(attribution, kind, each_head, n, detail.joint)
        yield n, clamped(_flat([over_heads, by_head]))
        mean.add("over heads", resampled(over_heads, largest.height, largest.width))
        if detail.heads:  # they count within the layers that share their number
            mean.add(by_head.shape[1], resampled(by_head, largest.height, largest.width))
    over_all, *by_count = mean.means().values()
    yield None, clamped(_flat([over_all, torch.cat(by_count, 1)] if by_count else [over_all]))


def _rows(attribution: Attribution, kind: MapKind, selected: Selected, layer: int, groups: Groups) -> Tensor:
    """Means over all steps, and over each of the groups: ``[1 + groups, heads, h, w]``. What was not seen is NaN."""
    values, seen = layer_values(attribution, kind, selected, layer)[:, :, 0], seen_by(attribution, selected, layer)
    return over_steps(values, seen, (tuple(range(len(seen))), *groups))


def _flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.flatten(0, -3) for part in parts])


def _add_pairs(tensors: dict[str, Tensor], attribution: Attribution, place: Selection, free_bytes: int) -> list[int]:
    """Add the pair maps of the layers that look most at the reference, as many as fit; these layers."""
    if attribution.references[place.reference].grid is None:
        return []
    entries = {n: attribution.entries[place.reference, n] for n in _layers(attribution, place.reference)}
    paired = [n for n, entry in entries.items() if entry.pairs]
    included = []
    for n in sorted(paired, key=lambda n: -full(entries[n].maps[SHARE_OF_PICTURE.key][place.item]).mean().item()):
        grid = grid_of(attribution, MapKind("g2r"), place.reference, n)
        parts = dict(_pairs(entries[n], place.item, grid, f"{_name(place)}/{n}"))
        if (size := nbytes(parts)) <= free_bytes:
            free_bytes -= size
            tensors |= parts
            included.append(n)
    return sorted(included)


def _pairs(entry: LayerMaps, item: int, grid: TokenGrid, place: str) -> Iterator[tuple[str, Tensor]]:
    assert entry.pair_rows is not None

    def over_frames(values: Tensor) -> Tensor:  # [A, M] -> [A, h', w']
        return values.unflatten(1, (grid.frames, grid.height, grid.width)).mean(1)

    yield f"pair_rows/{place}", entry.pair_rows.int()
    levels, ranges = quantize(over_frames(entry.pairs[PAIR_KEY["g2r"]][item]))
    yield f"pairs/{place}/g2r", levels
    yield f"pair_range/{place}/g2r", ranges
    by_token = over_frames(entry.pairs[PAIR_KEY["r2g"]][item]).flatten(1).T  # [h' w', A]
    levels, ranges = quantize(by_token[..., None])
    yield f"pairs/{place}/r2g", levels[..., 0]
    yield f"pair_range/{place}/r2g", ranges


def _header(attribution: Attribution, detail: Detail, pairs: dict[str, list[int]]) -> Header:
    """What the maps are of; ``pairs`` are the layers whose pair maps are in the file."""
    a = attribution
    return {
        "version": 1,
        "sigmas": a.sigmas,
        "steps": _spans(a, detail.steps),
        "joint": _spans(a, detail.joint),
        "heads": detail.heads,
        "items": [_item(a, item) for item in range(a.items)],
        "grid": (a.grid.height, a.grid.width),
        "frames": a.grid.frames,
        "layers": [_layer(layer) for layer in a.layers],
        "references": [_reference(a, number) for number in range(len(a.references))],
        "pairs": pairs,
        "measures": list(MEASURES),
        "mechanism": a.mechanism,
        "branch": a.branch,
        "captured_calls": a.captured_calls,
        "skipped": dict(a.skipped),
        "missed_calls": sum(a.skipped.get(reason, 0) for reason in a.missed),
        "all_observed": a.all_observed,
        "notes": list(a.notes),
        "summary": a.summary(),
    }


def _item(attribution: Attribution, item: int) -> HeaderItem:
    masked = resolve_scope(attribution, "auto", item) == "inpainting mask"
    return {"scope": "inpainting mask" if masked else "whole image"}


def _layer(layer: Layer) -> HeaderLayer:
    grid = layer.grid
    return {"name": layer.name, "grid": (grid.height, grid.width), "frames": grid.frames, "heads": layer.heads}


def _reference(attribution: Attribution, number: int) -> HeaderReference:
    reference = attribution.references[number]
    entries = {n: entry for (r, n), entry in attribution.entries.items() if r == number}
    layers = sorted(entries)
    return {
        "name": reference.name,
        "tokens": reference.tokens,
        "grid": (reference.grid.height, reference.grid.width) if reference.grid else None,
        "approximate": reference.approximate,
        "layers": layers,
        "heads": list(Counter(attribution.layers[n].heads for n in layers).items()),
        "pairs_captured": [n for n, entry in entries.items() if entry.pairs],
    }


def _spans(attribution: Attribution, groups: Groups) -> list[tuple[int, int]]:
    return [(attribution.bins[group[0]].start, attribution.bins[group[-1]].stop) for group in groups]
