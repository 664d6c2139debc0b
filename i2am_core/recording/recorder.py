"""Running sums while a sampler runs, within a budget of memory. Only this makes an ``Attribution``."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..attention.marginals import Marginals
from ..attribution import Attribution, Layer, Reference
from ..tokens import TokenGrid
from .account import Account, CapturedCall, Verdict
from .budget import OPEN_STEPS, PAIR_SHARE, Budget, merged
from .references import References
from .sums import BinSums, Holds, PairSums, StepSums

__all__ = ["PAIR_SHARE", "Place", "Recorder", "Verdict"]

STEPS_REVISITED = (
    "the sampler came back to steps that it had left: in pair maps, these weigh a little more than in the other maps"
)
OVER_BUDGET = "the maps take more than their memory budget, although steps and heads were merged"

_Key = tuple[int, Layer]  # the number of a reference, and a layer


@dataclass(frozen=True)
class Place:
    """What the maps of one call are of."""

    layer: Layer
    step: int
    reference: int  # the number that ``Recorder.reference`` gave
    evaluation: int | None = None  # calls with the same number are parts of one evaluation: their shares add up
    reference_grid: TokenGrid | None = None  # of the reference in this layer


class Recorder:
    """Sums up the marginals of attention calls by reference, layer and step. Safe in several threads.

    ``sigmas [steps + 1]`` are the sampler's, ``items`` is the number of pictures, ``budget_bytes`` is for the sums.

    Calls of one step are averaged, so that every step weighs the same, in maps and in pair maps. Sums of the last two
    steps stay on the model's device (of pair maps, those of the last one), and older ones move to the CPU. Time is kept
    as finely as fits the budget: each step apart, or else groups of steps, which are merged further if layers or
    references turn up late. Where not even one group fits, heads are merged, too.
    """

    def __init__(self, sigmas: Tensor, items: int, budget_bytes: int) -> None:
        # Attention without a sampler is of one step.
        self.sigmas = sigmas.float().cpu() if len(sigmas) > 1 else torch.zeros(2)
        self.items = items
        self._budget = Budget(budget_bytes)
        self._lock = threading.RLock()
        self._references = References()
        self._account = Account()
        self._layers: dict[Layer, int] = {}
        self._grids: dict[_Key, TokenGrid | None] = {}
        self._open_steps: dict[int, dict[_Key, StepSums]] = {}
        self._closed: dict[_Key, BinSums] = {}
        self._pairs: dict[_Key, PairSums] = {}
        self._pair_step: int | None = None  # the step whose pair maps are summed on the device
        self._bins: list[range] | None = None  # None until the first step is closed
        self._heads_kept = True

    @property
    def chunk_bytes(self) -> int:
        """How much memory ``attribute`` should use at a time in this run."""
        return self._budget.chunk_bytes

    @property
    def steps(self) -> int:
        """How many steps the run has, at least 1."""
        return len(self.sigmas) - 1

    @property
    def references(self) -> tuple[Reference, ...]:
        """By number, as they are known so far; ``freeze`` leaves out those of which nothing was captured."""
        with self._lock:
            return self._references.known

    @property
    def calls(self) -> int:
        """How many were captured so far. Like ``skipped`` and ``notes`` it waits for the device: not in a hot path."""
        with self._lock:
            self._account.judge()
            return self._account.calls

    @property
    def skipped(self) -> Mapping[str, int]:
        """How many calls were skipped so far, by the reason."""
        with self._lock:
            self._account.judge()
            return self._account.skipped

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of this run, so far."""
        with self._lock:
            self._account.judge()
            return self._account.notes

    def given(self, references: Sequence[Reference]) -> None:
        """The given references of the run, before its first call: they are numbered first, in this order.

        They stay in the frozen attribution even if nothing of them was captured. Their grids and tokens become those of
        the calls that read them, the largest ones. Raises RuntimeError where references are numbered already.
        """
        with self._lock:
            self._references.give(references)

    def reference(self, reference: Reference) -> int:
        """The number of a reference, be it new or known. The largest of its grids is kept."""
        with self._lock:
            return self._references.number(reference)

    def pairs_fit(self, reference: int, layer: Layer, rows: int, tokens: int) -> bool:
        """Whether the pair maps of a layer, of so many rows and tokens, fit: layers are first come, first served."""
        with self._lock:
            return self._budget.pairs_fit((reference, layer), self.items * rows * tokens)

    def add(
        self, place: Place, marginals: Marginals, pair_rows: Tensor | None = None, verdicts: Sequence[Verdict] = ()
    ) -> None:
        """Add the marginals of one call, of all items: ``[items, heads, ...]``.

        ``pair_rows [A]`` are the positions of its pair maps, if it has any. Where a verdict fails, nothing is added.
        """
        key, holds = (place.reference, place.layer), _all_hold(verdicts)
        with self._lock:
            if self._account.is_retracted(place.layer.name):
                return
            self._layers.setdefault(place.layer, len(self._layers))
            self._grids[key] = place.reference_grid
            step_sums = self._open_steps.setdefault(place.step, {})
            is_new = key not in step_sums
            step_sums.setdefault(key, StepSums()).add(marginals, self._heads_kept, place.evaluation, holds)
            if pair_rows is not None:
                self._add_pairs(key, place.step, marginals, pair_rows, holds)
            while len(self._open_steps) > OPEN_STEPS:
                self._close(min(self._open_steps))
            if is_new:
                self._fit_into_budget()

    def captured(
        self,
        layer: str,
        mechanisms: Sequence[str] = (),
        row_sums: str = "",
        verdicts: Sequence[Verdict] = (),
        notes: Sequence[str] = (),
    ) -> None:
        """Count one attention call of one conditioning as captured in this layer, by these mechanisms.

        If a verdict fails, it is a skip with that reason instead, and its notes do not count.
        """
        with self._lock:
            self._account.add(CapturedCall(layer, tuple(mechanisms), row_sums, tuple(verdicts), tuple(notes)))

    def skip(self, reason: str, calls: int = 1) -> None:
        """Count calls that were not captured, with the reason in words for a person."""
        with self._lock:
            self._account.skip(reason, calls)

    def retract(self, layers: Sequence[str], reason: str) -> None:
        """Forget what was captured in these layers, since it cannot be trusted: its calls count as skipped."""
        with self._lock:
            self._account.retract(layers, reason)
            by_key: list[dict[_Key, Any]] = [self._closed, self._pairs, self._budget.pair_bytes]
            for entries in (*by_key, *self._open_steps.values()):
                for key in [key for key in entries if self._account.is_retracted(key[1].name)]:
                    del entries[key]

    def note(self, *notes: str) -> None:
        """What a person should know of this run. A note that is empty, or was made before, adds nothing."""
        with self._lock:
            self._account.note(*notes)

    def freeze(self, **about: Any) -> Attribution:
        """The finished attribution; ``about`` fills its descriptive fields, such as ``grid`` and ``branch``.

        Layers and references of which nothing was captured are left out, but for given references: numbers are those of
        the result's lists. Its mechanism, unless it is in ``about``, is the names of those that captured anything.
        """
        with self._lock:
            for step in sorted(self._open_steps):
                self._close(step)
            self._account.judge()
            for sums in self._pairs.values():
                sums.close()
            if any(sums.revisited for sums in self._pairs.values()):
                self.note(STEPS_REVISITED)
            left_out = sorted({key[1].name for key in self._closed if self._budget.pair_bytes.get(key) == 0})
            if left_out:
                self.note(f"pair maps of {', '.join(left_out)} did not fit the memory budget")
            return Attribution(**self._map_fields(), **self._run_fields() | about)

    def _map_fields(self) -> dict[str, Any]:
        """The fields of an attribution that hold maps, and what they are of."""
        numbers, references = self._references.freeze({(r, self._grids[r, layer]) for r, layer in self._closed})
        captured = {layer for _, layer in self._closed}
        layers = [layer for layer in self._layers if layer in captured]
        layer_numbers = {layer: number for number, layer in enumerate(layers)}
        entries = {
            (numbers[r], layer_numbers[layer]): sums.freeze(
                self._pairs.get((r, layer)), self._grids[r, layer] or references[numbers[r]].grid
            )
            for (r, layer), sums in self._closed.items()
        }
        return {"references": tuple(references), "layers": tuple(layers), "entries": entries}

    def _run_fields(self) -> dict[str, Any]:
        """The other fields, as far as the recorder knows them."""
        return self._account.fields() | {
            "bins": tuple(self._bins or ()),
            "sigmas": tuple(self.sigmas.tolist()),
            "items": self.items,
            "heads": "in each step" if self._heads_kept else "merged",
        }

    def _add_pairs(self, key: _Key, step: int, marginals: Marginals, rows: Tensor, holds: Holds) -> None:
        if step != self._pair_step:  # also layers that get no more calls must free the device
            for sums in self._pairs.values():
                sums.close()
            self._pair_step = step
        self._pairs.setdefault(key, PairSums(rows)).add(step, marginals, holds)

    def _close(self, step: int) -> None:
        """Move the sums of a step to the CPU, into its bin."""
        closing = self._open_steps.pop(step)
        counts = self._account.judge([sums.evaluations for sums in closing.values()])
        evaluations = dict(zip(closing, counts, strict=True))
        if self._bins is None:
            self._bins = self._budget.bins(self.steps, sum(sums.nbytes for sums in closing.values()))
        for key in list(closing):
            sums = closing.pop(key)  # its memory is free as soon as it is added
            if evaluations[key]:
                if key not in self._closed:
                    self._closed[key] = BinSums(sums, self._bins)
                self._closed[key].add(sums, self._bin_of(step), evaluations[key])

    def _bin_of(self, step: int) -> int:
        assert self._bins is not None
        return next(number for number, steps in enumerate(self._bins) if step in steps)

    def _all_sums(self) -> "list[StepSums | BinSums]":
        return [*(sums for step in self._open_steps.values() for sums in step.values()), *self._closed.values()]

    def _fit_into_budget(self) -> None:
        """Merge neighbouring bins two by two, then all heads, while the sums exceed the budget."""
        while sum(sums.nbytes for sums in self._all_sums()) > self._budget.map_bytes:
            if self._bins is not None and len(self._bins) > 1:
                self._bins = merged(self._bins)
                for bin_sums in self._closed.values():
                    bin_sums.merge(self._bins)
            elif self._heads_kept:
                self._heads_kept = False
                for sums in self._all_sums():
                    sums.merge_heads()
            else:
                self.note(OVER_BUDGET)
                return


def _all_hold(verdicts: Sequence[Verdict]) -> Holds:
    """Whether all verdicts hold, without waiting for the device."""
    holds: Holds = True
    for verdict in verdicts:
        holds = verdict.holds if holds is True else holds & verdict.holds
    return holds
