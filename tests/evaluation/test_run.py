"""The whole command on the demo: twelve rows on two real servers, of which one is killed on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pyarrow.parquet
import pytest

from comfy_client import ServerError
from comfy_server import ComfyServer, free_port
from devenv import prepare
from evaluation import ROOT
from evaluation.servers import FOLDER, GivenServer, Specification
from evaluation.store import LINES
from evaluation.table import Table
from evaluation.worker import Task, Worker
from evaluation.workflow import Wanted, read_workflow
from i2am_core import load

pytestmark = pytest.mark.timeout(500)
COMMAND = [sys.executable, str(ROOT / "scripts" / "evaluate")]
NOTHING_QUEUED = b'{"queue_running": [], "queue_pending": []}'


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Three scenes for four models."""
    folder = tmp_path_factory.mktemp("demo")
    subprocess.run([*COMMAND, "demo", str(folder), "--pairs", "3"], check=True)
    return folder


def count(folder):
    path = folder / LINES
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for(rows, folder, running):
    while count(folder) < rows:
        assert running.poll() is None, "it ended before"
        time.sleep(0.05)


def servers_of(running):
    children = psutil.Process(running.pid).children(recursive=True)
    about = {x: x.as_dict(["cmdline"])["cmdline"] or () for x in children if x.is_running()}
    return [x for x, words in about.items() if "main.py" in words]


