"""Running sums while a sampler runs, within a byte budget. The only writer of an ``Attribution``."""

import itertools
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..attention.marginals import CHUNK_BYTES, Marginals
from ..attribution import Attribution, Layer, Reference
from ..kinds import PAIR_KEYS
from ..tokens import TokenGrid
from .references import References
from .sums import BinSums, Count, Holds, PairSums, StepSums

BESIDE = 34 * 2**20  # of ``attribute``'s chunk, is not counted in the budget; above 32 MB, glibc gives it back at once
PAIR_SHARE = 0.5  # of the budget, at most, for pair maps
PAIR_SUMS = 2  # of each pair map are held: over the calls of a step, and over steps
PASSING = 1.5 / PAIR_SUMS  # of those of a layer, while a call is filed: its own, and the new sum of one of the two
OPEN_STEPS = 2  # steps that may still get calls: second-order samplers ask one ahead and come back
CAME_BACK = (
    "the sampler came back to steps that it had left: in pair maps, these weigh a little more than in the other maps"
)
LITTLE_ROOM = "the maps take more than their memory budget, although steps and heads were merged"

_Key = tuple[int, Layer]  # reference, layer


@dataclass(frozen=True)
class Verdict:
    """Whether what was assumed of a call holds; stays on the device, judged when its step is closed, all of a step in
    one transfer.
    """

    holds: Tensor  # boolean, 0-dim, on the call's device
    otherwise: str  # the reason of the skip where it does not hold


@dataclass(frozen=True)
class Place:
    """Where the maps of one call belong."""

    layer: Layer
    step: int
    reference: int  # number given by Recorder.reference
    evaluation: int | None = None  # parts of one evaluation of the denoiser add up in share
    reference_grid: TokenGrid | None = None


@dataclass(frozen=True)
class _Captured:
    """A call that counts as captured if its verdicts hold, and its layer is not retracted."""

    layer: str
    mechanisms: Sequence[str]
    row_sums: str
    verdicts: Sequence[Verdict]
    notes: Sequence[str]


