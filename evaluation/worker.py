"""A server, and the rows that it gets: the body of a Ray actor, of which there is one for each server."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfy_client import Json, PromptFailed, ServerError
from devenv import HostError
from evaluation.servers import MEGABYTE, Server, Specification
from evaluation.table import ID, Row
from evaluation.workflow import Wanted, Workflow

MOST_PATIENCE = 30.0  # seconds before a server is started, or asked, once more
SICK = ("OutOfMemory", "CUDA error")  # of a graph's error: the next graph on this server would fail as well


@dataclass(frozen=True)
class Task:
    """What is done with each row."""

    workflow: Workflow
    wanted: Wanted
    pictures: str = ""  # folder for the pictures that were made, "" to leave them on the server
    maps: str = ""  # folder for files of maps, as well
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
    """Runs row after row on its server, which it starts when the first comes, and again after it failed.

    Ray calls it in several threads: rows one after the other, and ``stop`` beside them.
    """

    def __init__(self, specification: Specification, task: Task) -> None:
        self.task = task
        self.server: Server = specification.make()
        self._one_at_a_time = threading.Lock()
        self._runs = False
        self._starts = 0  # that failed, one after the other
        self.patience = MOST_PATIENCE
        self._learned: Any = None  # measures of pictures by trained networks, once there was a picture
        self._lacking: Json = {}  # of those that cannot be had here, why

    def wake(self) -> None:
        """Answers, where a machine has room for it."""

    def run(self, row: Row) -> Answer:
        """The scores of a row. A graph that fails has a result, which says why; a server that fails has none."""
        with self._one_at_a_time:
            return self._run(row)

    def stop(self) -> None:
        """End the server, whatever runs on it."""
        self._runs = False
        self.server.stop()

    def _run(self, row: Row) -> Answer:
        started = time.monotonic()
        try:
            self._start()
        except Exception as error:  # whatever is wrong with this machine, it is not the row
            self._renew()
            return Answer(row, None, _said(error), started=False)
        result = {"server": self.server.name, "error": None}
        try:
            result |= self._scored(row)
        except (PromptFailed, ValueError) as error:
            if is_sick(error):
                self._renew()
                return Answer(row, None, _said(error))
            result = failed(row, _said(error)) | {"server": self.server.name}
        except Exception as error:  # of the server, of the network, of a disk: another may do better
            self._renew()
            return Answer(row, None, _said(error))
        if self._has_grown():
            self._renew()
        return Answer(row, columns_of(row) | result | {"seconds": round(time.monotonic() - started, 3)})

    def _scored(self, row: Row) -> Json:
        workflow = self.task.workflow
        uploaded = {path: self._upload(path) for path in workflow.pictures_of(row)}
        outputs, seconds = self.server.run(workflow.graph_of(row, uploaded), self.task.seconds)
        readers = [*workflow.readers, *workflow.saved.values()]
        missing = [node for node in readers if "text" not in outputs.get(node, {})]
        if missing:
            raise ServerError(f"The server {self.server.name} ran the graph and has no output of {missing[0]}.")
        self._write_maps(row, outputs)
        return workflow.scores_of(outputs) | self._judged(row, outputs) | {"seconds.graph": seconds}

    def _write_maps(self, row: Row, outputs: Json) -> None:
        """What I2AM Save wrote on the server, called by the row, and by the node where there are several."""
        files = self.task.workflow.files_of(outputs)
        for node, file in files.items():
            name = f"{row.name} {node}" if len(files) > 1 else row.name
            path = Path(self.task.maps) / (name + "".join(Path(file["filename"]).suffixes[-2:]))
            part = path.with_name(path.name + ".part")
            part.write_bytes(self.server.view(file))
            part.replace(path)

    def _upload(self, path: str) -> str:
        return self.server.upload(Path(path).read_bytes(), Path(path).suffix.lower())

    def _judged(self, row: Row, outputs: Json) -> Json:
        """What the picture is like, where it is to be judged or written to a folder."""
        wanted, node = self.task.wanted, self.task.workflow.picture
        if node is None or not (wanted.truth or self.task.pictures):
            return {}
        images = outputs.get(node, {}).get("images")
        if not images:
            raise ValueError(f"node {node} gave no picture: choose one that does with --picture")
        made = self.server.view(images[0])
        if self.task.pictures:
            (Path(self.task.pictures) / f"{row.name}.png").write_bytes(made)
        if not wanted.truth:
            return {}
        from evaluation.pictures import compared, learned, of_size, opened  # with PyTorch, which others do without

        if self._learned is None:
            self._learned, lacking = learned()
            self._lacking = {f"{name}.lacking": why for name, why in lacking.items()}
        picture = opened(made)
        truth = of_size(opened(Path(row.values[wanted.truth])), picture)
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

    def _renew(self) -> None:
        """The next row starts the server again."""
        with contextlib.suppress(Exception):
            self.stop()

    def _has_grown(self) -> bool:
        most = self.task.most_memory
        try:
            has = None if most is None else self.server.memory()
        except Exception:  # it has ended after its row
            return True
        return most is not None and has is not None and has > most * MEGABYTE


def failed(row: Row, why: str) -> Json:
    """The result of a row that has no scores."""
    return columns_of(row) | {"error": why}


def columns_of(row: Row) -> Json:
    """What the table says of it, as JSON can have it; ``row`` are its values in short, to tell another by."""
    simple = (str, int, float, bool, type(None))
    values = {name: x if isinstance(x, simple) else str(x) for name, x in row.values.items() if name != ID}
    return {ID: row.name, "row": row.digest} | values


def is_sick(error: Exception) -> bool:
    """Whether a graph failed since its server cannot go on: the next one on it would fail as well."""
    return any(sign in str(error) for sign in SICK)


def _said(error: Exception) -> str:
    text = str(error) or "no reason given"
    return text if isinstance(error, HostError | ValueError) else f"{type(error).__name__}: {text}"
