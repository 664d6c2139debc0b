"""A server, and the rows that it gets: the body of a Ray actor, of which there is one for each server."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfy_client import Json, PromptFailed, PromptRefused, ServerError
from devenv import HostError
from evaluation.servers import MEGABYTE, Ran, Server, Specification
from evaluation.table import ID, Row
from evaluation.workflow import Wanted, Workflow

MOST_PATIENCE = 30.0  # seconds before a server is started, or asked, once more
STOP_SECONDS = 5.0  # after which a row is waited for no longer whose server was ended, again and again
SICK = ("OutOfMemory", "CUDA error")  # of a graph's error: the next graph on this server would fail as well


@dataclass(frozen=True)
class Task:
    """What is done with each row.

    ``seconds`` bound each other request of a row as well: a server that answers nothing counts as hanging after so
    many, or after ``comfy_client.ANSWER_SECONDS`` if these are less.
    """

    workflow: Workflow
    wanted: Wanted
    pictures: str = ""  # folder for the pictures that were made, "" to leave them on the server
    maps: str = ""  # folder for files of maps, as well
    seconds: float = 600  # that its graph may run, before its server counts as hanging
    most_memory: int | None = None  # MB that a server of our own may grow to, before it is started again


@dataclass(frozen=True)
class Answer:
    """The result of a row; or None, and why: the server failed in it, or (``started`` is false) before it."""

    row: Row
    result: Json | None
    why: str = ""
    started: bool = True


class RowFailed(HostError):
    """A row has no scores, on whatever server it runs."""


class Worker:
    """Runs row after row on its server, which it starts when the first comes, and again after it failed.

    Ray calls it in several threads: rows one after the other, and ``stop`` beside them.
    """

    def __init__(self, specification: Specification, task: Task) -> None:
        self.task = task
        self.server: Server = specification.make(task.seconds)
        self._one_at_a_time = threading.Lock()
        self._ended = threading.Event()  # for good
        self._is_up = False
        self._failed_starts = 0  # one after the other
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
        """End the server for good, and the row that runs on it: rows that wait are answered as not started."""
        self._ended.set()
        self.server.stop()
        until = time.monotonic() + STOP_SECONDS
        while time.monotonic() < until:
            if self._one_at_a_time.acquire(timeout=0.2):
                self._one_at_a_time.release()
                return
            self.server.stop()  # again, since it may have been about to start

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
        except (PromptFailed, RowFailed) as error:
            if self._ended.is_set() or is_sick(error):  # our own end interrupts it, too
                self._renew()
                return Answer(row, None, _said(error))
            result["error"] = _said(error)
        except OSError as error:  # of a file on this machine: another may do better, and the server is well
            return Answer(row, None, _said(error))
        except Exception as error:  # of the server, of the network: another may do better
            self._renew()
            return Answer(row, None, _said(error))
        if self._has_grown():
            self._renew()
        return Answer(row, columns_of(row) | result | {"seconds": round(time.monotonic() - started, 3)})

    def _scored(self, row: Row) -> Json:
        workflow = self.task.workflow
        outputs, seconds = self._ran(row)
        readers = [*workflow.readers, *workflow.saved.values()]
        missing = [node for node in readers if "text" not in outputs.get(node, {})]
        if missing:
            raise ServerError(f"The server {self.server.name} ran the graph and has no output of {missing[0]}.")
        self._write_maps(row, outputs)
        try:
            scores = workflow.scores_of(outputs)
        except ValueError:
            raise ServerError(
                f"The server {self.server.name} ran the graph and gave scores that are no JSON."
            ) from None
        return scores | self._judged(row, outputs) | {"seconds.graph": seconds}

    def _ran(self, row: Row) -> Ran:
        """Once more where the graph is refused: the server may have lost the pictures that it had."""
        try:
            return self.server.run(self._graph(row))
        except PromptRefused:
            return self.server.run(self._graph(row))

    def _graph(self, row: Row) -> Json:
        """With the pictures of the row on the server."""
        workflow = self.task.workflow
        uploaded = {path: self._upload(path) for path in workflow.pictures_of(row)}
        try:
            return workflow.graph_of(row, uploaded)
        except ValueError as error:  # a value that its input does not take
            raise RowFailed(str(error)) from None

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
            raise RowFailed(f"Node {node} gave no picture: choose one that does with --picture.")
        made = self.server.view(images[0])
        if self.task.pictures:
            (Path(self.task.pictures) / f"{row.name}.png").write_bytes(made)
        if not wanted.truth:
            return {}
        from evaluation.pictures import compared, learned, of_size, opened  # with PyTorch, which others do without

        try:
            picture = opened(made)
        except OSError:
            raise ServerError(f"The server {self.server.name} gave a picture that cannot be read.") from None
        truth = of_size(opened(Path(row.values[wanted.truth])), picture)
        mask = opened(Path(row.values[wanted.mask]), "L") if wanted.mask else None
        if self._learned is None:
            self._learned, lacking = learned()
            self._lacking = {f"{name}.lacking": why for name, why in lacking.items()}
        by_networks = {name: measure(picture, truth) for name, measure in self._learned.items()}
        return compared(picture, truth, mask) | by_networks | self._lacking

    def _start(self) -> None:
        """Start the server unless it runs; after failures not at once, since it may be on its way up."""
        if not self._is_up:
            self._ended.wait(min(self.patience, 2**self._failed_starts - 1))
            self._check_not_ended()
            self._failed_starts += 1  # unless it returns
            self.server.start()
            self._is_up, self._failed_starts = True, 0
        self._check_not_ended()

    def _check_not_ended(self) -> None:
        if self._ended.is_set():
            raise ServerError("The run has ended.")

    def _renew(self) -> None:
        """The next row starts the server again."""
        self._is_up = False
        with contextlib.suppress(Exception):
            self.server.stop()

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
    return text if isinstance(error, HostError) else f"{type(error).__name__}: {text}"