class Recorder:
    """Files the marginals of attention calls under (reference, layer, step). May be used from several threads.

    Calls of one step are averaged, so that every step weighs the same, in maps and in pair maps. Sums of the last two
    steps stay on the model's device (of pair maps, those of the last one); older ones move to the CPU. Time is kept as
    finely as fits ``budget_bytes``, these included: each step apart, else groups of steps, merged further if layers or
    references turn up late; where not even one group fits, the mean of heads.
    """

    def __init__(self, sigmas: Tensor, items: int, budget_bytes: int) -> None:
        self.sigmas = sigmas.float().cpu()
        self.items = items
        self.chunk_bytes = min(CHUNK_BYTES, BESIDE + budget_bytes // 4)  # for ``attribute``
        self._budget_bytes = budget_bytes - max(0, self.chunk_bytes - BESIDE)
        self._lock = threading.RLock()
        self._references = References()
        self._captured: Counter[tuple[str, Sequence[str], str]] = Counter()  # layer, mechanisms, row sums
        self._retracted: dict[str, str] = {}  # layers, and why
        self._skipped: Counter[str] = Counter()
        self._notes: dict[str, None] = {}  # an ordered set
        self._pending: list[_Captured] = []  # of which it is not known yet
        self._layers: dict[Layer, int] = {}
        self._open: dict[int, dict[_Key, StepSums]] = {}
        self._kept: dict[_Key, BinSums] = {}
        self._grids: dict[_Key, TokenGrid | None] = {}
        self._pairs: dict[_Key, PairSums] = {}
        self._pair_step: int | None = None  # the step whose pair maps are summed on the device
        self._pair_bytes: dict[_Key, int] = {}
        self._bins: list[range] | None = None  # None until the first step is closed
        self._heads_kept = True

    @property
    def steps(self) -> int:
        return max(1, len(self.sigmas) - 1)

    @property
    def references(self) -> tuple[Reference, ...]:
        """By number, as they are known so far; ``freeze`` leaves out those of which nothing was captured."""
        with self._lock:
            return self._references.known

    @property
    def calls(self) -> int:
        """Captured so far. Like ``skipped`` and ``notes`` it waits for the device, so it is not for the hot path."""
        with self._lock:
            self._judge([])
            return sum(calls for _, calls in self._held_calls())

    @property
    def skipped(self) -> Mapping[str, int]:
        """Calls by the reason why they were not captured."""
        with self._lock:
            self._judge([])
            return dict(self._skips())

    @property
    def notes(self) -> tuple[str, ...]:
        with self._lock:
            self._judge([])
            return tuple(self._notes)

    def given(self, references: Sequence[Reference]) -> None:
        """Before the run, what the model was given: it is numbered first, in this order.

        These stay in the frozen attribution even if nothing of them was captured. Grids and tokens are what is seen
        later, the largest of it. Raises RuntimeError where references are numbered already.
        """
        with self._lock:
            self._references.give(references)

    def reference(self, reference: Reference) -> int:
        """The number of a reference, which is new or known; of the grids that it has, the largest is kept."""
        with self._lock:
            return self._references.number(reference)

    def pairs_fit(self, reference: int, layer: Layer, rows: int, tokens: int) -> bool:
        """Whether the pair maps of this layer fit into the budget; layers come first come, first served."""
        key = (reference, layer)
        with self._lock:
            if key not in self._pair_bytes:
                size = PAIR_SUMS * 4 * len(PAIR_KEYS) * self.items * rows * tokens
                others = list(self._pair_bytes.values())
                room = self._budget_bytes * PAIR_SHARE - sum(others) - PASSING * max([size, *others])
                self._pair_bytes[key] = size if size <= room else 0
            return self._pair_bytes[key] > 0

    def add(
        self, place: Place, marginals: Marginals, pair_rows: Tensor | None = None, verdicts: Sequence[Verdict] = ()
    ) -> None:
        """File one call: marginals of all items, ``[items, heads, ...]``. Where a verdict fails, nothing enters."""
        key, holds = (place.reference, place.layer), _all_hold(verdicts)
        with self._lock:
            if place.layer.name in self._retracted:
                return
            self._layers.setdefault(place.layer, len(self._layers))
            self._grids[key] = place.reference_grid
            open_step = self._open.setdefault(place.step, {})
            known = key in open_step
            open_step.setdefault(key, StepSums()).add(marginals, self._heads_kept, place.evaluation, holds)
            if pair_rows is not None:
                self._add_pairs(key, place.step, marginals, pair_rows, holds)
            while len(self._open) > OPEN_STEPS:
                self._close(min(self._open))
            if not known:
                self._make_it_fit()

    def captured(
        self,
        layer: str,
        mechanisms: Sequence[str] = (),
        row_sums: str = "",
        verdicts: Sequence[Verdict] = (),
        notes: Sequence[str] = (),
    ) -> None:
        """One attention call of one conditioning was captured in this layer, by these mechanisms.

        If a verdict fails, it is a skip with that reason instead, and its notes do not count.
        """
        call = _Captured(layer, tuple(mechanisms), row_sums, tuple(verdicts), tuple(notes))
        with self._lock:
            if call.verdicts:
                self._pending.append(call)
            else:
                self._count(call)

    def skip(self, reason: str, calls: int = 1) -> None:
        """Calls that were not captured, and why, in words for a person."""
        with self._lock:
            self._skipped[reason] += calls

    def retract(self, layers: Sequence[str], reason: str) -> None:
        """What was captured in these layers is not to be trusted: it is forgotten, and its calls count as skipped."""
        with self._lock:
            self._retracted |= {name: reason for name in layers if name not in self._retracted}
            everything: list[dict[_Key, Any]] = [self._kept, self._pairs, self._pair_bytes, *self._open.values()]
            for held in everything:
                for key in [key for key in held if key[1].name in self._retracted]:
                    del held[key]

    def note(self, *notes: str) -> None:
        """What a person should know of this run; what was noted before, or is empty, is not noted again."""
        with self._lock:
            self._notes.update(dict.fromkeys(filter(None, notes)))

    def freeze(self, **about: Any) -> Attribution:
        """The finished attribution; ``about`` fills its descriptive fields.

        Layers and references of which nothing was captured are left out, but for those that were given: numbers are
        those of the result's lists. Its mechanism, unless given, is the names of those that captured anything.
        """
        with self._lock:
            for step in sorted(self._open):
                self._close(step)
            self._judge([])
            for sums in self._pairs.values():
                sums.close()
            if any(sums.came_back for sums in self._pairs.values()):
                self.note(CAME_BACK)
            left_out = sorted({key[1].name for key in self._kept if self._pair_bytes.get(key) == 0})
            if left_out:
                self.note(f"pair maps of {', '.join(left_out)} did not fit the memory budget")
            return Attribution(**self._found(), **self._counted() | about)

    def _found(self) -> dict[str, Any]:
        """The fields of an attribution that hold maps, and what they are of."""
        numbers, references = self._references.freeze({(r, self._grids[r, layer]) for r, layer in self._kept})
        seen = {layer for _, layer in self._kept}
        layers = [layer for layer in self._layers if layer in seen]
        places = {layer: number for number, layer in enumerate(layers)}
        entries = {
            (numbers[r], places[layer]): sums.freeze(
                self._pairs.get((r, layer)), self._grids[r, layer] or references[numbers[r]].grid
            )
            for (r, layer), sums in self._kept.items()
        }
        return {"references": tuple(references), "layers": tuple(layers), "entries": entries}

    def _counted(self) -> dict[str, Any]:
        return {
            "bins": tuple(self._bins or ()),
            "sigmas": tuple(self.sigmas.tolist()),
            "items": self.items,
            "heads_kept": self._heads_kept,
            "mechanism": ", ".join(dict.fromkeys(name for (_, names, _), _ in self._held_calls() for name in names)),
            "captured_calls": sum(calls for _, calls in self._held_calls()),
            "skipped": dict(self._skips()),
            "row_sums": dict(self._row_sums()),
            "notes": tuple(self._notes),
        }

    def _add_pairs(self, key: _Key, step: int, marginals: Marginals, rows: Tensor, holds: Holds) -> None:
        """Where a step begins, the sums of all layers move to the CPU: those that have no more calls must, too."""
        if step != self._pair_step:
            for sums in self._pairs.values():
                sums.close()
            self._pair_step = step
        self._pairs.setdefault(key, PairSums(rows)).add(step, marginals, holds)

    def _close(self, step: int) -> None:
        """Move the sums of a step to the CPU, into its bin."""
        closing = self._open.pop(step)
        evaluations = dict(zip(closing, self._judge([sums.evaluations for sums in closing.values()]), strict=True))
        if self._bins is None:
            self._bins = self._plan(closing)
        for key in list(closing):
            sums = closing.pop(key)
            if evaluations[key]:
                if key not in self._kept:
                    self._kept[key] = BinSums(sums, self._bins)
                self._kept[key].add(sums, self._bin_of(step), evaluations[key])

    def _judge(self, counts: Sequence[Count]) -> list[int]:
        """Judge what is pending, and give the counts as numbers: one transfer from the device, if any."""
        pending, self._pending = self._pending, []
        verdicts = [verdict.holds for call in pending for verdict in call.verdicts]
        on_device = [count for count in counts if isinstance(count, Tensor)]
        known = iter(_numbers([*verdicts, *on_device]))
        for call in pending:
            held = [(bool(next(known)), verdict.otherwise) for verdict in call.verdicts]
            failed = [otherwise for holds, otherwise in held if not holds]
            if failed:
                self._skipped[failed[0]] += 1
            else:
                self._count(call)
        return [next(known) if isinstance(count, Tensor) else int(count) for count in counts]

    def _count(self, call: _Captured) -> None:
        self._captured[call.layer, call.mechanisms, call.row_sums] += 1
        self.note(*call.notes)

    def _held_calls(self) -> list[tuple[tuple[str, Sequence[str], str], int]]:
        """Those captured in layers that were not retracted."""
        return [(call, count) for call, count in self._captured.items() if call[0] not in self._retracted]

    def _row_sums(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for (_, _, row_sums), calls in self._held_calls():
            found[row_sums] += calls if row_sums else 0
        return +found

    def _skips(self) -> Counter[str]:
        """By reason; what was captured in layers that are retracted is among them."""
        found = self._skipped.copy()
        for (layer, _, _), calls in self._captured.items():
            if layer in self._retracted:
                found[self._retracted[layer]] += calls
        return found

    def _bin_of(self, step: int) -> int:
        assert self._bins is not None
        return next(number for number, held in enumerate(self._bins) if step in held)

    @property
    def _room(self) -> float:
        sizes = self._pair_bytes.values()
        return self._budget_bytes - sum(sizes) - PASSING * max(sizes, default=0)

    def _held(self) -> "list[StepSums | BinSums]":
        return [*(sums for step in self._open.values() for sums in step.values()), *self._kept.values()]

    def _plan(self, first: dict[_Key, StepSums]) -> list[range]:
        """Choose bins from what one step holds."""
        per_step = sum(sums.nbytes for sums in first.values())
        bins = max(1, min(self.steps, int(self._room // max(1, per_step)) - OPEN_STEPS))
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
                self.note(LITTLE_ROOM)
                return


def _all_hold(verdicts: Sequence[Verdict]) -> Holds:
    holds: Holds = True
    for verdict in verdicts:
        holds = verdict.holds if holds is True else holds & verdict.holds
    return holds


def _numbers(values: Sequence[Tensor]) -> list[int]:
    """0-dim tensors as numbers, in one transfer where they are on one device."""
    if not values:
        return []
    device = values[0].device
    found: list[int] = torch.stack([x.detach().to(device, torch.int64) for x in values]).tolist()
    return found
