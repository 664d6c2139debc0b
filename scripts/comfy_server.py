"""The real ComfyUI server as a context manager."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from comfy_client import ComfyClient, ServerError
from devenv import ROOT, Host, stop_on_sigterm

FOLDERS = ("output", "input", "temp", "user", "custom_nodes")
PACK = "i2am"


class ComfyServer(ComfyClient):
    """ComfyUI with this pack as its only custom node; all that it writes goes to ``work``.

    ``log`` keeps what it printed. The ComfyUI tree stays untouched: the pack comes in through a link in a folder
    of ours that is declared as one more place of custom nodes.
    """

    def __init__(
        self, host: Host, work: Path, extra_args: Sequence[str] = (), *, port: int = 0, cpu: bool = True
    ) -> None:
        self.host = host
        self.work = work.resolve()
        self.extra_args = extra_args
        self.port = free_port(port)
        super().__init__(f"http://127.0.0.1:{self.port}")
        self.cpu = cpu
        self.log = self.work / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ComfyServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, timeout: float = 300) -> None:
        """Return when the server answers and the pack is loaded."""
        stop_on_sigterm()
        for name in FOLDERS:
            (self.work / name).mkdir(parents=True, exist_ok=True)
        link = self.work / "custom_nodes" / PACK
        link.unlink(missing_ok=True)
        link.symlink_to(ROOT, target_is_directory=True)
        # JSON is YAML, and needs no YAML library to write.
        (self.work / "paths.yaml").write_text(json.dumps({PACK: {"custom_nodes": str(link.parent)}}))
        env = self.host.env()
        env.pop("PYTHONSAFEPATH", None)  # it would hide ComfyUI's modules from its own main.py
        try:
            with self.log.open("wb") as log:
                self._process = subprocess.Popen(
                    self._command(),
                    cwd=self.host.comfyui,
                    env=env | {"PYTHONUNBUFFERED": "1"},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # a group of its own: Ctrl-C reaches us alone, and we stop all of it
                )
            self._wait_until_ready(timeout)
        except BaseException:
            self.stop()
            raise

    def _command(self) -> list[str]:
        places = [f"--{name}-directory={self.work / name}" for name in ("output", "input", "temp", "user")]
        return [
            *(str(self.host.python), "main.py", "--listen=127.0.0.1", f"--port={self.port}"),
            *places,
            f"--database-url=sqlite:///{self.work / 'user' / 'comfyui.db'}",
            f"--extra-model-paths-config={self.work / 'paths.yaml'}",
            *("--disable-all-custom-nodes", "--whitelist-custom-nodes", PACK),
            *("--disable-auto-launch", "--disable-api-nodes"),
            *(["--cpu"] if self.cpu else []),
            *self.extra_args,
        ]

    def _wait_until_ready(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while True:
            self.check_alive()
            with contextlib.suppress(OSError):
                self.open("/system_stats")
                break
            if time.monotonic() > deadline:
                raise ServerError(f"ComfyUI did not answer at {self.url} within {timeout:.0f} s; {self.tail()}")
            time.sleep(0.1)
        if re.search(rf"IMPORT FAILED\): .*/{PACK}$", self.log.read_text(errors="replace"), re.MULTILINE):
            raise ServerError(f"ComfyUI could not load the pack in {ROOT} ({self.load_error()}): see {self.log}.")

    def stop(self) -> None:
        """Terminate the whole process group, then kill what is left of it; also when interrupted again.

        It may be called in several threads: all return when it has ended.
        """
        process = self._process
        if process is None:
            return
        try:
            _signal(process, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
        finally:
            _signal(process, signal.SIGKILL)
            process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        """Of the process that runs, to look at its memory and files."""
        process = self._process  # which another thread may stop
        self.check_alive()
        assert process is not None
        return process.pid

    def watch(self) -> None:
        """Stay until the server ends by itself, which is an error."""
        if (process := self._process) is not None:
            process.wait()
        self.check_alive()

    def check_alive(self) -> None:
        process = self._process  # which another thread may stop
        if process is None:
            raise ServerError("ComfyUI is not running: use the server inside its with-block.")
        if process.poll() is not None:
            raise ServerError(f"ComfyUI ended with code {process.returncode}; {self.tail()}")

    def tail(self, lines: int = 20) -> str:
        try:
            text = self.log.read_text(errors="replace").splitlines()
        except OSError as error:
            return f"its log cannot be read ({error})"
        return "\n".join([f"the last lines of {self.log}:", *text[-lines:]])

    def load_error(self) -> str:
        """ComfyUI's own line on why a pack did not load."""
        text = self.log.read_text(errors="replace")
        match = re.search(r"(Cannot import|Error while calling|Skip) .*", text)
        return match[0] if match else "no reason given"


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def free_port(wanted: int = 0) -> int:
    """The wanted port, or any; another server there would answer in place of ours."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError as error:
            raise ServerError(
                f"Port {wanted} of this machine cannot be used ({error.strerror}): give another with --port."
            ) from error
        port: int = probe.getsockname()[1]
    return port
