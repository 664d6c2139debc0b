"""Everything that a viewer can ask of a run, computed beforehand and quantized to bytes, within a budget.

A *sheet* holds the maps of one layer, or of the mean of all layers, for one field (direction and normalization): a row
for everything, one for each group of steps, one for each head, and one for each head in each group of steps. Rows are
what ``levels.maps`` gives for the same selection; so a viewer only looks up and colours.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .attribution import Attribution, LayerMaps
from .levels import resize, resolve_scope
from .metrics import concentration, share_inside
from .regions import cells_of
from .tokens import TokenGrid

FIELDS = ("r2g_paper", "r2g_share", "g2r_paper", "g2r_share")
MEASURES = ("share", "inside", "concentration")
BESIDE = 20  # bytes of a map's range and measures
PAIR_SHARE = 0.5  # of the budget, at most, for pair maps
FEWEST_GROUPS = 4  # of steps, in which heads are told apart; fewer say nothing about time

Groups = tuple[tuple[int, ...], ...]  # each of some of the attribution's time bins


@dataclass(frozen=True)
class Detail:
    """What is told apart: groups of steps, heads, and heads in (other) groups of steps."""

    steps: Groups
    heads: bool
    joint: Groups = ()

    def rows(self, heads: int) -> int:
        """How many maps a sheet has whose layers have so many heads."""
        return 1 + len(self.steps) + (heads if self.heads else 0) * (1 + len(self.joint))


@dataclass(frozen=True)
class View:
    """``header`` is JSON. ``tensors``, for ``<place>`` = ``<item>/<reference>/<layer number or 'all'>``:

    * ``maps/<place>/<field>`` uint8 ``[rows, h, w]`` and ``range/<place>/<field>`` float32 ``[rows, 2]``: a value is
      ``low + byte / 255 * (high - low)``; a range that is not a number says that nothing was captured;
    * ``measures/<place>`` float32 ``[3, rows]``, of the R2G maps: the share of the attention that went to the
      reference, the part of the map inside the mask (not a number without one), and the concentration;
    * ``pairs/<place>/g2r`` uint8 ``[A, h', w']``: of each position of ``pair_rows/<place>`` int32 ``[A]``, its map on
      the reference; and ``pairs/<place>/r2g`` ``[h' w', A]``: of each reference token, its map on these positions.
      Ranges as above: ``pair_range/<place>/g2r`` and ``pair_range/<place>/r2g``.

    Videos are means over their frames, on the reference as on the picture.
    """

    header: dict[str, Any]
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
    kept = {}
    places = [(item, r) for item in range(attribution.items) for r in range(len(attribution.references))]
    for item, reference in places:
        room = int(budget_bytes * PAIR_SHARE / len(places))
        kept[f"{item}/{reference}"] = _add_pairs(tensors, attribution, item, reference, room)
    detail = choose_detail(attribution, budget_bytes - _nbytes(tensors))
    for item, reference in places:
        mask = masks[item] if masks else None
        for name in _fields(attribution, reference):
            for layer, rows in _sheets(attribution, item, reference, name, detail):
                place = f"{item}/{reference}/{'all' if layer is None else layer}"
                tensors[f"maps/{place}/{name}"], tensors[f"range/{place}/{name}"] = quantize(rows)
                if name.startswith("r2g"):
                    measured = tensors.setdefault(f"measures/{place}", torch.full((len(MEASURES), len(rows)), math.nan))
                    _measure(measured, rows, name, _scope_mask(attribution, item), mask)
                tick()
    return View(_header(attribution, detail, kept), tensors)


def sheets(attribution: Attribution) -> int:
    """How many sheets ``view`` makes."""
    count = 0
    for reference in range(len(attribution.references)):
        layers = sum(r == reference for r, _ in attribution.entries)
        count += len(_fields(attribution, reference)) * (layers + 1)
    return count * attribution.items


def quantize(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Maps ``[n, h, w]`` as bytes, and the range ``[n, 2]`` of each."""
    flat = rows.flatten(1)
    low, high = flat.amin(1), flat.amax(1)
    spread = torch.where(high > low, high - low, 1.0)
    levels = ((flat - low[:, None]) / spread[:, None] * 255).nan_to_num_(0).round_()
    return levels.to(torch.uint8).view(rows.shape), torch.stack([low, high], 1)


def choose_detail(attribution: Attribution, room: int) -> Detail:
    """The finest detail whose sheets take no more than ``room`` bytes.

    Heads in each step, or in ever fewer groups of steps; then steps and heads apart; then steps, in ever fewer groups.
    """
    bins, heads = len(attribution.bins), attribution.heads_kept
    every = _groups(bins, bins)

    def fits(detail: Detail) -> bool:
        return _size(attribution, detail) <= room

    if heads:
        for count in range(bins, min(bins, FEWEST_GROUPS) - 1, -1):
            if fits(joint := Detail(every, True, _groups(bins, count))):
                return joint
        if fits(apart := Detail(every, True)):
            return apart
    for count in range(bins, 1, -1):
        if fits(means := Detail(_groups(bins, count), False)):
            return means
    return Detail(_groups(bins, 1), False)


