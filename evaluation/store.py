"""Where scores are written: a line of JSON for each row as soon as it is there, and one Parquet file of all in the end.

There is no second list of what is done that could disagree with the first: a row is done when its line is whole. So a
crash at any moment loses what was under way, and nothing else; a line that a crash has cut is taken off.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import pyarrow
import pyarrow.parquet

from comfy_client import Json
from devenv import HostError

LINES, SCORES, ABOUT = "scores.jsonl", "scores.parquet", "run.json"
SECONDS = 1.0  # between two moments at which all that was written is on the disk
BATCH = 4096  # rows of the Parquet file that are in memory at a time


class Store:
    """The results in a folder. Used in a with-block: one process at a time writes into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines = folder / LINES
        self._file: IO[bytes] | None = None
        self._safe_at = 0.0

    def __enter__(self) -> Store:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = self.lines.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise HostError(
                f"Another evaluation writes into {self.folder}: wait for it, or give another folder."
            ) from None
        self._cut_half_a_line()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        self._make_safe()
        self._file.close()

    def about(self, given: Json) -> None:
        """Write down what is evaluated. Raises HostError where the folder has results of something else."""
        path = self.folder / ABOUT
        before = json.loads(path.read_text()) if path.is_file() else {}
        if others := [key for key, x in before.items() if key in given and given[key] != x]:
            raise HostError(
                f"{self.folder} has results of another evaluation (another {others[0]}): give another folder."
            )
        part = path.with_suffix(".part")
        part.write_text(json.dumps(given, indent=2))
        part.replace(path)

    def add(self, result: Json) -> None:
        """Write the result of a row, which has its ``id``."""
        assert self._file is not None
        self._file.write(json.dumps(finite(result), allow_nan=False).encode() + b"\n")
        self._file.flush()
        if time.monotonic() - self._safe_at > SECONDS:
            self._make_safe()

    def done(self, again: bool = False) -> dict[str, str]:
        """By the names of the rows that have a result, what they were; with ``again`` without those that failed."""
        return {x["id"]: x.get("row", "") for x in results(self.folder) if not (again and x["error"])}

    def _make_safe(self) -> None:
        assert self._file is not None
        os.fsync(self._file.fileno())
        self._safe_at = time.monotonic()

    def _cut_half_a_line(self) -> None:
        """A crash may have left the last line without its end."""
        assert self._file is not None
        with self.lines.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            end, step = size, 1 << 16
            while end > 0:
                start = max(0, end - step)
                file.seek(start)
                at = file.read(end - start).rfind(b"\n")
                if at >= 0:
                    end = start + at + 1
                    break
                end = start
            if end < size:
                file.truncate(end)


def finite(values: Json) -> Json:
    """With None for numbers that JSON has not."""
    return {name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in values.items()}


def results(folder: Path, size: int | None = None) -> Iterator[Json]:
    """The results in a folder, each row once: as it was written last. A line without its end is none yet.

    They are those of the first ``size`` bytes, by default of all that there are now: a run may add more meanwhile.
    """
    size = (folder / LINES).stat().st_size if size is None else size
    last = {result["id"]: number for number, result in _lines(folder, size)}
    for number, result in _lines(folder, size):
        if last[result["id"]] == number:
            yield result


def _lines(folder: Path, size: int) -> Iterator[tuple[int, Json]]:
    with (folder / LINES).open("rb") as file:
        for number, line in enumerate(file):
            size -= len(line)
            if size < 0 or not line.endswith(b"\n"):
                return
            yield number, _result(folder / LINES, number, line)


def _result(path: Path, number: int, line: bytes) -> Json:
    try:
        result: Json = json.loads(line)
        result["id"]
    except (ValueError, KeyError, TypeError):
        raise HostError(
            f"Line {number + 1} of {path} is no result, as after a fault of the disk: take it out, and its row is run "
            "once more."
        ) from None
    return result


def write_parquet(folder: Path) -> Path:
    """All results as one table, a column for each name that any result has."""
    columns: dict[str, pyarrow.DataType] = {}
    size = (folder / LINES).stat().st_size
    for result in results(folder, size):
        for name, value in result.items():
            columns[name] = _wider(columns.get(name, pyarrow.null()), _kind(value))
    fields = [(name, pyarrow.string() if kind == pyarrow.null() else kind) for name, kind in columns.items()]
    schema = pyarrow.schema(fields)
    path = folder / SCORES
    part = path.with_suffix(f".{os.getpid()}.part")
    with pyarrow.parquet.ParquetWriter(part, schema) as writer:
        for batch in _batched(results(folder, size)):
            texts = [{name: _as(schema.field(name).type, value) for name, value in row.items()} for row in batch]
            writer.write_batch(pyarrow.RecordBatch.from_pylist(texts, schema))
    part.replace(path)
    return path


def _batched(rows: Iterator[Json]) -> Iterator[list[Json]]:
    batch: list[Json] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _kind(value: Any) -> pyarrow.DataType:
    if value is None:
        return pyarrow.null()
    if isinstance(value, list):
        return pyarrow.list_(pyarrow.string())
    if isinstance(value, int) and not -(2**63) <= value < 2**63:  # such as the seeds that ComfyUI draws
        return pyarrow.string()
    kinds = {bool: pyarrow.bool_(), int: pyarrow.int64(), float: pyarrow.float64()}
    return kinds.get(type(value), pyarrow.string())


def _wider(one: pyarrow.DataType, other: pyarrow.DataType) -> pyarrow.DataType:
    """A type that has the values of both: numbers are numbers, all else is text."""
    if one == other or other == pyarrow.null():
        return one
    if one == pyarrow.null():
        return other
    return pyarrow.float64() if {one, other} == {pyarrow.int64(), pyarrow.float64()} else pyarrow.string()


def _as(kind: pyarrow.DataType, value: Any) -> Any:
    if value is None or pyarrow.types.is_list(kind):
        return value
    if kind == pyarrow.string():
        return value if isinstance(value, str) else json.dumps(value)
    return float(value) if kind == pyarrow.float64() else value
