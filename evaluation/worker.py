"""A server, and the rows that it gets: the body of a Ray actor, of which there is one for each server."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfy_client import Json, PromptFailed, ServerError
from devenv import HostError
from evaluation.servers import MEGABYTE, Server, Specification
from evaluation.table import Row
from evaluation.workflow import Wanted, Workflow

MOST_PATIENCE = 30.0  # seconds before a server is started, or asked, once more


@dataclass(frozen=True)
class Task:
    """What is done with each row."""

    workflow: Workflow
    wanted: Wanted
    pictures: str = ""  # folder for the pictures that were made, "" to leave them on the server
    seconds: float = 600  # that a row may take, before its server counts as hanging
    most_memory: int | None = None  # MB that a server of our own may grow to, before it is started again


@dataclass(frozen=True)
class Answer:
    """The result of a row; or None, and why: the server failed in it, or (``started`` is false) before it."""

    row: Row
    result: Json | None
    why: str = ""
    started: bool = True


class Worker:
    """Runs row after row on its server, which it starts when the first comes, and again after it failed."""

    def __init__(self, specification: Specification, task: Task) -> None:
        self.task = task
        self.server: Server = specification.make()
        self._runs = False
        self._starts = 0  # that failed, one after the other
        self.patience = MOST_PATIENCE
        self._learned: Any = None  # measures of pictures by trained networks, once there was a picture
        self._lacking: Json = {}  # of those that cannot be had here, why

    def run(self, row: Row) -> Answer:
        """The scores of a row. A graph that fails has a result, which says why; a server that fails has none."""
        started = time.monotonic()
        result: Json = {"id": row.name, "server": self.server.name, "error": None} | _columns(row)
        try:
            self._start()
        except HostError as error:
            self._stop()
            return Answer(row, None, str(error), started=False)
        try:
            result |= self._scored(row)
        except (PromptFailed, ValueError, OSError) as error:
            result["error"] = str(error)
        except HostError as error:  # of the server
            self._stop()
            return Answer(row, None, str(error))
        result["seconds"] = round(time.monotonic() - started, 3)
        self._renew()
        return Answer(row, result)

    def stop(self) -> None:
        self._stop()

    def _scored(self, row: Row) -> Json:
        workflow = self.task.workflow
        uploaded = {path: self._upload(path) for path in workflow.pictures_of(row)}
        outputs = self.server.run(workflow.graph_of(row, uploaded), self.task.seconds)
        missing = [node for node in workflow.readers if "text" not in outputs.get(node, {})]
        if missing:
            raise ServerError(f"The server {self.server.name} ran the graph and has no output of {missing[0]}.")
        return workflow.scores_of(outputs) | self._judged(row, outputs)

    def _upload(self, path: str) -> str:
        return self.server.upload(Path(path).read_bytes(), Path(path).suffix.lower())

    def _judged(self, row: Row, outputs: Json) -> Json:
        """What the picture is like, where it is to be judged or written to a folder."""
        wanted, node = self.task.wanted, self.task.workflow.picture
        if node is None or not (wanted.truth or self.task.pictures):
            return {}
        made = self.server.view(outputs[node]["images"][0])
        if self.task.pictures:
            (Path(self.task.pictures) / f"{row.name}.png").write_bytes(made)
        if not wanted.truth:
            return {}
        from evaluation.pictures import compared, learned, opened  # with PyTorch, which the other rows do without

        if self._learned is None:
            self._learned, lacking = learned()
            self._lacking = {f"{name}.lacking": why for name, why in lacking.items()}
        picture, truth = opened(made), opened(Path(row.values[wanted.truth]))
        mask = opened(Path(row.values[wanted.mask]), "L") if wanted.mask else None
        by_networks = {name: measure(picture, truth) for name, measure in self._learned.items()}
        return compared(picture, truth, mask) | by_networks | self._lacking

    def _start(self) -> None:
        """Start the server unless it runs; after failures not at once, since it may be on its way up."""
        if self._runs:
            return
        time.sleep(min(self.patience, 2**self._starts - 1))
        self._starts += 1
        self.server.start()
        self._runs, self._starts = True, 0

    def _stop(self) -> None:
        self._runs = False
        self.server.stop()

    def _renew(self) -> None:
        """Stop a server that has grown: the next row starts it again."""
        most = self.task.most_memory
        has = self.server.memory() if most is not None and self._runs else None
        if most is not None and has is not None and has > most * MEGABYTE:
            self._stop()


def _columns(row: Row) -> dict[str, Any]:
    """What the table says of it, as JSON can have it."""
    simple = (str, int, float, bool, type(None))
    return {name: x if isinstance(x, simple) else str(x) for name, x in row.values.items() if name != "id"}
