"""Servers: what a worker that was killed has left behind."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from comfy_server import ComfyServer
from evaluation.servers import end_orphans

HOST = socket.gethostname()


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
