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
MAP_FIELDS = tuple(f.name for f in dataclasses.fields(Marginals) if f.name not in PAIR_FIELDS)
PAIR_SHARE = 0.5  # of the budget, at most, for pair maps

_Key = tuple[int, Layer]  # reference, layer


class Recorder:
    """Files the marginals of attention calls under (reference, layer, step).

    Calls of one step are averaged, so that every step weighs the same. Sums of the current step stay on
    the model's device; when the step is over they move to the CPU. Then, once, the finest detail that
    fits ``budget_bytes`` is chosen: each step and head apart, else groups of steps, else the mean of heads.
    """

    def __init__(self, sigmas: Tensor, items: int, budget_bytes: int) -> None:
        self.sigmas = sigmas.float().cpu()
        self.items = items
        self.budget_bytes = budget_bytes
        self.references: list[Reference] = []
        self.calls = 0
        self.skipped: Counter[str] = Counter()
        self._layers: dict[Layer, int] = {}
        self._step: int | None = None
        self._now: dict[_Key, _StepSums] = {}
        self._kept: dict[_Key, _BinSums] = {}
        self._pair_bytes: dict[_Key, int] = {}
        self._bins: list[range] | None = None  # None until the first step is over
        self._heads_kept = True

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    def reference(self, reference: Reference) -> int:
        """The number of a reference, which is new or known."""
        if reference not in self.references:
            self.references.append(reference)
        return self.references.index(reference)

    def pairs_fit(self, reference: int, layer: Layer, rows: int) -> bool:
        """Whether the pair map of this layer has room in the budget; layers come first come, first served."""
        key = (reference, layer)
        if key not in self._pair_bytes:
            size = 4 * len(PAIR_FIELDS) * self.items * rows * self.references[reference].tokens
            room = self.budget_bytes * PAIR_SHARE - sum(self._pair_bytes.values())
            self._pair_bytes[key] = size if size <= room else 0
        return self._pair_bytes[key] > 0

    def add(self, layer: Layer, step: int, reference: int, marginals: Marginals, pair_rows: Tensor | None) -> None:
        """File one call: marginals of all items, ``[items, heads, ...]``."""
        if step != self._step:
            self._close_step()
            self._step = step
        self._layers.setdefault(layer, len(self._layers))
        self._now.setdefault((reference, layer), _StepSums(pair_rows)).add(marginals)

    def freeze(self, **about: Any) -> Attribution:
        """The finished attribution; ``about`` fills its descriptive fields."""
        self._close_step()
        layers = tuple(self._layers)
        left_out = sorted({layer.name for (_, layer), size in self._pair_bytes.items() if size == 0})
        notes = [f"pair maps of {', '.join(left_out)} did not fit budget_mb"] if left_out else []
        return Attribution(
            references=tuple(self.references),
            layers=layers,
            entries={(r, self._layers[layer]): sums.freeze() for (r, layer), sums in self._kept.items()},
            bins=tuple(self._bins or ()),
            sigmas=tuple(self.sigmas.tolist()),
            items=self.items,
            heads_kept=self._heads_kept,
            captured_calls=self.calls,
            skipped=dict(self.skipped),
            notes=tuple(notes),
            **about,
        )

    def _close_step(self) -> None:
        if not self._now:
            return
        if self._bins is None:
            self._plan()
        assert self._bins is not None and self._step is not None
        bin_number = self._step * len(self._bins) // self.steps
        for key, sums in self._now.items():
            if key not in self._kept:
                self._kept[key] = _BinSums(sums, len(self._bins), self._heads_kept)
            self._kept[key].add(sums, bin_number)
        self._now.clear()

    def _plan(self) -> None:
        """Choose bins and heads from what the first step held."""
        room = self.budget_bytes - sum(self._pair_bytes.values())
        per_step = sum(sums.nbytes for sums in self._now.values())
        if per_step > room:
            self._heads_kept = False
            per_step = sum(sums.nbytes // key[1].heads for key, sums in self._now.items())
        bins = max(1, min(self.steps, room // max(1, per_step)))
        edges = [-(-b * self.steps // bins) for b in range(bins + 1)]
        self._bins = [range(low, high) for low, high in itertools.pairwise(edges)]


class _StepSums:
    """Sums over the calls of one step, on the model's device."""

    def __init__(self, pair_rows: Tensor | None) -> None:
        self.calls = 0
        self.maps: dict[str, Tensor] = {}
        self.pairs: dict[str, Tensor] = {}
        self.pair_rows = pair_rows

    def add(self, marginals: Marginals) -> None:
        self.calls += 1
        for sums, names in ((self.maps, MAP_FIELDS), (self.pairs, PAIR_FIELDS)):
            for name in names:
                value = getattr(marginals, name)
                if value is not None:
                    sums[name] = sums[name] + value.float() if name in sums else value.float()

    @property
    def nbytes(self) -> int:
        return sum(x.nbytes for x in self.maps.values())


class _BinSums:
    """Sums over steps, on the CPU."""

    def __init__(self, like: _StepSums, bins: int, heads_kept: bool) -> None:
        self.heads_kept = heads_kept
        self.seen = torch.zeros(bins)
        self.maps = {
            name: torch.zeros(x.shape[0], bins, x.shape[1] if heads_kept else 1, x.shape[2])
            for name, x in like.maps.items()
        }
        self.pairs = {name: torch.zeros(x.shape) for name, x in like.pairs.items()}
        self.pair_rows = like.pair_rows

    def add(self, step: _StepSums, bin_number: int) -> None:
        self.seen[bin_number] += 1
        for name, total in self.maps.items():
            value = step.maps[name] / step.calls
            value = value if self.heads_kept else value.mean(1, keepdim=True)
            total[:, bin_number] += value.cpu()
        for name, total in self.pairs.items():
            total += step.pairs[name].cpu() / step.calls

    def freeze(self) -> LayerMaps:
        weight = self.seen.clamp(min=1)
        return LayerMaps(
            maps={name: total / weight[None, :, None, None] for name, total in self.maps.items()},
            seen=self.seen,
            pair_rows=self.pair_rows,
            pairs={name: total / self.seen.sum() for name, total in self.pairs.items()},
        )
