"""Running sums while a sampler runs, within a byte budget. The only writer of an ``Attribution``."""

import dataclasses
import itertools
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from .attention import Marginals
from .attribution import Attribution, Layer, LayerMaps, Reference

PAIR_FIELDS = ("g2r_pairs", "r2g_pairs")
MAP_FIELDS = tuple(f.name for f in dataclasses.fields(Marginals) if f.name not in (*PAIR_FIELDS, "row_sums"))
PAIR_SHARE = 0.5  # of the budget, at most, for pair maps
OPEN_STEPS = 3  # steps that may still get calls: second- and third-order samplers ask ahead and come back

_Key = tuple[int, Layer]  # reference, layer


class Recorder:
    """Files the marginals of attention calls under (reference, layer, step).

    Calls of one step are averaged, so that every step weighs the same. Sums of the last few steps stay on
    the model's device; older ones move to the CPU. Time is kept as finely as fits ``budget_bytes``: each step
    apart, else groups of steps, merged further if layers or references turn up late; where not even one
    group fits, the mean of heads.
    """

    def __init__(self, sigmas: Tensor, items: int, budget_bytes: int) -> None:
        self.sigmas = sigmas.float().cpu()
        self.items = items
        self.budget_bytes = budget_bytes
        self.references: list[Reference] = []
        self.calls = 0
        self.skipped: Counter[str] = Counter()
        self.row_sums: Counter[str] = Counter()
        self.notes: dict[str, None] = {}  # an ordered set
        self._layers: dict[Layer, int] = {}
        self._open: dict[int, dict[_Key, _StepSums]] = {}
        self._kept: dict[_Key, _BinSums] = {}
        self._pair_bytes: dict[_Key, int] = {}
        self._bins: list[range] | None = None  # None until the first step is closed
        self._heads_kept = True

    @property
    def steps(self) -> int:
        return max(1, len(self.sigmas) - 1)

    def reference(self, reference: Reference) -> int:
        """The number of a reference, which is new or known."""
        if reference not in self.references:
            self.references.append(reference)
        return self.references.index(reference)

    def pairs_fit(self, reference: int, layer: Layer, rows: int) -> bool:
        """Whether the pair maps of this layer have room in the budget; layers come first come, first served."""
        key = (reference, layer)
        if key not in self._pair_bytes:
            size = 4 * len(PAIR_FIELDS) * self.items * rows * self.references[reference].tokens
            room = self.budget_bytes * PAIR_SHARE - sum(self._pair_bytes.values())
            self._pair_bytes[key] = size if size <= room else 0
        return self._pair_bytes[key] > 0

    def add(self, layer: Layer, step: int, reference: int, marginals: Marginals, pair_rows: Tensor | None) -> None:
        """File one call: marginals of all items, ``[items, heads, ...]``."""
        self._layers.setdefault(layer, len(self._layers))
        sums = self._open.setdefault(step, {}).setdefault((reference, layer), _StepSums(pair_rows))
        sums.add(marginals)
        while len(self._open) > OPEN_STEPS:
            self._close(min(self._open))

    def freeze(self, **about: Any) -> Attribution:
        """The finished attribution; ``about`` fills its descriptive fields."""
        for step in sorted(self._open):
            self._close(step)
        left_out = sorted({layer.name for (_, layer), size in self._pair_bytes.items() if size == 0})
        if left_out:
            self.notes[f"pair maps of {', '.join(left_out)} did not fit budget_mb"] = None
        return Attribution(
            references=tuple(self.references),
            layers=tuple(self._layers),
            entries={(r, self._layers[layer]): sums.freeze() for (r, layer), sums in self._kept.items()},
            bins=tuple(self._bins or ()),
            sigmas=tuple(self.sigmas.tolist()),
            items=self.items,
            heads_kept=self._heads_kept,
            captured_calls=self.calls,
            skipped=dict(self.skipped),
            row_sums=dict(self.row_sums),
            notes=tuple(self.notes),
            **about,
        )

    def _close(self, step: int) -> None:
        """Move the sums of a step to the CPU, into its bin."""
        closing = self._open.pop(step)
        if self._bins is None:
            self._bins = self._plan(closing)
        for key, sums in closing.items():
            if key not in self._kept:
                self._kept[key] = _BinSums(sums, self._bins, self._heads_kept)
                self._merge_until_it_fits()
            self._kept[key].add(sums, self._bin_of(step))

    def _bin_of(self, step: int) -> int:
        assert self._bins is not None
        return next(number for number, held in enumerate(self._bins) if step in held)

    @property
    def _room(self) -> int:
        return self.budget_bytes - sum(self._pair_bytes.values())

    def _plan(self, first: dict[_Key, "_StepSums"]) -> list[range]:
        """Choose bins and heads from what one step holds."""
        per_step = sum(sums.nbytes for sums in first.values())
        if per_step > self._room:
            self._heads_kept = False
            per_step = sum(sums.nbytes // key[1].heads for key, sums in first.items())
        bins = max(1, min(self.steps, self._room // max(1, per_step)))
        edges = [-(-b * self.steps // bins) for b in range(bins + 1)]
        return [range(low, high) for low, high in itertools.pairwise(edges)]

    def _merge_until_it_fits(self) -> None:
        """Merge neighbouring bins, two by two, while what is kept exceeds its room."""
        assert self._bins is not None
        while len(self._bins) > 1 and sum(sums.nbytes for sums in self._kept.values()) > self._room:
            pairs = [self._bins[i : i + 2] for i in range(0, len(self._bins), 2)]
            self._bins = [range(pair[0].start, pair[-1].stop) for pair in pairs]
            for sums in self._kept.values():
                sums.merge(self._bins)
        if sum(sums.nbytes for sums in self._kept.values()) > self._room:
            self.notes["the maps take more than budget_mb, although steps were merged as far as possible"] = None


class _StepSums:
    """Sums over the calls of one step, on the model's device; pair maps, which are large, on the CPU."""

    def __init__(self, pair_rows: Tensor | None) -> None:
        self.calls = 0
        self.maps: dict[str, Tensor] = {}
        self.pairs: dict[str, Tensor] = {}
        self.pair_rows = pair_rows

    def add(self, marginals: Marginals) -> None:
        self.calls += 1
        for sums, names, device in ((self.maps, MAP_FIELDS, None), (self.pairs, PAIR_FIELDS, "cpu")):
            for name in names:
                value = getattr(marginals, name)
                if value is not None:
                    value = value.to(device or value.device, torch.float32)
                    sums[name] = sums[name] + value if name in sums else value

    @property
    def nbytes(self) -> int:
        return sum(x.nbytes for x in self.maps.values())


class _BinSums:
    """Sums over steps, on the CPU."""

    def __init__(self, like: _StepSums, bins: list[range], heads_kept: bool) -> None:
        self.heads_kept = heads_kept
        self.lengths = torch.tensor([float(len(b)) for b in bins])
        self.seen = torch.zeros(len(bins))
        self.maps = {
            name: torch.zeros(x.shape[0], len(bins), x.shape[1] if heads_kept else 1, x.shape[2])
            for name, x in like.maps.items()
        }
        self.pairs = {name: torch.zeros(x.shape) for name, x in like.pairs.items()}
        self.pair_rows = like.pair_rows

    @property
    def nbytes(self) -> int:
        return sum(x.nbytes for x in self.maps.values())

    def add(self, step: _StepSums, bin_number: int) -> None:
        self.seen[bin_number] += 1
        for name, total in self.maps.items():
            value = step.maps[name] / step.calls
            value = value if self.heads_kept else value.mean(1, keepdim=True)
            total[:, bin_number] += value.cpu()
        for name, total in self.pairs.items():
            total += step.pairs[name] / step.calls

    def merge(self, bins: list[range]) -> None:
        """Join neighbouring bins two by two; ``bins`` are the new ones."""
        into = torch.arange(len(self.seen)) // 2
        self.lengths = torch.tensor([float(len(b)) for b in bins])
        self.seen = torch.zeros(len(bins)).index_add_(0, into, self.seen)
        for name, total in self.maps.items():
            shape = (total.shape[0], len(bins), *total.shape[2:])
            self.maps[name] = torch.zeros(shape).index_add_(1, into, total)

    def freeze(self) -> LayerMaps:
        weight = self.seen.clamp(min=1)
        return LayerMaps(
            maps={name: total / weight[None, :, None, None] for name, total in self.maps.items()},
            seen=torch.minimum(self.seen, self.lengths),  # a step that was closed and came back counts once
            pair_rows=self.pair_rows,
            pairs={name: total / self.seen.sum() for name, total in self.pairs.items()},
        )