def as_in_a_terminal():
    """Ctrl-C reaches it: what a shell runs in its background ignores that, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_run_that_everything_happens_to(demo, tmp_path):
    """One server is killed, one hangs, then Ctrl-C: nothing is left behind, and the same command does what is left."""
    scores = tmp_path / "scores"
    command = [*COMMAND, "run", str(demo / "workflow.json"), str(demo / "table.csv"), str(scores)]
    with (tmp_path / "log").open("w") as log:
        running = subprocess.Popen(
            [*command, "--start", "2", "--cpu"], stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=as_in_a_terminal,
        )  # fmt: skip
        wait_for(2, scores, running)
        servers = servers_of(running)
        assert len(servers) == 2
        servers[0].send_signal(signal.SIGKILL)
        servers[1].send_signal(signal.SIGSTOP)
        wait_for(6, scores, running)
        servers += servers_of(running)  # with the one that was started again
        os.killpg(running.pid, signal.SIGINT)  # which a terminal sends to all, Ray's processes too
        assert running.wait(100) == 1, (tmp_path / "log").read_text()
    said = (tmp_path / "log").read_text()
    assert "once more, since ComfyUI " in said and "Interrupted; run the same command again" in said
    assert "Traceback" not in said
    assert not psutil.wait_procs(servers, 10)[1], "the one that hung ends as well"
    assert count(scores) < 12

    again = subprocess.run([*command, "--start", "1", "--cpu"], capture_output=True, text=True)
    assert "12 rows; 0 have no scores" in again.stdout, again.stderr

    rows = pyarrow.parquet.read_table(scores / "scores.parquet").to_pylist()
    assert sorted(row["id"] for row in rows) == sorted(
        f"{pair:04d} {model}"
        for pair in range(3)
        for model in ("step 500", "step 2000", "average of step 2000 and shipped", "shipped")
    )
    assert count(scores) == 12, "each was written once"
    for row in rows:
        assert row["error"] is None and row["psnr.mask"] > 5 and 0 < row["imacs.effect.part_inside"] <= 1
        assert row["lpips.lacking"], "its network cannot be had here, and that is said"
        assert 0 < row["seconds.graph"] < row["seconds"]
    mean = {m: sum(r["psnr.mask"] for r in rows if r["loader.weights"] == m) / 3 for m in ("step 500", "shipped")}
    assert mean["shipped"] > mean["step 500"] + 2, "the models are what they are called"

    report = [*COMMAND, "report", str(scores), "--models", "loader.weights", "--scenes", "scene.image"]
    made = subprocess.run(report, capture_output=True, text=True, check=True).stdout.split()
    assert [path.rpartition("/")[2] for path in made] == ["correlation.md", "correlation.json", "correlation.png"]
    table = json.loads((scores / "correlation.json").read_text())
    assert table["over models"]["imacs.effect.strength_inside"]["psnr.mask"]["points"] == 4
    written = (scores / "correlation.md").read_text()
    assert "12 rows of 4 models" in written and "drawn scenes (column `scene.image`)" in written
    for place, named in ((-1, "scenes"), (-3, "models")):
        wrong = [*report]
        wrong[place] = "place"
        lacking = subprocess.run(wrong, capture_output=True, text=True)
        assert lacking.returncode == 1 and f"has no column 'place' that names {named}" in lacking.stderr


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One that somebody runs."""
    with ComfyServer(prepare(tests=True), tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def given(demo, tmp_path):
    """A workflow that saves maps, and a table of its first row."""
    workflow, table = tmp_path / "workflow.json", tmp_path / "table.csv"
    save = {"class_type": "I2AM_Save", "inputs": {"attribution": ["collect", 0], "filename_prefix": "maps/of"}}
    workflow.write_text(json.dumps(json.loads((demo / "workflow.json").read_text()) | {"save": save}))
    table.write_text("\n".join((demo / "table.csv").read_text().splitlines()[:2]) + "\n")
    return workflow, table


def make_long(table):
    columns, row = table.read_text().splitlines()
    table.write_text(f"{columns},sampler.steps\n{row},10000\n")


def test_a_server_that_somebody_runs(server, given, tmp_path, monkeypatch):
    """One that takes too long, one that has lost a prompt; and what is wrong is said before anything runs."""
    workflow, table = given
    columns, first = table.read_text().splitlines()
    run = [*COMMAND, "run", str(workflow), str(table)]
    options = ["--server", server.url, "--pictures", "--maps"]
    server.forget()
    subprocess.run([*run, str(tmp_path / "scores"), *options], check=True)
    (row,) = pyarrow.parquet.read_table(tmp_path / "scores" / "scores.parquet").to_pylist()
    assert row["server"] == server.url and row["error"] is None
    assert (tmp_path / "scores" / "pictures" / f"{row['id']}.png").is_file()
    (maps,) = (tmp_path / "scores" / "maps").iterdir()
    assert maps.name == f"{row['id']}.i2am.safetensors" and load(maps).items == 1
    assert server.get("/history") == b"{}", "what was read is taken out of its history"

    make_long(table)
    folder = tmp_path / "slow"
    slow = subprocess.run([*run, str(folder), *options, "--seconds", "8"], capture_output=True, text=True)
    (row,) = pyarrow.parquet.read_table(folder / "scores.parquet").to_pylist()
    assert "in 3 attempts: Prompt" in row["error"] and "did not finish within 8 s" in row["error"], slow.stderr
    assert server.get("/queue") == NOTHING_QUEUED, "nothing is left behind"

    monkeypatch.setattr("comfy_client.QUEUE_SECONDS", 0.2)
    with pytest.raises(ServerError, match="has lost prompt gone"):
        server.wait("gone")

    table.write_text(f"{columns}\n{first.replace('step 500', 'step 1')}\n")
    wrong = subprocess.run([*run, str(tmp_path / "scores"), *options], capture_output=True, text=True)
    assert wrong.returncode == 1 and "is 'step 1', expected one of shipped, step 500" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    nowhere = f"http://127.0.0.1:{free_port()}"
    gone = subprocess.run([*run, str(tmp_path / "scores"), "--server", nowhere], capture_output=True, text=True)
    assert gone.returncode == 1 and f"The server {nowhere} cannot be used" in gone.stderr


def test_nothing_runs_on_that_nobody_waits_for(server, given):
    """After Ctrl-C; and after a server has hung with a graph that it had not yet read."""
    workflow, row = read(server, *given)
    worker = Worker(Specification(server.url, server.url), Task(workflow, Wanted()))
    assert worker.run(row).result["error"] is None
    shutil.rmtree(server.work / "input" / FOLDER)
    assert worker.run(replace(row, values=row.values | {"sampler.seed": "9"})).result["error"] is None, "sent again"

    make_long(given[1])
    workflow, row = read(server, *given)
    worker = Worker(Specification(server.url, server.url), Task(workflow, Wanted()))
    answers = []
    running = threading.Thread(target=lambda: answers.append(worker.run(row)))
    running.start()
    wait_for_queue(server)
    worker.stop()
    assert server.get("/queue") == NOTHING_QUEUED
    running.join(30)
    assert [answer.result for answer in answers] == [None], "it is nothing that the row could help"

    hanging = GivenServer(server.url, 2)
    pictures = {path: hanging.upload(Path(path).read_bytes(), ".png") for path in workflow.pictures_of(row)}
    os.kill(server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(ServerError, match=r"did not answer /prompt \(timed out\)"):
            hanging.run(workflow.graph_of(row, pictures))
    finally:
        os.kill(server.pid, signal.SIGCONT)
    hanging._client.answer_seconds = 60
    wait_for_queue(server)
    hanging.start()
    assert server.get("/queue") == NOTHING_QUEUED


def read(server, workflow, table):
    """The workflow, and the first row."""
    rows = Table.of(table)
    return read_workflow(workflow, rows.columns, {}, server.object_info()), next(rows.rows())


def wait_for_queue(server):
    until = time.monotonic() + 20
    while server.get("/queue") == NOTHING_QUEUED:
        assert time.monotonic() < until, "the graph is not queued"
        time.sleep(0.05)
