"""Results: a crash loses nothing that was written, and nothing is there twice."""

import json
import subprocess
import sys
import textwrap

import pyarrow.parquet
import pytest

from devenv import HostError
from evaluation import ROOT
from evaluation.store import LINES, Store, results, write_parquet


def test_a_cut_line_is_taken_off(tmp_path):
    with Store(tmp_path) as store:
        store.add({"id": "a", "x": 1, "error": None})
        store.add({"id": "b", "x": 2, "error": None})
    path = tmp_path / LINES
    path.write_bytes(path.read_bytes()[:-4])  # as a crash may leave it
    with Store(tmp_path) as store:
        assert store.done().keys() == {"a"}
        store.add({"id": "b", "x": 3, "error": None})
    assert [row["x"] for row in results(tmp_path)] == [1, 3]


@pytest.mark.parametrize("text", [b'{"id": "half', b'{"id": "a"}\n' + b"x" * 200_000])
def test_only_whole_lines_are_left(tmp_path, text):
    (tmp_path / LINES).write_bytes(text)
    with Store(tmp_path) as store:
        assert store.done().keys() == ({"a"} if b"\n" in text else set())
    assert (tmp_path / LINES).read_bytes() == text[: text.rfind(b"\n") + 1]


def test_a_row_that_was_run_again_counts_once(tmp_path):
    lines = ['{"id": "a", "error": "no", "row": "1"}', '{"id": "b", "error": null, "row": "2"}']
    (tmp_path / LINES).write_text("\n".join([*lines, lines[0].replace('"no"', "null"), '{"id": "half a l']))
    assert [(row["id"], row["error"]) for row in results(tmp_path)] == [("b", None), ("a", None)]
    assert pyarrow.parquet.read_table(write_parquet(tmp_path)).num_rows == 2


def test_rows_that_failed_are_run_once_more_where_that_is_wanted(tmp_path):
    with Store(tmp_path) as store:
        store.add({"id": "a", "error": "no", "row": "1"})
        store.add({"id": "b", "error": None, "row": "2"})
        assert store.done() == {"a": "1", "b": "2"} and store.done(again=True) == {"b": "2"}


def test_numbers_that_json_has_not(tmp_path):
    with Store(tmp_path) as store:
        store.add({"id": "a", "x": float("nan"), "seed": 2**64 - 1, "error": None})
    (row,) = pyarrow.parquet.read_table(write_parquet(tmp_path)).to_pylist()
    assert row["x"] is None and row["seed"] == str(2**64 - 1)


def test_what_a_killed_process_has_written_is_there(tmp_path):
    code = """
        import os, signal, sys
        from pathlib import Path
        from evaluation.store import Store
        with Store(Path(sys.argv[1])) as store:
            for number in range(1000):
                store.add({"id": str(number), "error": None})
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], cwd=ROOT, check=False)
    assert done.returncode == -9
    with Store(tmp_path) as store:
        assert len(store.done()) == 1000


def test_one_process_at_a_time(tmp_path):
    with Store(tmp_path), pytest.raises(HostError, match="Another evaluation writes into"), Store(tmp_path):
        pass


def test_a_folder_is_of_one_evaluation(tmp_path):
    with Store(tmp_path) as store:
        store.about({"workflow": "a", "truth": ""})
        store.about({"workflow": "a", "truth": ""})
        with pytest.raises(HostError, match="another workflow"):
            store.about({"workflow": "b", "truth": ""})
        store.about({"workflow": "a", "truth": "", "comfyui_version": "1"})  # which an older folder does not say
        with pytest.raises(HostError, match="another comfyui_version"):
            store.about({"workflow": "a", "truth": "", "comfyui_version": "2"})


def test_what_is_read_while_a_run_writes_is_what_there_was(tmp_path):
    """A report reads the lines more than once."""
    with Store(tmp_path) as store:
        store.add({"id": "a", "x": 1, "error": None})
        rows = results(tmp_path)
        first = next(rows)
        store.add({"id": "b", "y": 2, "error": None})
        assert [first, *rows] == [{"id": "a", "x": 1, "error": None}]
    assert len(list(results(tmp_path))) == 2


@pytest.mark.parametrize("line", [b"\0\0\0", b"[]", b'{"x": 1}'])
def test_a_line_that_is_no_result_is_named(tmp_path, line):
    (tmp_path / LINES).write_bytes(b'{"id": "a"}\n' + line + b"\n")
    with pytest.raises(HostError, match=r"Line 2 of .*scores\.jsonl is no result"):
        list(results(tmp_path))


def test_columns_have_the_types_of_what_is_in_them(tmp_path):
    rows = [
        {"id": "a", "whole": 1, "number": 1, "flag": True, "findings": ["x", "y"], "mixed": 1, "empty": None},
        {"id": "b", "whole": 2, "number": 0.5, "findings": [], "mixed": "text", "empty": None},
    ]
    (tmp_path / LINES).write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = pyarrow.parquet.read_table(write_parquet(tmp_path))
    kinds = {field.name: str(field.type) for field in table.schema}
    assert kinds["whole"] == "int64" and kinds["number"] == "double" and kinds["mixed"] == "string"
    assert kinds["flag"] == "bool" and kinds["findings"].startswith("list")
    assert table["mixed"].to_pylist() == ["1", "text"] and table["flag"].to_pylist() == [True, None]
