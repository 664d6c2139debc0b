"""A thousand broken files, and that the command which tries them would notice if something came of one."""

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from i2am_core.files import container, load, reading
from reliability import fuzz, mutations

ROOT = Path(__file__).resolve().parents[2]


def test_of_a_thousand_broken_files_each_is_refused_or_works():
    command = [sys.executable, "-m", "reliability.fuzz", "--mutations", "1000", "--seed", "15"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert run.returncode == 0, run.stdout + run.stderr
    rows = re.findall(r"^\| (version .*?) \| (.*) \|$", run.stdout, re.MULTILINE)
    counts = {name: dict(zip(fuzz.OUTCOMES, map(int, row.split(" | ")), strict=True)) for name, row in rows}
    versions = {"version 1", "version 2", "version 3"}
    assert set(counts) == versions | {f"{name}, checksum recomputed" for name in versions - {"version 1"}}
    assert sum(sum(row.values()) for row in counts.values()) == 1000
    assert counts["version 2"]["other content"] == counts["version 3"]["other content"] == 0
    assert min(row["refused"] for row in counts.values()) > 50
    assert all(row["other content"] for name, row in counts.items() if name not in ("version 2", "version 3"))


def test_a_case_is_the_same_each_time():
    files = mutations.seeds()
    assert files == mutations.seeds()
    assert mutations.mutated(7, 0, files) == mutations.mutated(7, 0, files)
    assert len({mutations.mutated(n, 0, files)[2] for n in range(50)}) > 45


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "case.i2am.safetensors"
    path.write_bytes(mutations.seeds()["each step"])
    return path


def came_of(path):
    before = fuzz.content(load(path))
    entries, tensors = mutations.taken_apart(path.read_bytes())
    low, _ = entries["maps/0/0/r2g_paper"]["data_offsets"]
    tensors[low : low + 4] = b"\x00\x00\x80\x7f"  # infinity
    path.write_bytes(mutations.sealed(mutations.put_together(entries, tensors)))
    return fuzz.outcome(path, 0, before, fuzz.USES)[0]


def test_what_is_not_refused_is_noticed(path, monkeypatch):
    data = path.read_bytes()
    assert came_of(path) == "refused"
    path.write_bytes(data)
    monkeypatch.setattr(reading, "check_values", lambda name, values, low, high: values)
    assert came_of(path) == "late"


def test_what_is_refused_by_no_sentence_is_noticed(path, monkeypatch):
    def fail(*args):
        raise KeyError("a mistake")

    monkeypatch.setattr(reading, "check_parts", fail)
    assert fuzz.outcome(path, 0, "", ())[0] == "late"


def test_want_of_memory_is_noticed(path, monkeypatch):
    def fail(*args):
        raise MemoryError

    monkeypatch.setattr(container, "_parts", fail)
    assert fuzz.outcome(path, 0, "", ())[0] == "late"


def test_what_must_not_come_of_a_file():
    cases = [
        (n, file, "bits flipped", sealed, outcome, "")
        for n, (file, sealed, outcome) in enumerate(
            [
                ("version 1", False, "other content"),
                ("each step", True, "other content"),
                ("each step", False, "equal"),
                ("each step", False, "refused"),
                ("each step", False, "other content"),
                ("each step", True, "late"),
                ("version 1", False, "hang"),
                ("version 1", False, "crash"),
            ]
        )
    ]
    assert [case[0] for case in fuzz.failures(cases)] == [4, 5, 6, 7]
    assert "| version 1 | 0 | 0 | 1 | 0 | 1 | 1 |" in fuzz.table(cases)


def test_a_process_that_dies_or_hangs_is_replaced(monkeypatch):
    monkeypatch.setattr(fuzz, "SECONDS", 1)
    worker = fuzz.Worker(0)
    worker.give(random.Random(0).randrange(100))
    while (case := worker.take()) is None:
        pass
    assert case[4] in ("refused", "equal", "other content")
    worker.number = 3
    worker.process.kill()
    worker.process.join()
    case = worker.take()
    assert case is not None and case[4] == "crash"
    worker.number, worker.since = 4, 0.0
    case = worker.take()
    assert case is not None and case[4] == "hang"
    worker.give(None)
    worker.process.join()
