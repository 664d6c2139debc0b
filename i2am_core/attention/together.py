"""Attention calls that wait until the maps of several can be made together, as those of one call of more items.

On a device that runs on its own, small calls cost what the host does for each: it starts the same few kernels again and
again. So it is of calls that are alike in all but their values. Each gets the maps that it would get alone.

What waits is copied: nobody knows what becomes of a call's queries and keys when the model has gone on. CUDA graphs,
for one, write into the same memory each time.
"""

import dataclasses
import logging
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..tokens import Index, TokenGroup
from .marginals import ALL_POSITIONS, DEFAULT_LOGITS, Logits, Marginals, Positions, attribute, share_of
from .on_device import brought, runs_alone

log = logging.getLogger(__name__)

Attribute = Callable[..., list[Marginals]]
"""``marginals.attribute``, or ``SteeredItems.attribute``, which takes the same."""


@dataclass(frozen=True)
class Request:
    """What is to be known of an attention call: what ``attribute`` is given, and ``beside``, columns of no reference.

    Of these it is how much of the attention goes there: see ``marginals.share_of``.
    """

    q: Tensor
    k: Tensor
    references: Sequence[TokenGroup]
    logits: Logits = DEFAULT_LOGITS
    positions: Positions = ALL_POSITIONS
    beside: Index | None = None
    attribute: Attribute = attribute

    def answered(self, chunk_bytes: int) -> "Answer":
        """The maps of this call alone. Raises what ``attribute`` raises."""
        maps = self.attribute(self.q, self.k, self.references, self.logits, self.positions, chunk_bytes)
        total = maps[0].total
        if self.beside is None or total is None:
            return Answer(maps)
        try:
            return Answer(maps, share_of(self.q, self.k, self.beside, total, self.logits, self.positions.queries))
        except Exception as error:  # it is beside the point: the maps are there
            return Answer(maps, error=error)

    @property
    def likeness(self) -> Hashable | None:
        """What calls have in common whose maps can be made together; None of one that is made alone."""
        logits, positions = self.logits, self.positions
        indices = [group.index for group in self.references]
        if self.beside is not None:
            indices.append(self.beside)
        columns = [(index.start, index.stop, index.step) for index in indices if isinstance(index, slice)]
        scattered = len(columns) < len(indices) or not isinstance(positions.queries, slice)
        own = logits.bias is not None or positions.pair_rows is not None or self.attribute is not attribute
        if scattered or own or any(group.cells is not None for group in self.references) or not runs_alone(self.q):
            return None
        tensors = (self.q.shape, self.q.dtype, self.q.device, self.k.shape, self.k.dtype, logits.scale)
        groups = tuple((group.count, group.grid) for group in self.references)
        given = logits.total is None, positions.gain is None, positions.scope is None, self.beside is None
        rows = positions.queries.indices(self.q.shape[2])
        return tensors, rows, groups, tuple(columns), given

    @property
    def nbytes(self) -> int:
        """What a copy takes."""
        return self.q[:, :, self.positions.queries].nbytes + self.k.nbytes

    def copied(self) -> "Request":
        """The same of memory of its own, cut down to the rows that count."""
        queries, total = self.positions.queries, self.logits.total
        return Request(
            self.q[:, :, queries].clone(),
            self.k.clone(),
            self.references,
            Logits(self.logits.scale, self.logits.bias, None if total is None else total[:, :, queries]),
            Positions(slice(None), self.positions.gain, self.positions.scope, self.positions.pair_rows),
            self.beside,
            self.attribute,
        )


@dataclass(frozen=True)
class Answer:
    """The maps of each reference; the share ``[B, N]`` of what is beside them, or why it could not be worked out."""

    maps: list[Marginals]
    beside: Tensor | None = None
    error: Exception | None = None


def answered_together(requests: Sequence[Request], chunk_bytes: int) -> list[Answer]:
    """The answers to requests of one likeness, in their order. Raises what ``attribute`` raises for any of them."""
    if len(requests) == 1:
        return [requests[0].answered(chunk_bytes)]
    whole = _joined(requests).answered(chunk_bytes)
    batch = requests[0].q.shape[0]
    shares = torch.stack([maps.r2g_share.flatten(1).sum(1) for maps in whole.maps]).sum(0).view(-1, batch).sum(1)
    numbers = (shares == shares).unbind()  # whether those of each call are: see ``Marginals.holds``
    by_reference = [_split(maps, batch, numbers) for maps in whole.maps]
    beside = [None] * len(numbers) if whole.beside is None else whole.beside.split(batch)
    return [
        Answer(list(maps), share, whole.error)
        for maps, share in zip(zip(*by_reference, strict=True), beside, strict=True)
    ]


