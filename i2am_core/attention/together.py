"""Attention calls that wait until the maps of several can be made together, as those of one call of more items.

On a device that runs on its own, small calls cost what the host does for each: it starts the same few kernels again and
again. So it is of calls that are alike in all but their values. Each gets the maps that it would get alone.

Queries and keys that wait are copied: nobody knows what becomes of them when the model has gone on. CUDA graphs, for
one, write into the same memory each time. Row sums, gains and scopes are made for the call, and are not.
"""

import dataclasses
import itertools
import logging
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..tokens import Index, TokenGroup
from .marginals import ALL_POSITIONS, DEFAULT_LOGITS, Logits, Marginals, Positions, are_numbers, attribute, share_of
from .on_device import brought, runs_alone
from .stacked import Maps, Part, Stacked, StackedCall, alone

log = logging.getLogger(__name__)

FIRST_CALLS, MOST_CALLS = 8, 32  # that are answered together, at first and at most

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
        assert isinstance(positions.queries, slice)
        rows = positions.queries.indices(self.q.shape[2])
        return tensors, rows, groups, tuple(columns), given

    @property
    def queries(self) -> Tensor:
        """Those of the positions, ``[B, H, N, D]``."""
        return self.q[:, :, self.positions.queries]

    @property
    def columns(self) -> list[slice]:
        """The columns that its answer depends on: all of them where the row log-sum-exp is not known."""
        if self.logits.total is None:
            return [slice(0, self.k.shape[2])]
        indices = [*(group.index for group in self.references), self.beside]
        return [slice(*index.indices(self.k.shape[2])) for index in indices if isinstance(index, slice)]

    @property
    def nbytes(self) -> int:
        """What a copy takes of what its answer depends on."""
        return self.queries.nbytes + self.k.nbytes // self.k.shape[2] * sum(map(_length, self.columns))


@dataclass(frozen=True)
class Answer:
    """The maps of each reference; the share ``[B, N]`` of what is beside them, or why it could not be worked out."""

    maps: Sequence[Maps]
    share_beside: Tensor | Part | None = None
    error: Exception | None = None


class Stack:
    """Requests of one likeness, of which queries and keys are copied one behind the other, for so many at most."""

    def __init__(self, first: Request, capacity: int) -> None:
        batch, heads, n, size = first.queries.shape
        self.capacity, self._batch, self._scale = capacity, batch, first.logits.scale
        self._columns, self._references, self._beside = _packed(first)
        self._given: list[tuple[Tensor | None, Tensor | None, Tensor | None]] = []  # sums, gain and scope of each
        self._q = first.q.new_empty(capacity * batch, n, heads, size).transpose(1, 2)  # as models lay them out
        self._k = first.k.new_empty(capacity * batch, sum(map(_length, self._columns)), heads, size).transpose(1, 2)

    def __len__(self) -> int:
        return len(self._given)

    @torch.no_grad()
    def put(self, request: Request) -> None:
        """Copy one."""
        queries, k = request.queries, request.k
        items = slice(len(self) * self._batch, (len(self) + 1) * self._batch)
        self._q[items].copy_(queries)
        first = 0
        for columns in self._columns:
            self._k[items, :, first : first + _length(columns)].copy_(k[:, :, columns])
            first += _length(columns)
        total, positions = request.logits.total, request.positions
        total = None if total is None else total[:, :, positions.queries]
        self._given.append((total, positions.gain, positions.scope))

    def drop(self, first: int) -> None:
        """Give up those from this one on."""
        del self._given[first:]

    def answers(self, chunk_bytes: int) -> list[Answer]:
        """Of all of them, in their order. Raises what ``attribute`` and ``share_of`` raise for any of them."""
        whole = self._whole(slice(0, len(self))).answered(chunk_bytes)
        if whole.error is not None:
            raise whole.error
        stacked = [Stacked(alone(maps), len(self)) for maps in whole.maps]
        holds = are_numbers([one.maps for one in stacked], len(self))
        answers = []
        for number in range(len(self)):
            maps = [StackedCall(one, number, holds[number]) for one in stacked]
            share = whole.share_beside
            answers.append(Answer(maps, Part(share, maps[0].items) if isinstance(share, Tensor) else None))
        return answers

    def answer(self, number: int, chunk_bytes: int) -> Answer:
        """Of one of them. Raises what ``attribute`` raises."""
        return self._whole(slice(number, number + 1)).answered(chunk_bytes)

    def _whole(self, calls: slice) -> Request:
        """Some of them as one request, whose items are those of all."""
        items = slice(calls.start * self._batch, calls.stop * self._batch)
        q, k = self._q[items], self._k[items]
        totals, gains, scopes = zip(*self._given[calls], strict=True)
        gain, scope = (_joined([x if x is None else brought(x, q.device) for x in of], q) for of in (gains, scopes))
        total = None if totals[0] is None else torch.cat(totals)
        logits, positions = Logits(self._scale, total=total), Positions(gain=gain, scope=scope)
        return Request(q, k, self._references, logits, positions, self._beside)


def _joined(values: Sequence[Tensor | None], q: Tensor) -> Tensor | None:
    """Values ``[B, N]``, or what broadcasts to it, of all calls whose queries are ``q``; None where they have none."""
    batch, n = len(q) // len(values), q.shape[2]
    given = [x.expand(batch, n) for x in values if x is not None]
    return torch.cat(given) if given else None


