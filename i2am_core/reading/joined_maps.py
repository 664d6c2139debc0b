"""The maps of two runs as those of one: steps one after the other, and means over steps by how many each run has."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..attribution import Attribution, LayerMaps
from ..half import Half, Precise, full
from ..kinds import KIND_OF
from .joined_numbers import Numbers

MASKS = "the two runs have different inpainting masks: maps are of the whole picture"
PAIRS = "pair maps of {} are left out: they are not of the same positions in both runs"
ONE_RUN = "of one run alone: {}"

Place = tuple[int, int]


@dataclass(frozen=True)
class JoinedMaps:
    """Entries by the numbers of both runs together, and what a person should know of them."""

    entries: dict[Place, LayerMaps]
    notes: list[str]

    @classmethod
    def of(cls, first: Attribution, second: Attribution, numbers: Numbers) -> "JoinedMaps":
        masks_agree = same_mask(first, second)
        renumbered = {
            (numbers.references[r], numbers.layers[n]): dataclasses.replace(
                x, off=tuple(first.steps + s for s in x.off)
            )
            for (r, n), x in second.entries.items()
        }
        runs = [
            entries if masks_agree else {place: _unscoped(entry) for place, entry in entries.items()}
            for entries in (first.entries, renumbered)
        ]
        bins = len(first.bins), len(second.bins)
        places = dict.fromkeys((*runs[0], *runs[1]))
        entries = {place: _joined(runs[0].get(place), runs[1].get(place), bins) for place in places}
        lost = {
            n for (r, n), x in entries.items() if not x.pairs and any((r, n) in run and run[r, n].pairs for run in runs)
        }
        alone = {n for _, n in runs[0]} ^ {n for _, n in runs[1]}
        layers = numbers.joined_layers
        notes = [] if masks_agree else [MASKS]
        if runs[0] and runs[1] and alone:
            notes.append(ONE_RUN.format(", ".join(layers[n].name for n in sorted(alone))))
        if lost:
            notes.append(PAIRS.format(", ".join(layers[n].name for n in sorted(lost))))
        return cls(entries, notes)


def same_mask(first: Attribution, second: Attribution) -> bool:
    """Whether both runs painted the same part of the picture."""
    one, other = first.denoise_mask, second.denoise_mask
    if one is None or other is None:
        return one is other
    return torch.equal(*torch.broadcast_tensors(one > 0, other > 0))


def _unscoped(entry: LayerMaps) -> LayerMaps:
    def of_all(maps: Mapping[str, Precise]) -> dict[str, Precise]:
        return {key: x for key, x in maps.items() if not KIND_OF[key].scoped}

    return dataclasses.replace(entry, maps=of_all(entry.maps), head_maps=of_all(entry.head_maps))


def _joined(one: LayerMaps | None, other: LayerMaps | None, bins: tuple[int, int]) -> LayerMaps:
    """One of them may be None: where a layer was not seen in any step of a run, its maps are 0 there."""
    before, after = bins
    if one is None or other is None:
        entry = one or other
        assert entry is not None
        pad = (0, after) if one is not None else (before, 0)
        maps = {key: _padded(x, pad) for key, x in entry.maps.items()}
        return dataclasses.replace(entry, maps=maps, seen=F.pad(entry.seen, pad))
    weights = float(one.seen.sum()), float(other.seen.sum())
    has_pairs = one.pairs and other.pairs and _equal(one.pair_rows, other.pair_rows)
    return dataclasses.replace(
        one,
        maps={key: _one_after_another(x, other.maps[key]) for key, x in one.maps.items() if key in other.maps},
        seen=torch.cat([one.seen, other.seen]),
        pair_rows=one.pair_rows if has_pairs else None,
        pairs=_means(one.pairs, other.pairs, weights) if has_pairs else {},
        head_maps=_means(one.head_maps, other.head_maps, weights),
        off=(*one.off, *other.off),
    )


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and torch.equal(one, other)


def _one_after_another(one: Precise, other: Precise) -> Precise:
    """``[items, bins, heads, cells]`` of both; in half precision where both are."""
    if isinstance(one, Half) and isinstance(other, Half):
        return Half(torch.cat([one.values, other.values], 1), torch.cat([one.scale, other.scale], 1))
    return torch.cat([full(one), full(other)], 1)


def _padded(maps: Precise, pad: tuple[int, int]) -> Precise:
    if isinstance(maps, Half):
        return Half(F.pad(maps.values, (0, 0, 0, 0, *pad)), F.pad(maps.scale, (0, 0, 0, 0, *pad)))
    return F.pad(maps, (0, 0, 0, 0, *pad))


def _means(one: Mapping[str, Precise], other: Mapping[str, Precise], weights: tuple[float, float]) -> dict[str, Tensor]:
    """Of each map that both have, the mean in which each step weighs the same.

    It is in full precision, which takes as much as two maps in half precision.
    """
    total = max(sum(weights), 1.0)
    return {
        key: full(x) * (weights[0] / total) + full(other[key]) * (weights[1] / total)
        for key, x in one.items()
        if key in other
    }