def _joined(requests: Sequence[Request]) -> Request:
    """One request, whose items are those of all, one after the other."""
    first = requests[0]
    (batch, _, n, _), device = first.q.shape, first.q.device

    def joined(values: Sequence[Tensor | None]) -> Tensor | None:
        given = [x for x in values if x is not None]
        return torch.cat([brought(x, device).expand(batch, n) for x in given]) if given else None

    totals = [request.logits.total for request in requests]
    total = torch.cat([x for x in totals if x is not None]) if totals[0] is not None else None
    positions = [request.positions for request in requests]
    return dataclasses.replace(
        first,
        q=torch.cat([request.q for request in requests]),
        k=torch.cat([request.k for request in requests]),
        logits=dataclasses.replace(first.logits, total=total),
        positions=dataclasses.replace(
            first.positions, gain=joined([x.gain for x in positions]), scope=joined([x.scope for x in positions])
        ),
    )


def _split(maps: Marginals, batch: int, numbers: Sequence[Tensor]) -> list[Marginals]:
    """The maps of so many items each; ``numbers`` says of each whether they are."""
    whole = vars(maps)
    parts = {name: x.split(batch) for name, x in whole.items() if isinstance(x, Tensor) and name != "holds"}
    rest = {name: x for name, x in whole.items() if name not in parts} | {"holds": None}
    return [
        Marginals(**rest | {"holds": holds} | {name: part[n] for name, part in parts.items()})
        for n, holds in enumerate(numbers)
    ]


Then = Callable[[list[Answer]], None]
Lost = Callable[[Exception], None]


@dataclass(frozen=True)
class Call:
    """A call that waits: what is requested of it, and what is done with the answers, or with an error.

    ``likeness`` is that of its requests.
    """

    requests: list[Request]
    likeness: Hashable
    then: Then
    lost: Lost


class Waiting(threading.local):
    """Calls in the order in which they came.

    All together copy ``most_bytes`` at most, and about as much is used at a time. Each thread has its own: where a
    host computes parts of a step in several, each is for another device.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._calls: list[Call] = []
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._calls)

    def put(self, requests: Sequence[Request], then: Then, lost: Lost) -> None:
        """A call, of which several things may be requested. One that cannot wait is answered now, after the others.

        Raises what ``attribute``, and ``then``, raise for such a call.
        """
        likeness = tuple(request.likeness for request in requests)
        nbytes = sum(request.nbytes for request in requests)
        if None in likeness or nbytes > self.most_bytes // 2:
            self.answer()
            then([request.answered(self.most_bytes) for request in requests])
            return
        if self._bytes + nbytes > self.most_bytes:
            self.answer()
        self._calls.append(Call([request.copied() for request in requests], likeness, then, lost))
        self._bytes += nbytes

    def answer(self) -> None:
        """Answer all that wait, in their order. What goes wrong in one is handed to its ``lost``."""
        calls, self._calls, self._bytes = self._calls, [], 0
        alike: dict[Hashable, list[int]] = {}
        for number, call in enumerate(calls):
            alike.setdefault(call.likeness, []).append(number)
        answers: dict[int, list[Answer] | Exception] = {}
        for numbers in alike.values():
            answers |= zip(numbers, self._answers([calls[number].requests for number in numbers]), strict=True)
        for number, call in enumerate(calls):
            answer = answers.pop(number)
            try:
                if isinstance(answer, Exception):
                    raise answer
                call.then(answer)
            except Exception as error:
                call.lost(error)

    def _answers(self, calls: Sequence[list[Request]]) -> Sequence[list[Answer] | Exception]:
        """Of calls that are alike; where that fails, as where memory is short, of each alone."""
        try:
            by_request = [answered_together(alike, self.most_bytes) for alike in zip(*calls, strict=True)]
            return [list(answers) for answers in zip(*by_request, strict=True)]
        except Exception as error:
            if len(calls) == 1:
                return [error]
            log.debug("the maps of %d calls could not be made together", len(calls), exc_info=True)
            return [self._answers([call])[0] for call in calls]
