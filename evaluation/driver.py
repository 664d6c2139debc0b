"""Gives rows to workers, and writes what comes back. Its memory does not grow with the table.

Each worker has one row, and one more that waits in its line, so that it never waits for us. A row whose server failed
goes to whichever worker is free, and after a few attempts gets a result that says why.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from comfy_client import Json
from devenv import HostError
from evaluation.store import Store
from evaluation.table import Row
from evaluation.worker import Answer

IN_LINE = 2  # rows that a worker has at a time: one runs, one waits
ATTEMPTS = 3  # of a row whose server failed
FAILURES = 5  # of a worker's server to start, one after the other, before it gets no more rows


@dataclass
class Driver:
    """``make`` makes a worker's actor anew, by its number: when its process has died."""

    store: Store
    make: Callable[[int], Any]
    workers: int
    progress: Callable[[Answer], None] = lambda answer: None
    _actors: dict[int, Any] = field(default_factory=dict)
    _running: dict[Any, tuple[int, Row]] = field(default_factory=dict)  # by the reference of the answer
    _again: deque[Row] = field(default_factory=deque)
    _attempts: Counter[str] = field(default_factory=Counter)
    _failures: Counter[int] = field(default_factory=Counter)  # of each worker to start, since its last result

    def run(self, rows: Iterable[Row]) -> None:
        """Until each row has a result. Raises HostError where no worker is left."""
        self._actors = {number: self.make(number) for number in range(self.workers)}
        todo = iter(rows)
        try:
            self._fill(todo)
            while self._running:
                for reference in self._ready():
                    self._answered(reference)
                self._fill(todo)
            self._check_all_done(todo)
        finally:
            self._stop()

    def _fill(self, todo: Iterator[Row]) -> None:
        """Give each worker what it has room for, one row a round, so that all have one before any has two."""
        lines = Counter(number for number, _ in self._running.values())
        for length in range(IN_LINE):
            for number in self._able():
                if lines[number] > length:
                    continue
                row = self._again.popleft() if self._again else next(todo, None)
                if row is None:
                    return
                self._running[self._actors[number].run.remote(row)] = number, row
                lines[number] += 1

    def _ready(self) -> list[Any]:
        """Answers that are there, at least one: all at once, since to look costs as much as there are servers."""
        running = list(self._running)
        ray.wait(running, num_returns=1, fetch_local=False)
        ready, _ = ray.wait(running, num_returns=len(running), timeout=0)
        return ready

    def _able(self) -> Sequence[int]:
        return [number for number in self._actors if self._failures[number] < FAILURES]

    def _answered(self, reference: Any) -> None:
        number, row = self._running.pop(reference)
        try:
            answer: Answer = ray.get(reference)
        except (RayActorError, RayTaskError) as error:
            answer = Answer(row, None, f"the worker {number} ended ({type(error).__name__})")
            if isinstance(error, RayActorError):
                self._lost(number)
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
        else:
            self._failures[number] += 1
        if self._attempts[row.name] < ATTEMPTS:
            self._again.append(row)
            return answer
        self._attempts.pop(row.name)
        result: Json = {"id": row.name, "error": f"no server could run it in {ATTEMPTS} attempts: {answer.why}"}
        self.store.add(result)
        return Answer(row, result)

    def _lost(self, number: int) -> None:
        """The process of a worker has died: it is made anew when the rows in its line have come back, as failed."""
        self._actors.pop(number, None)
        if not any(n == number for n, _ in self._running.values()):
            self._actors[number] = self.make(number)

    def _check_all_done(self, todo: Iterator[Row]) -> None:
        left = len(self._again) + sum(1 for _ in itertools.islice(todo, 1))
        if left:
            raise HostError(
                f"None of the {self.workers} servers could be started, {FAILURES} times one after the other: what was "
                "done is written; see why in the lines above, and run the same command again."
            )

    def _stop(self) -> None:
        """End all servers of our own, however it ended."""
        ends = [actor.stop.remote() for actor in self._actors.values()]
        ray.wait(ends, num_returns=len(ends), timeout=30)
        for actor in self._actors.values():
            ray.kill(actor)