def _packed(request: Request) -> tuple[list[slice], Sequence[TokenGroup], Index | None]:
    """The columns that are copied of a request, and where references and what is beside them are among these."""
    columns, references, beside = request.columns, request.references, request.beside
    if request.logits.total is None:
        return columns, references, beside
    ends = list(itertools.accumulate(map(_length, columns)))
    places = [slice(end - _length(own), end) for end, own in zip(ends, columns, strict=True)]
    packed = [dataclasses.replace(x, index=at) for x, at in zip(references, places, strict=False)]
    return columns, packed, None if beside is None else places[-1]


def _length(columns: slice) -> int:
    """Of a slice whose start, stop and step are known."""
    return len(range(columns.start, columns.stop, columns.step or 1))


Then = Callable[[list[Answer]], None]
Lost = Callable[[Exception], None]


@dataclass(frozen=True)
class Call:
    """A call that waits: the stacks that its requests are in, its place in them, and what is done with the answers."""

    stacks: Sequence[Stack]
    place: int
    then: Then
    lost: Lost


class Waiting(threading.local):
    """Calls in the order in which they came.

    Copies take ``most_bytes`` at most, and answers use ``chunk_bytes`` at a time. Calls that are alike are answered
    together, as many as there were in the pass before: see ``ended``. Each thread has its own: where a host computes
    parts of a step in several, each is for another device.
    """

    def __init__(self, most_bytes: int, chunk_bytes: int) -> None:
        self.most_bytes, self.chunk_bytes = most_bytes, chunk_bytes
        self._calls: list[Call] = []
        self._stacks: dict[Hashable, list[Stack]] = {}  # of each likeness one for each request of a call
        self._bytes = 0
        self._sizes: dict[Hashable, int] = {}  # of copies of a call, by its likeness
        self._came: Counter[Hashable] = Counter()  # calls in the present pass, by their likeness
        self._came_before: dict[Hashable, int] = {}  # in the last pass that had any of the likeness

    def __len__(self) -> int:
        return len(self._calls)

    def put(self, requests: Sequence[Request], then: Then, lost: Lost) -> None:
        """A call, of which several things may be requested.

        One that cannot wait, be it that memory is short for a copy, is answered now, after the others: then this raises
        what ``attribute``, and ``then``, raise.
        """
        likeness = tuple(request.likeness for request in requests)
        nbytes = 0 if None in likeness else self._nbytes_of(requests, likeness)
        capacity = min(self._capacity(likeness), self.most_bytes // max(1, nbytes))
        stacks = None if None in likeness or capacity < 2 else self._copied(requests, likeness, capacity, nbytes)
        if stacks is None:
            self.answer()
            then([request.answered(self.chunk_bytes) for request in requests])
            return
        self._came[likeness] += 1
        self._calls.append(Call(stacks, len(stacks[0]) - 1, then, lost))
        if len(stacks[0]) == stacks[0].capacity:
            self.answer()

    def _capacity(self, likeness: Hashable) -> int:
        """Of a stack: calls in stacks of about one size, the last of which is not full before the pass ends."""
        came = self._came_before.get(likeness, FIRST_CALLS - 1)
        stacks = -(-came // MOST_CALLS)
        return min(MOST_CALLS, -(-(came + 1) // stacks))

    def _nbytes_of(self, requests: Sequence[Request], likeness: Hashable) -> int:
        """What copies of a call take, which is the same of all that are alike."""
        if likeness not in self._sizes:
            self._sizes[likeness] = sum(request.nbytes for request in requests)
        return self._sizes[likeness]

    def _copied(
        self, requests: Sequence[Request], likeness: Hashable, capacity: int, nbytes: int
    ) -> list[Stack] | None:
        """Copy the requests of a call into stacks, one for each. None where that fails, which changes nothing."""
        if likeness not in self._stacks and self._bytes + capacity * nbytes > self.most_bytes:
            self.answer()
        stacks = self._stacks.get(likeness)
        before = len(stacks[0]) if stacks else 0
        try:
            stacks = stacks or [Stack(request, capacity) for request in requests]
            for stack, request in zip(stacks, requests, strict=True):
                stack.put(request)
        except Exception:
            log.debug("a call could not be copied", exc_info=True)
            for stack in stacks or ():
                stack.drop(before)
            return None
        if likeness not in self._stacks:
            self._stacks[likeness] = stacks
            self._bytes += capacity * nbytes
        return stacks

    def ended(self) -> None:
        """A pass of the denoiser has ended: answer all that wait. The next one is expected to have as many alike."""
        self.answer()
        self._came_before |= self._came
        self._came = Counter()

    def answer(self) -> None:
        """Answer all that wait, in their order. What goes wrong in one is handed to its ``lost``."""
        calls, stacks = self._calls, [stack for of_call in self._stacks.values() for stack in of_call]
        self._calls, self._stacks, self._bytes = [], {}, 0
        answers = {stack: self._answers(stack) for stack in stacks}
        for call in calls:
            own = [answers[stack][call.place] for stack in call.stacks]
            try:
                if (error := next((x for x in own if isinstance(x, Exception)), None)) is not None:
                    raise error
                call.then([x for x in own if isinstance(x, Answer)])
            except Exception as error:
                call.lost(error)

    def _answers(self, stack: Stack) -> Sequence[Answer | Exception]:
        """Of calls that are alike; where that fails, as where memory is short, of each alone."""
        try:
            return stack.answers(self.chunk_bytes)
        except Exception:
            log.debug("the maps of %d calls could not be made together", len(stack), exc_info=True)
        return [self._alone(stack, number) for number in range(len(stack))]

    def _alone(self, stack: Stack, number: int) -> Answer | Exception:
        try:
            return stack.answer(number, self.chunk_bytes)
        except Exception as error:
            return error
