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
from ..regions import inside_of
from .absent import Absent
from .joined_numbers import Numbers

MASKS = "the two runs have different inpainting masks: maps are of the whole picture"
PAIRS = "pair maps of {} are left out: they are not of the same positions in both runs"
RUNS = ("first", "second")
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
        references, layers = numbers.joined_references, numbers.joined_layers
        absent = (
            Absent.of(first, runs[0], runs[1], references),
            Absent.of(second, runs[1], runs[0], references, first.steps),
        )
        entries = {}
        for place in dict.fromkeys((*runs[0], *runs[1])):
            one, other = (run.get(place, lack.seen(place)) for run, lack in zip(runs, absent, strict=True))
            off = [step for run, lack in zip(runs, absent, strict=True) if place not in run for step in lack.off(place)]
            entry = _joined(one, other)
            entries[place] = dataclasses.replace(entry, off=tuple(sorted((*entry.off, *off))))
        lost = {
            n for (r, n), x in entries.items() if not x.pairs and any((r, n) in run and run[r, n].pairs for run in runs)
        }
        alone = {n for _, n in runs[0]} ^ {n for _, n in runs[1]}
        notes = [] if masks_agree else [MASKS]
        if runs[0] and runs[1] and alone:
            notes.append(ONE_RUN.format(", ".join(layers[n].name for n in sorted(alone))))
        if lost:
            notes.append(PAIRS.format(", ".join(layers[n].name for n in sorted(lost))))
        steps = range(first.steps), range(first.steps, first.steps + second.steps)
        notes += absent[0].notes(references, RUNS, steps)
        notes += absent[1].notes(references, RUNS[::-1], steps[::-1])
        return cls(entries, notes)


def same_mask(first: Attribution, second: Attribution) -> bool:
    """Whether both runs painted the same part of the picture."""
    one, other = first.denoise_mask, second.denoise_mask
    if one is None or other is None:
        return one is other
    return torch.equal(*torch.broadcast_tensors(inside_of(one), inside_of(other)))


def _unscoped(entry: LayerMaps) -> LayerMaps:
    def of_all(maps: Mapping[str, Precise]) -> dict[str, Precise]:
        return {key: x for key, x in maps.items() if not KIND_OF[key].scoped}

    return dataclasses.replace(entry, maps=of_all(entry.maps), head_maps=of_all(entry.head_maps))


def _joined(one: LayerMaps | Tensor, other: LayerMaps | Tensor) -> LayerMaps:
    """One of them may be ``[bins]``: in how many steps of a run the reference was not there, so that its maps are 0."""
    if isinstance(one, Tensor):
        assert isinstance(other, LayerMaps)
        return _with_zeros(other, one, first=True)
    if isinstance(other, Tensor):
        return _with_zeros(one, other, first=False)
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


def _with_zeros(entry: LayerMaps, zeros: Tensor, first: bool) -> LayerMaps:
    """Maps of 0 in ``zeros [bins]`` further steps before the others (``first``), or after them."""
    own, pad = float(entry.seen.sum()), ((len(zeros), 0) if first else (0, len(zeros)))
    part = own / max(own + float(zeros.sum()), 1.0)
    return dataclasses.replace(
        entry,
        maps={key: _padded(x, pad) for key, x in entry.maps.items()},
        seen=torch.cat([zeros, entry.seen] if first else [entry.seen, zeros]),
        pairs={key: x * part for key, x in entry.pairs.items()},
        head_maps={key: _times(x, part) for key, x in entry.head_maps.items()},
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


def _times(maps: Precise, factor: float) -> Precise:
    return Half(maps.values, maps.scale * factor) if isinstance(maps, Half) else maps * factor


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
