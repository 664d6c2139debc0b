"""How far it goes: servers that only sleep, as many as fit into light processes, in place of ComfyUI.

Everything else is what a real run has: table, driver, Ray's actors, store. Some servers fail in some rows, and some do
not start at once. In the end each row must be there once; and the memory of this process is looked at on the way.
"""

from __future__ import annotations

import argparse
import csv
import json
import queue
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import ray

from comfy_client import Json, ServerError
from evaluation.driver import IN_LINE, Driver
from evaluation.servers import MEGABYTE, Ran, Specification
from evaluation.store import Store, results
from evaluation.table import Row, Table
from evaluation.worker import Answer, Task, Worker
from evaluation.workflow import READER, Wanted, Workflow

SAID = json.dumps({"r2g": {"score": 0.1, "mass_inside": 0.5}, "g2r": {"score": None, "reason": "asleep"}})
PARTS = 20  # of the run, after each of which the memory is looked at


class SleepingServer:
    """Takes its time, and says the same of every graph. Fails in one of ``fails`` rows, and then at its next start."""

    def __init__(self, name: str, seconds: float, fails: int) -> None:
        self.name, self._seconds, self._fails = name, seconds, fails
        self._random = random.Random(name)
        self._fell = False

    def start(self) -> None:
        if self._fell:
            self._fell = False
            raise ServerError(f"{self.name} does not start")

    def stop(self) -> None:
        pass

    def upload(self, picture: bytes, ending: str) -> str:
        return f"picture{ending}"

    def run(self, graph: Json) -> Ran:
        time.sleep(took := self._seconds * self._random.uniform(0.5, 1.5))
        if self._fails and not self._random.randrange(self._fails):
            self._fell = True
            raise ServerError(f"{self.name} fell over")
        return Ran({f"{READER}imacs": {"text": [SAID]}}, took)

    def view(self, image: Json) -> bytes:
        return b""

    def memory(self) -> int | None:
        return None


class Sleeper(Worker):
    """A worker whose server sleeps, and which does not wait before it starts it again."""

    def __init__(self, server: SleepingServer, task: Task) -> None:
        super().__init__(Specification(server.name, "http://127.0.0.1:1"), task)
        self.server, self.patience = server, 0.0


class Crowd:
    """Many workers in one process, each with a server that sleeps: the actor of as many servers."""

    def __init__(self, first: int, count: int, seconds: float, fails: int) -> None:
        task = Task(
            Workflow({"1": {"class_type": "Sleep", "inputs": {}}}, (), {f"{READER}imacs": "imacs"}, None), Wanted()
        )
        self._idle: queue.Queue[Sleeper] = queue.Queue()
        for number in range(first, first + count):
            self._idle.put(Sleeper(SleepingServer(f"sleeper {number}", seconds, fails), task))

    def wake(self) -> None:
        pass

    def run(self, row: Row) -> Answer:
        worker = self._idle.get()
        try:
            return worker.run(row)
        finally:
            self._idle.put(worker)

    def stop(self) -> None:
        pass


def crowds(servers: int, processes: int, seconds: float, fails: int) -> Callable[[int], Any]:
    """The actor that has a worker, by the worker's number."""
    each = -(-servers // processes)
    remote = ray.remote(num_cpus=0)(Crowd).options(max_concurrency=each * IN_LINE)
    actors = [remote.remote(n * each, min(each, servers - n * each), seconds, fails) for n in range(processes)]
    return lambda number: actors[number // each]


def written(folder: Path, count: int) -> Table:
    """A table of so many rows."""
    path = folder / "table.csv"
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["id", "seed", "prompt"])
        lines.writerows([f"{number:07d}", number, "a picture that nobody makes " * 4] for number in range(count))
    return Table.of(path)


def simulate(given: argparse.Namespace) -> None:
    """Run it, and print what was measured as JSON."""
    from evaluation.cluster import joined

    given.folder.mkdir(parents=True, exist_ok=True)
    table = written(given.folder, given.rows)
    observed = Observed(max(1, given.rows // PARTS))
    with joined(given.ray), Store(given.folder) as store:
        make = crowds(given.servers, given.processes, given.seconds, given.fails)
        started = time.monotonic()
        Driver(store, make, given.servers, observed).run(table.rows())
        took = time.monotonic() - started
    about = {
        "servers": given.servers,
        "processes": given.processes,
        "seconds a row": given.seconds,
        "rows a second": round(given.rows / took, 1),
        "of the time that is needed at least": round(given.rows * given.seconds / took / given.servers, 3),
        "rows run again": observed.again,
        "MB of the driver": observed.memory,
    }
    print(json.dumps(recorded(given.folder, table) | about, indent=2))


class Observed:
    """Counts answers, and looks at the memory of this process after each ``part`` of them."""

    def __init__(self, part: int) -> None:
        self.part, self.count, self.again = part, 0, 0
        self.memory: list[int] = []  # MB

    def __call__(self, answer: Answer) -> None:
        if answer.result is None:
            self.again += 1
            return
        self.count += 1
        if self.count % self.part == 0:
            self.memory.append(psutil.Process().memory_info().rss // MEGABYTE)


def recorded(folder: Path, table: Table) -> Json:
    """What became of the rows of a table."""
    lines = sum(1 for _ in (folder / "scores.jsonl").open("rb"))
    names = {result["id"] for result in results(folder)}
    failed = sum(result["error"] is not None for result in results(folder))
    given = {row.name for row in table.rows()}
    return {
        "rows": len(given),
        "lost": len(given - names),
        "recorded twice": lines - len(names),
        "without scores": failed,
    }