def _groups(bins: int, count: int) -> Groups:
    return tuple(tuple(part.tolist()) for part in np.array_split(range(bins), count))


def _size(attribution: Attribution, detail: Detail) -> int:
    """Bytes of all sheets."""
    total = 0
    for reference in range(len(attribution.references)):
        entries = _entries(attribution, reference)
        for name in _fields(attribution, reference):
            sizes = {n: _grid(attribution, reference, n, name).plane + BESIDE for n in entries}
            heads = {n: attribution.layers[n].heads for n in entries}
            total += sum(detail.rows(heads[n]) * sizes[n] for n in entries)
            total += detail.rows(sum(set(heads.values()))) * max(sizes.values(), default=0)
    return total * attribution.items


def _fields(attribution: Attribution, reference: int) -> tuple[str, ...]:
    """Without a place in the reference image, there is no map on it."""
    return FIELDS if attribution.references[reference].grid is not None else FIELDS[:2]


def _entries(attribution: Attribution, reference: int) -> dict[int, LayerMaps]:
    return {n: attribution.entries[r, n] for r, n in sorted(attribution.entries) if r == reference}


def _grid(attribution: Attribution, reference: int, layer: int, name: str) -> TokenGrid:
    if name.startswith("r2g"):
        return attribution.layers[layer].grid
    grid = attribution.entries[reference, layer].reference_grid or attribution.references[reference].grid
    assert grid is not None
    return grid


def _largest(grids: Any) -> TokenGrid:
    largest: TokenGrid = max(grids, key=lambda grid: grid.plane)
    return largest


def _sheets(
    attribution: Attribution, item: int, reference: int, name: str, detail: Detail
) -> Iterator[tuple[int | None, Tensor]]:
    """``(layer, rows [n, h, w])`` of each layer, and last, with None, of the mean of all layers."""
    entries = _entries(attribution, reference)
    if not entries:
        return
    largest = _largest(_grid(attribution, reference, n, name) for n in entries)
    scoped = name.startswith("g2r") and resolve_scope(attribution, "auto", item) == "inpainting mask"
    mean = _MeanOfLayers(detail)
    for n, entry in entries.items():
        grid = _grid(attribution, reference, n, name)
        values = entry.maps[f"{name}_scope" if scoped else name][item]
        values = values.unflatten(-1, (grid.frames, grid.height, grid.width))
        values = values.mean(2) if grid.frames > 1 else values.squeeze(2)
        yield n, _flat(*_rows(values, entry.seen, detail))
        mean.add(*_rows(resize(values, largest.height, largest.width), entry.seen, detail))
    yield None, mean.rows()


def _rows(values: Tensor, seen: Tensor, detail: Detail) -> tuple[Tensor, Tensor]:
    """Means of ``[bins, heads, h, w]``: over heads ``[1 + steps, h, w]``, and of each head ``[1 + joint, heads, h, w]``
    (no heads where they are not told apart). What was not seen is not a number.
    """
    every = (tuple(range(len(seen))),)
    over_heads = _grouped(values.mean(1), seen, every + detail.steps)
    if not detail.heads:
        return over_heads, values.new_zeros(1, 0, *values.shape[2:])
    return over_heads, _grouped(values, seen, every + detail.joint)


def _grouped(values: Tensor, seen: Tensor, groups: Groups) -> Tensor:
    """Means over groups of the first axis, in which every step weighs the same."""
    weights = torch.zeros(len(groups), len(seen))
    for number, group in enumerate(groups):
        weights[number, list(group)] = seen[list(group)]
    weights /= weights.sum(1, keepdim=True)  # 0 / 0 is not a number
    return (weights @ values.flatten(1)).view(len(groups), *values.shape[1:])


def _flat(over_heads: Tensor, by_head: Tensor) -> Tensor:
    return torch.cat([over_heads, by_head.flatten(0, 1)])


class _MeanOfLayers:
    """Each row's mean over the layers that have it; heads count within the layers that share their number."""

    def __init__(self, detail: Detail) -> None:
        self.sums: dict[int, Tensor] = {}  # 0: over heads; else by number of heads
        self.counts: dict[int, Tensor] = {}
        self.detail = detail

    def add(self, over_heads: Tensor, by_head: Tensor) -> None:
        self._add(0, over_heads)
        if self.detail.heads:
            self._add(by_head.shape[1], by_head)

    def _add(self, key: int, values: Tensor) -> None:
        there = ~values[..., :1, :1].isnan()  # a map is there as a whole, or not at all
        values = values if there.all() else values.nan_to_num(0)
        self.sums[key] = self.sums[key].add_(values) if key in self.sums else values.clone()
        self.counts[key] = self.counts[key].add_(there) if key in self.counts else there.float()

    def rows(self) -> Tensor:
        means = {key: total.div_(self.counts[key]) for key, total in self.sums.items()}
        over_heads = means.pop(0)
        by_head = torch.cat(list(means.values()), 1) if means else over_heads.new_zeros(1, 0, *over_heads.shape[1:])
        return _flat(over_heads, by_head)


