"""Running sums while a sampler runs, within a byte budget. The only writer of an ``Attribution``."""

import dataclasses
import itertools
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from .attention import CHUNK_BYTES, Marginals
from .attribution import Attribution, Layer, LayerMaps, Reference
from .tokens import TokenGrid

PAIR_FIELDS = ("g2r_pairs", "r2g_pairs")
MAP_FIELDS = tuple(f.name for f in dataclasses.fields(Marginals) if f.name not in (*PAIR_FIELDS, "row_sums"))
BESIDE = 34 * 2**20  # of ``attribute``'s chunk, is not counted in the budget; above 32 MB, glibc gives it back at once
PAIR_SHARE = 0.5  # of the budget, at most, for pair maps
OPEN_STEPS = 2  # steps that may still get calls: second-order samplers ask one ahead and come back

_Key = tuple[int, Layer]  # reference, layer


class Recorder:
    """Files the marginals of attention calls under (reference, layer, step).

    Calls of one step are averaged, so that every step weighs the same. Sums of the last two steps stay on
    the model's device; older ones move to the CPU. Time is kept as finely as fits ``budget_bytes``, these two
    included: each step apart, else groups of steps, merged further if layers or references turn up late; where
    not even one group fits, the mean of heads. Pair maps are means over all calls.
    """

    def __init__(self, sigmas: Tensor, items: int, budget_bytes: int) -> None:
        self.sigmas = sigmas.float().cpu()
        self.items = items
        self.chunk_bytes = min(CHUNK_BYTES, BESIDE + budget_bytes // 4)  # for ``attribute``
        self.budget_bytes = budget_bytes - max(0, self.chunk_bytes - BESIDE)
        self.references: list[Reference] = []
        self.calls = 0
        self.skipped: Counter[str] = Counter()
        self.row_sums: Counter[str] = Counter()
        self.notes: dict[str, None] = {}  # an ordered set
        self._layers: dict[Layer, int] = {}
        self._open: dict[int, dict[_Key, _StepSums]] = {}
        self._kept: dict[_Key, _BinSums] = {}
        self._grids: dict[_Key, TokenGrid | None] = {}
        self._pairs: dict[_Key, _PairSums] = {}
        self._pair_bytes: dict[_Key, int] = {}
        self._bins: list[range] | None = None  # None until the first step is closed
        self._heads_kept = True

    @property
    def steps(self) -> int:
        return max(1, len(self.sigmas) - 1)

    def reference(self, reference: Reference) -> int:
        """The number of a reference, which is new or known; of the grids that it has, the largest is kept."""
        spatial = reference.grid is not None
        for number, known in enumerate(self.references):
            same = (known.name, known.key, known.grid is not None) == (reference.name, reference.key, spatial)
            if same and (spatial or known.tokens == reference.tokens):
                self.references[number] = max(known, reference, key=lambda r: r.tokens)
                return number
        self.references.append(reference)
        return len(self.references) - 1

    def pairs_fit(self, reference: int, layer: Layer, rows: int, tokens: int) -> bool:
        """Whether the pair maps of this layer have room in the budget; layers come first come, first served."""
        key = (reference, layer)
        if key not in self._pair_bytes:
            size = 4 * len(PAIR_FIELDS) * self.items * rows * tokens
            others = list(self._pair_bytes.values())
            passing = max([size, *others])  # those of the call that is being filed
            room = self.budget_bytes * PAIR_SHARE - sum(others) - passing
            self._pair_bytes[key] = size if size <= room else 0
        return self._pair_bytes[key] > 0

    def add(
        self,
        layer: Layer,
        step: int,
        reference: int,
        marginals: Marginals,
        pair_rows: Tensor | None,
        evaluation: int | None = None,
        reference_grid: TokenGrid | None = None,
    ) -> None:
        """File one call: marginals of all items, ``[items, heads, ...]``, for a reference on this grid.

        Calls of one ``evaluation`` of the denoiser are parts of one result: their shares add up.
        """
        self._layers.setdefault(layer, len(self._layers))
        self._grids[reference, layer] = reference_grid
        key, open_step = (reference, layer), self._open.setdefault(step, {})
        known = key in open_step
        open_step.setdefault(key, _StepSums()).add(marginals, self._heads_kept, evaluation)
        if pair_rows is not None:
            self._pairs.setdefault(key, _PairSums(pair_rows)).add(marginals)
        while len(self._open) > OPEN_STEPS:
            self._close(min(self._open))
        if not known:
            self._make_it_fit()

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
            entries={
                (r, self._layers[layer]): sums.freeze(
                    self._pairs.get((r, layer)), self._grids[r, layer] or self.references[r].grid
                )
                for (r, layer), sums in self._kept.items()
            },
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
        for key in list(closing):
            sums = closing.pop(key)
            if key not in self._kept:
                self._kept[key] = _BinSums(sums, self._bins)
            self._kept[key].add(sums, self._bin_of(step))

    def _bin_of(self, step: int) -> int:
        assert self._bins is not None
        return next(number for number, held in enumerate(self._bins) if step in held)

    @property
    def _room(self) -> int:
        passing = max(self._pair_bytes.values(), default=0)
        return self.budget_bytes - sum(self._pair_bytes.values()) - passing

    def _held(self) -> "list[_StepSums | _BinSums]":
        return [*(sums for step in self._open.values() for sums in step.values()), *self._kept.values()]

    def _plan(self, first: dict[_Key, "_StepSums"]) -> list[range]:
        """Choose bins from what one step holds."""
        per_step = sum(sums.nbytes for sums in first.values())
        bins = max(1, min(self.steps, self._room // max(1, per_step) - OPEN_STEPS))
        edges = [-(-b * self.steps // bins) for b in range(bins + 1)]
        return [range(low, high) for low, high in itertools.pairwise(edges)]

    def _make_it_fit(self) -> None:
        """Merge neighbouring bins two by two, then all heads, while what is held exceeds its room."""
        while sum(sums.nbytes for sums in self._held()) > self._room:
            if self._bins is not None and len(self._bins) > 1:
                pairs = [self._bins[i : i + 2] for i in range(0, len(self._bins), 2)]
                self._bins = [range(pair[0].start, pair[-1].stop) for pair in pairs]
                for kept in self._kept.values():
                    kept.merge(self._bins)
            elif self._heads_kept:
                self._heads_kept = False
                for sums in self._held():
                    sums.merge_heads()
            else:
                self.notes["the maps take more than budget_mb, although steps and heads were merged"] = None
                return


class _StepSums:
    """Sums over the calls of one step, each ``[items, heads, cells]``, on the model's device.

    A map of the paper is the mean of those calls in which it says anything: of a conditioning for an area outside the
    scope, it does not.
    """

    def __init__(self) -> None:
        self.told: dict[str, Tensor] = {}  # calls in which a map of the paper is not 0, [items]
        self.evaluations = 0
        self.evaluation: int | None = None  # the last one
        self.maps: dict[str, Tensor] = {}

    def add(self, marginals: Marginals, heads_kept: bool, evaluation: int | None) -> None:
        sums, told = {}, {}
        for name in MAP_FIELDS:
            value = getattr(marginals, name)
            if value is not None:
                value = (value if heads_kept else value.mean(1, keepdim=True)).float()
                sums[name] = self.maps[name] + value if name in self.maps else value
                if "paper" in name:
                    told[name] = value.flatten(1).any(1) + self.told.get(name, 0)
        self.maps |= sums  # all or none: shapes that do not fit have raised by now
        self.told |= told
        self.evaluations += evaluation is None or evaluation != self.evaluation
        self.evaluation = evaluation

    def mean(self, name: str) -> Tensor:
        if "share" in name:
            return self.maps[name] / self.evaluations
        return self.maps[name] / self.told[name].clamp(min=1)[:, None, None]

    def merge_heads(self) -> None:
        self.maps = {name: total.mean(1, keepdim=True) for name, total in self.maps.items()}

    @property
    def nbytes(self) -> int:
        return sum(x.nbytes for x in self.maps.values())


class _PairSums:
    """Sums over all calls, each ``[items, A, M]``, on the CPU."""

    def __init__(self, rows: Tensor) -> None:
        self.calls = 0
        self.rows = rows
        self.maps: dict[str, Tensor] = {}

    def add(self, marginals: Marginals) -> None:
        self.calls += 1
        for name in PAIR_FIELDS:
            value = getattr(marginals, name).to("cpu", torch.float32)
            self.maps[name] = self.maps[name].add_(value) if name in self.maps else value

    def means(self) -> dict[str, Tensor]:
        return {name: total.div_(self.calls) for name, total in self.maps.items()}


class _BinSums:
    """Sums over steps, each ``[items, bins, heads, cells]``, on the CPU."""

    def __init__(self, like: _StepSums, bins: list[range]) -> None:
        self.lengths = torch.tensor([float(len(b)) for b in bins])
        self.seen = torch.zeros(len(bins))
        self.maps = {name: torch.zeros(x.shape[0], len(bins), x.shape[1], x.shape[2]) for name, x in like.maps.items()}

    @property
    def nbytes(self) -> int:
        return sum(x.nbytes for x in self.maps.values())

    def add(self, step: _StepSums, bin_number: int) -> None:
        self.seen[bin_number] += 1
        for name, total in self.maps.items():
            total[:, bin_number] += step.mean(name).cpu()

    def merge(self, bins: list[range]) -> None:
        """Join neighbouring bins two by two; ``bins`` are the new ones."""
        into = torch.arange(len(self.seen)) // 2
        self.lengths = torch.tensor([float(len(b)) for b in bins])
        self.seen = torch.zeros(len(bins)).index_add_(0, into, self.seen)
        for name, total in self.maps.items():
            shape = (total.shape[0], len(bins), *total.shape[2:])
            self.maps[name] = torch.zeros(shape).index_add_(1, into, total)

    def merge_heads(self) -> None:
        self.maps = {name: total.mean(2, keepdim=True) for name, total in self.maps.items()}

    def freeze(self, pairs: _PairSums | None, reference_grid: TokenGrid | None) -> LayerMaps:
        weight = self.seen.clamp(min=1)[None, :, None, None]
        return LayerMaps(
            maps={name: total.div_(weight) for name, total in self.maps.items()},
            seen=torch.minimum(self.seen, self.lengths),  # a step that was closed and came back counts once
            pair_rows=None if pairs is None else pairs.rows,
            pairs={} if pairs is None else pairs.means(),
            reference_grid=reference_grid,
        )
