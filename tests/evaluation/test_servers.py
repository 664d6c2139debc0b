"""Servers: what answers badly or not at all, and what a worker that was killed has left behind."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest

from comfy_client import PromptFailed, ServerError
from comfy_server import ComfyServer
from evaluation.servers import GivenServer, Specification, end_orphans

HOST = socket.gethostname()


@pytest.fixture
def silence():
    """An address that takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def no_comfyui():
    """A web server that answers everything, first with 200 and then with 400, and never with JSON."""

    class Page(BaseHTTPRequestHandler):
        codes = [200, 400]

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(self.codes.pop(0))
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *about):
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    "request_of_a_row",
    [
        lambda server: server.start(),
        lambda server: server.upload(b"pixels", ".png"),
        lambda server: server.run({}),
        lambda server: server.view({"filename": "a.png", "subfolder": "", "type": "output"}),
    ],
    ids=["start", "upload", "run", "view"],
)
def test_silence_is_waited_for_as_long_as_a_row_may_take(silence, request_of_a_row):
    server, started = Specification("given", silence).make(0.2), time.monotonic()
    with pytest.raises(ServerError, match="timed out"):
        request_of_a_row(server)
    server.stop()
    assert time.monotonic() - started < 3


def test_what_gives_no_json_is_no_comfyui_and_its_rows_are_not_to_blame(no_comfyui):
    server = GivenServer(no_comfyui, 60)
    for _ in range(2):
        with pytest.raises(ServerError, match="is no ComfyUI") as raised:
            server.run({})
        assert not isinstance(raised.value, PromptFailed)


@pytest.fixture
def orphans(tmp_path, monkeypatch):
    """Makes a folder such as a worker of so-and-so leaves, and a process that has the command line of its server."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    servers = []

    def make(worker, host=HOST):
        folder = Path(tempfile.mkdtemp(prefix=f"i2am-evaluation-{host}-{worker}-"))
        arguments = ComfyServer(SimpleNamespace(python=sys.executable), folder)._command()[1:]
        sleeping = [sys.executable, "-c", "import time; time.sleep(60)", *arguments]
        servers.append(subprocess.Popen(sleeping, start_new_session=True))
        return folder, servers[-1]

    yield make
    for server in servers:
        server.kill()
        server.wait()


@pytest.fixture(scope="module")
def dead():
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_a_server_whose_worker_was_killed_while_it_started_is_ended(orphans, dead):
    folder, server = orphans(dead)
    end_orphans()
    assert server.wait(5) == -signal.SIGKILL and not folder.exists()


def test_servers_of_others_are_left_alone(orphans, dead):
    others = [orphans(os.getpid()), orphans(dead, "container"), orphans(dead, f"{HOST}-1")]
    end_orphans()
    assert all(folder.exists() and server.poll() is None for folder, server in others)


def test_the_folder_of_a_server_that_cannot_be_ended_stays(orphans, dead, monkeypatch):
    folder, server = orphans(dead)

    def refused(*given):
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(os, "killpg", refused)
        end_orphans()
    assert folder.exists() and server.poll() is None
    end_orphans()
    assert server.wait(5) == -signal.SIGKILL and not folder.exists()


def test_a_folder_without_a_server_goes(orphans, dead):
    folder, server = orphans(dead)
    server.kill()
    server.wait()
    end_orphans()
    assert not folder.exists()
