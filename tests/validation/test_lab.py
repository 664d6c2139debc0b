"""Results are computed once, and one that is half written is none."""

import pytest
import torch

from i2am_pack.demo import results
from i2am_pack.validation import lab as module
from i2am_pack.validation.lab import Lab

VALUES = {"x": torch.arange(3.0)}


def test_what_is_stored_is_made_once(tmp_path):
    calls = []

    def make():
        calls.append(1)
        return VALUES

    for short in (Lab(2, 2, tmp_path), Lab(2, 2, tmp_path)):
        assert torch.equal(short.stored("of: a/b", make)["x"], VALUES["x"])
    assert len(calls) == 1
    Lab(2, 3, tmp_path).stored("of: a/b", make)
    assert len(calls) == 2, "of other settings it is another result"


def test_an_interrupt_while_it_writes_leaves_nothing_half_written(tmp_path, monkeypatch):
    short = Lab(2, 2, tmp_path)

    def interrupted(values, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(results, "save_file", interrupted)
        short.stored("result", lambda: VALUES)
    assert not list(tmp_path.rglob("*.safetensors"))
    assert torch.equal(short.stored("result", lambda: VALUES)["x"], VALUES["x"])
    assert [path.name for path in tmp_path.rglob("*.*") if path.is_file()] == ["result.safetensors"]


def test_two_processes_do_not_write_into_one_file(tmp_path, monkeypatch):
    path = tmp_path / "result.safetensors"
    own = results.unfinished_of(path)
    monkeypatch.setattr(results.os, "getpid", lambda: -1)
    assert results.unfinished_of(path) != own != path


def test_results_are_those_of_the_weights_that_are_there(tmp_path, monkeypatch):
    other = tmp_path / "weights.safetensors"
    other.write_bytes(b"of another training")
    before = Lab(2, 2, tmp_path).folder
    monkeypatch.setattr(module, "WEIGHTS", other)
    assert Lab(2, 2, tmp_path).folder != before
