"""Gives rows to workers, and writes what comes back. Of a table it has two rows for each worker in memory.

Each worker has one row, and one more that waits in its line, so that it never waits for us. A row whose server failed
goes to whichever worker is free, and after a few attempts gets a result that says why.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from devenv import HostError
from devenv.processes import last_line
from evaluation.store import Store
from evaluation.table import Row
from evaluation.worker import Answer, failed

IN_LINE = 2  # rows that a worker has at a time: one runs, one waits
ATTEMPTS = 3  # of a row whose server failed
FAILURES = 10  # of a worker to start, one after the other, before it gets no more rows
PATIENCE = 600.0  # seconds until a machine has room for a worker, where none works yet


@dataclass
class Driver:
    """``make`` makes a worker's actor, by its number, also anew when its process has died."""

    store: Store
    make: Callable[[int], Any]
    workers: int
    progress: Callable[[Answer], None] = lambda answer: None
    _waking: dict[Any, tuple[int, Any]] = field(default_factory=dict)  # actors that have not answered yet
    _actors: dict[int, Any] = field(default_factory=dict)  # those that have
    _lines: dict[int, deque[Row]] = field(default_factory=dict)  # what each has, the one that runs first
    _running: dict[Any, tuple[int, Row]] = field(default_factory=dict)  # by the reference of the answer
    _again: deque[Row] = field(default_factory=deque)
    _attempts: Counter[str] = field(default_factory=Counter)
    _failures: Counter[int] = field(default_factory=Counter)  # of each worker to start, since its last result

    def run(self, rows: Iterable[Row]) -> None:
        """Until each row has a result. Raises HostError where no worker is left."""
        todo = _Todo(rows)
        try:
            for number in range(self.workers if todo else 0):
                self._wake(number)
            while self._running or (self._waking and (self._again or todo)):
                for reference in self._ready():
                    if reference in self._waking:
                        self._woken(reference)
                    else:
                        self._answered(reference)
                self._fill(todo)
            self._check_all_done(todo)
        finally:
            self._stop()

    def _wake(self, number: int) -> None:
        """Rows go to actors that have answered once: where no machine has room for one, it never does."""
        actor = self.make(number)
        self._waking[actor.wake.remote()] = number, actor

    def _woken(self, reference: Any) -> None:
        number, actor = self._waking.pop(reference)
        try:
            ray.get(reference)
        except RayError:
            self._failures[number] += 1
            if self._failures[number] < FAILURES:
                self._wake(number)
        else:
            self._actors[number], self._lines[number] = actor, deque()

    def _ready(self) -> list[Any]:
        """Answers that are there, at least one: all at once, since to look costs as much as there are servers."""
        waited = [*self._running, *self._waking]
        ready, _ = ray.wait(waited, num_returns=1, timeout=None if self._running else PATIENCE, fetch_local=False)
        if not ready:
            raise HostError(f"None of the {self.workers} workers could be placed in {PATIENCE:.0f} s: see --gpus.")
        ready, _ = ray.wait(waited, num_returns=len(waited), timeout=0)
        return ready

    def _fill(self, todo: _Todo) -> None:
        """Give each worker what it has room for, one row a round, so that all have one before any has two."""
        for length in range(IN_LINE):
            for number, actor in self._actors.items():
                if len(self._lines[number]) > length or self._failures[number] >= FAILURES:
                    continue
                row = self._again.popleft() if self._again else todo.take()
                if row is None:
                    return
                self._running[actor.run.remote(row)] = number, row
                self._lines[number].append(row)

    def _answered(self, reference: Any) -> None:
        number, row = self._running.pop(reference)
        line = self._lines[number]
        try:
            answer: Answer = ray.get(reference)
        except RayActorError as error:  # nobody is left to say which row ran: the first, as far as is known
            why = f"the process of worker {number} ended ({type(error).__name__})"
            answer = Answer(row, None, why, started=line[0] is row)
            self._lost(number)
        except RayError as error:  # of this row alone
            line.remove(row)
            answer = Answer(row, None, f"worker {number} failed ({last_line(str(error) or type(error).__name__)})")
        else:
            line.remove(row)
        if answer.result is not None:
            self._failures[number] = 0
            self._attempts.pop(row.name, None)
            self.store.add(answer.result)
        else:
            answer = self._failed(number, answer)
        self.progress(answer)

    def _failed(self, number: int, answer: Answer) -> Answer:
        """A row that came to nothing: once more, or a result that says so. It is not to blame for a server's start."""
        row = answer.row
        if answer.started:
            self._attempts[row.name] += 1
        elif number in self._actors:
            self._failures[number] += 1
        if self._attempts[row.name] < ATTEMPTS:
            self._again.append(row)
            return answer
        self._attempts.pop(row.name)
        result = failed(row, f"no server could run it in {ATTEMPTS} attempts: {answer.why}")
        self.store.add(result)
        return Answer(row, result)

    def _lost(self, number: int) -> None:
        """The process of a worker has died: it is made anew when the rows in its line have come back.

        The first in the line ran, and may be to blame; the others waited.
        """
        self._actors.pop(number, None)
        if not any(n == number for n, _ in self._running.values()):
            self._wake(number)

    def _check_all_done(self, todo: _Todo) -> None:
        if self._again or todo:
            raise HostError(
                f"None of the {self.workers} servers could be started, {FAILURES} times one after the other: what was "
                "done is written; see why in the lines above, and run the same command again."
            )

    def _stop(self) -> None:
        """End all servers of our own, however it ended: a worker does so beside a row that runs."""
        actors = [*self._actors.values(), *(actor for _, actor in self._waking.values())]
        ends = [actor.stop.remote() for actor in self._actors.values()]
        if ends:
            ray.wait(ends, num_returns=len(ends), timeout=30)
        for actor in actors:
            ray.kill(actor)


class _Todo:
    """Rows that nobody has got yet; true while there are any."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = iter(rows)
        self._first = next(self._rows, None)

    def __bool__(self) -> bool:
        return self._first is not None

    def take(self) -> Row | None:
        row, self._first = self._first, next(self._rows, None)
        return row
