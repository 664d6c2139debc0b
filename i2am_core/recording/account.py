"""The account of a run's attention calls: each was captured, or was skipped with a reason.

Whether a call counts as captured may rest on verdicts, booleans on the device that nobody waits for: such calls are
pending until ``judge``.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from torch import Tensor

from ..attention.stacked import Maps, Part
from .transfer import sent_to_host


@dataclass(frozen=True)
class Verdict:
    """Whether what was assumed of a call holds.

    It stays on the device until the call's step is closed: then all verdicts of the step are judged in one transfer.
    """

    holds: Tensor  # boolean, 0-dim, on the call's device
    otherwise: str  # the reason of the skip where it does not hold


@dataclass(frozen=True)
class ComputedBy:
    """What computed the row sums and the maps of a call, as ``Marginals`` names it; "" where nothing is to be said."""

    row_sums: str = ""
    arithmetic: str = ""

    @classmethod
    def of(cls, maps: Maps) -> "ComputedBy":
        return cls.named(maps.row_sums, maps.arithmetic)

    @classmethod
    @lru_cache
    def named(cls, row_sums: str, arithmetic: str) -> "ComputedBy":
        """One object for the same names, which are the same few in all calls."""
        return cls(row_sums, arithmetic)


UNNAMED = ComputedBy()


@dataclass(frozen=True)
class CapturedCall:
    """A call that counts as captured if its verdicts hold, and its layer is not retracted."""

    layer: str
    mechanisms: tuple[str, ...]
    computed_by: ComputedBy
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...]
    remarks: tuple[Verdict, ...]  # notes, of those that do not hold


class Account:
    """Counts of calls by layer, and by the reason of a skip; notes for a person. Not safe in several threads."""

    def __init__(self) -> None:
        # By layer, mechanisms, and what computed them.
        self._captured: Counter[tuple[str, tuple[str, ...], ComputedBy]] = Counter()
        self._retracted: dict[str, str] = {}  # layer -> reason
        self._skipped: Counter[str] = Counter()
        self._notes: dict[str, None] = {}  # an ordered set
        self._pending: list[CapturedCall] = []
        self._on_their_way: list[Judgement] = []
        self._off: dict[str, None] = {}  # mechanisms whose references were observed to be off, an ordered set

    def off(self, mechanism: str) -> None:
        """References of this mechanism were observed, though they are off: that is no call."""
        self._off[mechanism] = None

    def add(self, call: CapturedCall) -> None:
        if call.verdicts or call.remarks:
            self._pending.append(call)
        else:
            self._count(call)

    def skip(self, reason: str, calls: int) -> None:
        self._skipped[reason] += calls

    def retract(self, layers: Sequence[str], reason: str) -> None:
        """Calls captured in these layers, also later ones, count as skipped. The first reason of a layer stays."""
        self._retracted |= {layer: reason for layer in layers if layer not in self._retracted}

    @property
    def retracted(self) -> set[str]:
        """The names of the layers that are."""
        return set(self._retracted)

    def is_retracted(self, layer: str) -> bool:
        return layer in self._retracted

    def note(self, *notes: str) -> None:
        self._notes.update(dict.fromkeys(filter(None, notes)))

    def judge(self) -> None:
        """Judge all pending calls. Waits for the device."""
        self.send()
        while self._on_their_way:
            self._on_their_way[0].end()

    def send(self, also: Sequence[Tensor | Part] = ()) -> "Judgement":
        """Send to the host, in one transfer, the verdicts of the pending calls, and what is ``also`` to come there.

        Where that raises, as where memory is short, the calls stay pending.
        """
        verdicts = [verdict.holds for call in self._pending for verdict in (*call.verdicts, *call.remarks)]
        arrived = sent_to_host([*verdicts, *also])
        judgement = Judgement(self, self._pending, arrived)
        self._pending = []
        self._on_their_way.append(judgement)
        return judgement

    def judged(self, judgement: "Judgement", on_host: Iterator[Tensor]) -> None:
        """Count the calls of a judgement, whose verdicts are the first that are ``on_host``."""
        self._on_their_way = [other for other in self._on_their_way if other is not judgement]

        def failures(judged: Sequence[Verdict]) -> list[str]:
            results = [(bool(next(on_host)), verdict.otherwise) for verdict in judged]
            return [reason for holds, reason in results if not holds]

        for call in judgement.pending:
            reasons, notes = failures(call.verdicts), failures(call.remarks)
            if reasons:
                self._skipped[reasons[0]] += 1
            else:
                self._count(call)
                self.note(*notes)

    @property
    def is_empty(self) -> bool:
        """Whether there was no call, be it captured, skipped or pending."""
        return not (self._pending or self._on_their_way or self._captured or self._skipped)

    @property
    def calls(self) -> int:
        """How many were captured, so far as they are judged."""
        return sum(calls for *_, calls in self._counted())

    @property
    def skipped(self) -> Mapping[str, int]:
        """Calls by reason, those captured in retracted layers among them."""
        skipped = self._skipped.copy()
        for (layer, *_), calls in self._captured.items():
            if layer in self._retracted:
                skipped[self._retracted[layer]] += calls
        return dict(skipped)

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(self._notes)

    @property
    def mechanisms(self) -> list[str]:
        """The names of those that captured anything, or observed it to be off."""
        return [*(dict.fromkeys(name for names, *_ in self._counted() for name in names) | self._off)]

    def fields(self) -> dict[str, Any]:
        """The fields of an attribution that say what was captured and what was not."""
        row_sums: Counter[str] = Counter()
        arithmetic: Counter[str] = Counter()
        for _, by, calls in self._counted():
            row_sums[by.row_sums] += calls if by.row_sums else 0
            arithmetic[by.arithmetic] += calls if by.arithmetic else 0
        return {
            "mechanism": ", ".join(self.mechanisms),
            "captured_calls": self.calls,
            "skipped": self.skipped,
            "row_sums": dict(+row_sums),  # without the name "", of calls that say nothing about it
            "arithmetic": dict(+arithmetic),
            "notes": self.notes,
        }

    def _count(self, call: CapturedCall) -> None:
        self._captured[call.layer, call.mechanisms, call.computed_by] += 1
        self.note(*call.notes)

    def _counted(self) -> list[tuple[tuple[str, ...], ComputedBy, int]]:
        """Mechanisms, what computed them, and number of the calls captured in layers that are not retracted."""
        return [
            (mechanisms, computed_by, calls)
            for (layer, mechanisms, computed_by), calls in self._captured.items()
            if layer not in self._retracted
        ]


class Judgement:
    """Verdicts on their way to the host, and what came along. Ended in the order in which they were sent, or not."""

    def __init__(self, account: Account, pending: Sequence[CapturedCall], arrived: Callable[[], list[Tensor]]) -> None:
        self.pending = pending
        self._account, self._arrived = account, arrived
        self._also: list[Tensor] | None = None

    def end(self) -> list[Tensor]:
        """Judge the calls, once, and return what came along. Waits for the transfer alone."""
        if self._also is None:
            on_host = iter(self._arrived())
            self._account.judged(self, on_host)
            self._also = list(on_host)
        return self._also
