"""ComfyUI servers to work with: one that somebody runs, or one of our own that is started again when it must be."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shutil
import signal
import socket
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from comfy_client import ANSWER_SECONDS, ComfyClient, Json, PromptFailed, PromptRefused, ServerError

log = logging.getLogger(__name__)

MEGABYTE = 2**20
PREFIX = f"i2am-evaluation-{socket.gethostname()}-"  # of a server's folder: containers may share the one that it is in
END_SECONDS = 10.0  # until a process that was killed is gone
FOLDER = "i2am_evaluation"  # of uploaded pictures, in the server's input folder


class Ran(NamedTuple):
    """A graph that ran: its outputs by node, and the seconds from the start of its execution to the end."""

    outputs: Json
    seconds: float | None = None  # where the server says so


class Server(Protocol):
    """What a worker needs of a server."""

    name: str

    def start(self) -> None:
        """Return when it answers. Raises ServerError."""

    def stop(self) -> None:
        """End what runs on it. It may be called beside all others, and when there is nothing to end.

        One that ``start`` is about to make it may miss: then it is called again.
        """

    def upload(self, picture: bytes, ending: str) -> str:
        """The server's name of a picture."""

    def run(self, graph: Json) -> Ran:
        """Return when a graph has run. Raises PromptFailed of the graph, ServerError of the server.

        After PromptRefused the server may have lost its pictures: they are uploaded anew. After ServerError the graph
        may run on, until ``stop``.
        """

    def view(self, image: Json) -> bytes:
        """The file behind an entry of an output's images."""

    def memory(self) -> int | None:
        """Bytes that its process has; None where that is not known."""


@dataclass(frozen=True)
class Specification:
    """Which server a worker has: that at ``url``, or else one of its own; with ``arguments`` for ComfyUI."""

    name: str
    url: str = ""
    cpu: bool = False
    arguments: tuple[str, ...] = ()

    def make(self, seconds: float) -> Server:
        """``seconds`` are those that a graph may run, and that each other request may take."""
        return GivenServer(self.url, seconds) if self.url else OwnServer(self, seconds)


class GivenServer:
    """A server that somebody else runs: it can be waited for, not started again."""

    def __init__(self, url: str, seconds: float) -> None:
        self.name = url
        self._seconds = seconds
        self._client = self._bounded(ComfyClient(url.rstrip("/")))
        self._uploaded: set[str] = set()
        self._prompt = ""  # the graph that runs, or that may run on after an error

    def start(self) -> None:
        self._uploaded.clear()  # it may have lost them
        self._client.get("/system_stats")
        self._give_up()
        self._prompt = ""

    def stop(self) -> None:
        with contextlib.suppress(ServerError):  # if it hangs, the graph is given up when it is started
            self._give_up()

    def _give_up(self) -> None:
        if prompt := self._prompt:
            self._client.give_up(prompt)

    def _forget(self) -> None:
        """What was read is read, whether the server hears of it or not."""
        prompt, self._prompt = self._prompt, ""
        with contextlib.suppress(ServerError):
            self._client.forget(prompt)

    def _bounded(self, client: ComfyClient) -> ComfyClient:
        client.answer_seconds = min(self._seconds, ANSWER_SECONDS)
        return client

    def upload(self, picture: bytes, ending: str) -> str:
        name = f"{hashlib.sha256(picture).hexdigest()[:24]}{ending}"
        if name not in self._uploaded:
            self._client.upload(name, picture, FOLDER)
            self._uploaded.add(name)
        return f"{FOLDER}/{name}"

    def run(self, graph: Json) -> Ran:
        self._prompt = str(uuid.uuid4())  # a name of ours: the graph may be queued, and the answer lost
        try:
            self._prompt = self._client.queue(graph, prompt_id=self._prompt)
            entry = self._client.wait(self._prompt, self._seconds)
        except PromptRefused:
            self._prompt = ""
            self._uploaded.clear()
            raise
        except PromptFailed:
            self._forget()
            raise
        self._forget()
        return Ran(entry["outputs"], seconds_of(entry))

    def view(self, image: Json) -> bytes:
        return self._client.view(image)

    def memory(self) -> int | None:
        return None


class OwnServer(GivenServer):
    """A server of our own on this machine, in a folder that goes with it."""

    def __init__(self, specification: Specification, seconds: float) -> None:
        super().__init__("", seconds)
        self.name = specification.name
        self._specification = specification
        self._server: Any = None  # ComfyServer
        self._folder: Path | None = None

    @property
    def url(self) -> str:
        return self._client.url

    def start(self) -> None:
        from comfy_server import ComfyServer  # not on a machine that has no ComfyUI
        from devenv import prepare

        self.stop()
        end_orphans()
        given, host = self._specification, prepare()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self._server = ComfyServer(host, self._folder, given.arguments, cpu=given.cpu)
        self._client = self._bounded(self._server)
        self._server.start()
        self._uploaded.clear()

    def stop(self) -> None:
        """The server and its folder stay known: one that ``start`` is about to make ends with the next call."""
        if self._server is not None:
            self._server.stop()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def memory(self) -> int | None:
        import psutil  # ours is the only one whose process can be looked at

        return int(psutil.Process(self._server.pid).memory_info().rss)


def seconds_of(entry: Json) -> float | None:
    """How long a graph ran, by the messages of its history entry; None where they have no time."""
    times = {name: about.get("timestamp") for name, about in entry["status"]["messages"]}  # in ms
    first, last = times.get("execution_start"), times.get("execution_success")
    return None if first is None or last is None else round((last - first) / 1000, 3)


def end_orphans() -> None:
    """End servers of our own whose worker was killed, so that it could not, and remove their folders.

    A folder stays where its server cannot be ended: it is all that says of it.
    """
    import psutil

    for folder in Path(tempfile.gettempdir()).iterdir():
        worker = re.fullmatch(rf"{re.escape(PREFIX)}(\d+)-[^-]+", folder.name)
        if worker is None or psutil.pid_exists(int(worker[1])):
            continue
        try:
            _end_servers(folder)
            shutil.rmtree(folder, ignore_errors=True)  # another worker may be about it, too
        except OSError as error:
            log.warning("a server of an evaluation that has ended goes on: %s", error)


def _end_servers(folder: Path) -> None:
    """End all servers of a folder. Raises OSError where one goes on."""
    until = time.monotonic() + END_SECONDS
    while servers := _servers_of(folder):
        if time.monotonic() > until:
            raise TimeoutError(f"processes {servers} in {folder} cannot be ended")
        for server in servers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(os.getpgid(server), signal.SIGKILL)
        time.sleep(0.05)


def _servers_of(folder: Path) -> list[int]:
    """Processes that ComfyServer has started in a folder, by their command lines."""
    import psutil

    output = f"--output-directory={folder.resolve() / 'output'}"
    return [one.pid for one in psutil.process_iter(["cmdline"]) if output in (one.info["cmdline"] or ())]


def described(server: ComfyClient) -> Mapping[str, Any]:
    """What must be the same of all servers: the versions of ComfyUI and PyTorch."""
    system: Json = server.system_stats()["system"]
    return {name: system.get(name) for name in ("comfyui_version", "pytorch_version")}