def _scope_mask(attribution: Attribution, item: int) -> Tensor | None:
    scoped = resolve_scope(attribution, "auto", item) == "inpainting mask"
    return attribution.denoise_mask[item] if scoped and attribution.denoise_mask is not None else None


def _measure(measured: Tensor, rows: Tensor, name: str, scope: Tensor | None, mask: Tensor | None) -> None:
    """Fill in the measures that rows of this field give."""
    grid = TokenGrid(*rows.shape[1:])
    if name == "r2g_share":
        asked = torch.ones(grid.cells, dtype=torch.bool) if scope is None else cells_of(scope, grid)
        measured[MEASURES.index("share")] = rows.flatten(1)[:, asked].mean(1)
        return
    measured[MEASURES.index("concentration")] = concentration(rows)
    if mask is not None:
        soft = F.adaptive_avg_pool2d(mask[None, None].float(), (grid.height, grid.width))[0, 0]
        measured[MEASURES.index("inside")] = torch.tensor([share_inside(row, soft) for row in rows])


def _add_pairs(tensors: dict[str, Tensor], attribution: Attribution, item: int, reference: int, room: int) -> list[int]:
    """Add the pair maps of the layers that look most at the reference, as many as fit; these layers."""
    shown = attribution.references[reference].grid
    entries = {n: e for n, e in _entries(attribution, reference).items() if e.pairs and shown is not None}
    by_share = sorted(entries, key=lambda n: -entries[n].maps["r2g_share"][item].mean().item())
    kept = []
    for n in by_share:
        parts = dict(_pairs(entries[n], item, entries[n].reference_grid or shown, f"{item}/{reference}/{n}"))
        if (size := _nbytes(parts)) <= room:
            room -= size
            tensors |= parts
            kept.append(n)
    return sorted(kept)


def _pairs(entry: LayerMaps, item: int, grid: TokenGrid | None, place: str) -> Iterator[tuple[str, Tensor]]:
    assert grid is not None and entry.pair_rows is not None

    def over_frames(values: Tensor) -> Tensor:  # [A, M] -> [A, h', w']
        return values.unflatten(1, (grid.frames, grid.height, grid.width)).mean(1)

    yield f"pair_rows/{place}", entry.pair_rows.int()
    made = over_frames(entry.pairs["g2r_pairs"][item])
    yield f"pairs/{place}/g2r", (quantized := quantize(made))[0]
    yield f"pair_range/{place}/g2r", quantized[1]
    went = over_frames(entry.pairs["r2g_pairs"][item]).flatten(1).T
    levels, ranges = quantize(went[..., None])
    yield f"pairs/{place}/r2g", levels[..., 0]
    yield f"pair_range/{place}/r2g", ranges


def _nbytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(x.nbytes for x in tensors.values())


def _header(attribution: Attribution, detail: Detail, kept: dict[str, list[int]]) -> dict[str, Any]:
    """What the maps are of. Grids are ``[h, w]``; steps are ``[first, one after the last]``."""
    a = attribution
    captured = {
        n: [layer for (r, layer), e in a.entries.items() if r == n and e.pairs] for n in range(len(a.references))
    }
    head_counts: dict[int, dict[int, int]] = {n: defaultdict(int) for n in range(len(a.references))}
    for reference, layer in sorted(a.entries):
        head_counts[reference][a.layers[layer].heads] += 1
    return {
        "version": 1,
        "sigmas": a.sigmas,
        "steps": _spans(a, detail.steps),
        "joint": _spans(a, detail.joint),
        "heads": detail.heads,
        "items": [{"scope": resolve_scope(a, "auto", item)} for item in range(a.items)],
        "grid": [a.grid.height, a.grid.width],
        "frames": a.grid.frames,
        "layers": [
            {"name": x.name, "grid": [x.grid.height, x.grid.width], "frames": x.grid.frames, "heads": x.heads}
            for x in a.layers
        ],
        "references": [
            {
                "name": r.name,
                "tokens": r.tokens,
                "grid": [r.grid.height, r.grid.width] if r.grid else None,
                "approximate": r.approximate,
                "layers": sorted(layer for reference, layer in a.entries if reference == n),
                "heads": [[count, layers] for count, layers in head_counts[n].items()],
                "pairs_captured": captured[n],
            }
            for n, r in enumerate(a.references)
        ],
        "pairs": kept,
        "measures": list(MEASURES),
        "mechanism": a.mechanism,
        "branch": a.branch,
        "captured_calls": a.captured_calls,
        "skipped": dict(a.skipped),
        "notes": list(a.notes),
        "summary": a.summary(),
    }


def _spans(attribution: Attribution, groups: Groups) -> list[list[int]]:
    return [[attribution.bins[group[0]].start, attribution.bins[group[-1]].stop] for group in groups]
