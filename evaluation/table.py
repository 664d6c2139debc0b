"""The table of inputs, CSV or Parquet: each row is one picture to make. It is read in parts, never as a whole."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.csv
import pyarrow.parquet

from comfy_client import Json
from devenv import HostError

ID = "id"  # the column that names rows, where there is one
BATCH = 1024  # rows that are read at a time


@dataclass(frozen=True)
class Row:
    """One picture to make. ``name`` is its own in the whole table; ``values`` are by column."""

    name: str
    values: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Of its values: another one is another row, though it may have the same name."""
        return _digest(self.values)


@dataclass(frozen=True)
class Table:
    path: Path
    columns: tuple[str, ...]

    @classmethod
    def of(cls, path: Path) -> Table:
        """The table in a file. Raises HostError where there is none, or no column."""
        if path.suffix.lower() not in (".csv", ".parquet"):
            raise HostError(f"The table is {path.name}: give a CSV file (.csv) or a Parquet file (.parquet).")
        if not path.is_file():
            raise HostError(f"The table {path} is not there: give the path of a CSV or Parquet file.")
        try:
            columns = next(_batches(path)).schema.names
        except StopIteration:
            raise HostError(f"The table {path} has no rows.") from None
        if len(set(columns)) < len(columns):
            twice = [name for name, count in Counter(columns).items() if count > 1]
            raise HostError(f"The table {path} has several columns called {twice[0]!r}: rename all but one.")
        return cls(path, tuple(columns))

    def rows(self) -> Iterator[Row]:
        """All of them, in order. Rows without a name of their own are named by what is in them."""
        seen: Counter[bytes] = Counter()
        for batch in _batches(self.path):
            for values in batch.to_pylist():
                name = _name(values) if self.named else _digest(values)
                mark = hashlib.blake2b(name.encode(), digest_size=12).digest()  # a million of these are 100 MB
                seen[mark] += 1
                if seen[mark] > 1 and self.named:
                    raise HostError(f"The table {self.path} has several rows of the {ID} {name!r}: each needs its own.")
                yield Row(name if seen[mark] == 1 else f"{name}-{seen[mark]}", values)

    @property
    def named(self) -> bool:
        """Whether rows have names of their own."""
        return ID in self.columns


def _batches(path: Path) -> Iterator[pyarrow.RecordBatch]:
    """Of a CSV file all values are texts: what they are for says what they mean."""
    try:
        if path.suffix.lower() == ".parquet":
            with pyarrow.parquet.ParquetFile(path) as file:
                yield from file.iter_batches(BATCH)
        else:
            yield from _csv_batches(path)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError, UnicodeDecodeError) as error:
        raise HostError(f"The table {path} cannot be read ({str(error).splitlines()[0]}).") from None


def _csv_batches(path: Path) -> Iterator[pyarrow.RecordBatch]:
    lines = pyarrow.csv.ParseOptions(newlines_in_values=True)
    with pyarrow.csv.open_csv(path, parse_options=lines) as first:
        names = first.schema.names
    texts = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pyarrow.string()))
    with pyarrow.csv.open_csv(path, parse_options=lines, convert_options=texts) as reader:
        for batch in reader:
            yield from (batch.slice(start, BATCH) for start in range(0, len(batch), BATCH))


def _name(values: Json) -> str:
    name = values[ID]
    if name is None or str(name) == "":
        raise HostError(f"A row of the table has no {ID}: give it one, or leave the column out.")
    return str(name)


def _digest(values: Mapping[str, Any]) -> str:
    text = json.dumps(dict(values), sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()
