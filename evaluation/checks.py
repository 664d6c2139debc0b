"""What can be known to be wrong before anything runs, each in one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from PIL import Image

from comfy_client import ComfyClient, Json, ServerError
from devenv import HostError
from evaluation.servers import described
from evaluation.table import Row, Table
from evaluation.workflow import SCORES, Wanted, Workflow

MOST_NAMED = 3
RESERVED = ("row", "server", "error", "seconds", "seconds.graph")  # columns of the result
QUALITIES = ("psnr", "ssim", "l1", "lpips")
READERS = 16  # threads: pictures may lie on a slow disk of another machine
AT_A_TIME = 256  # rows


def check_servers(urls: Sequence[str]) -> tuple[Json, Json]:
    """The nodes that all servers have, and the versions of what they run.

    Raises HostError where one does not answer, or is of another version.
    """
    first: tuple[str, Json, Json] | None = None
    for url in urls:
        server = ComfyClient(url.rstrip("/"))
        try:
            about, nodes = dict(described(server)), server.object_info()
        except ServerError as error:
            raise HostError(f"The server {url} cannot be used: {error}") from None
        if first is None:
            first = url, about, nodes
            continue
        for name, value in first[1].items():
            if about[name] != value:
                raise HostError(
                    f"The servers differ in {name}: {first[0]} has {value}, {url} has {about[name]}. Scores of "
                    "different versions are no one table: use the same on all."
                )
        if (other := _other_node(first[2], nodes)) is not None:
            raise HostError(f"The servers {first[0]} and {url} have another {other}: install the same I2AM on all.")
    assert first is not None
    _, versions, nodes = first
    return nodes, versions


def check_wanted(wanted: Wanted, columns: Sequence[str], workflow: Workflow) -> None:
    """Whether there is what pictures are to be judged by."""
    for column in filter(None, (wanted.truth, wanted.mask)):
        if column not in columns:
            raise HostError(f"The table has no column {column!r}: it has {', '.join(columns)}.")
    if wanted.truth and workflow.picture is None:
        raise HostError("The workflow shows no picture to be judged: put in Preview Image, or Save Image.")


def check_columns(columns: Sequence[str]) -> None:
    """Whether no column has the name of one of the result's."""
    for column in columns:
        if column in RESERVED or column.split(".")[0].split("@")[0] in (*SCORES.values(), *QUALITIES):
            raise HostError(f"The table has a column {column!r}, as the result has: rename it, and say what it feeds.")


def check_unchanged(table: Table, done: Mapping[str, str]) -> None:
    """Raises HostError where a row has a result (``done``, by its name what it was) of other values."""
    if not done:
        return
    for row in table.rows():
        if done.get(row.name, "") not in ("", row.digest):
            raise HostError(f"Row {row.name!r} had other values when it was run: give another id, or another folder.")


def check_rows(table: Table, workflow: Workflow, wanted: Wanted, named: bool = False) -> int:
    """How many rows there are. Raises HostError where a value is not what its input takes, or a picture is none.

    ``named``: files are called by the rows' names.
    """
    columns = [feed.column for feed in workflow.feeds if feed.picture] + [*filter(None, (wanted.truth, wanted.mask))]
    count, wrong, seen = 0, [], set[str]()
    with ThreadPoolExecutor(READERS) as threads:
        for rows in _parts(table.rows()):
            count += len(rows)
            wrong += [f"{row.name}: {why}" for row in rows if (why := _why_no_value(row, workflow))]
            unnamable = [row.name[:80] for row in rows if named and not _is_file_name(row.name)]
            wrong += [f"{name!r} cannot be the name of a file" for name in unnamable]
            paths = {str(row.values[column]): row.name for row in rows for column in columns}
            new = {path: name for path, name in paths.items() if path not in seen}
            seen = set(paths)  # of the part before: a table may be longer than the memory
            for (path, name), why in zip(new.items(), threads.map(_why_no_picture, new), strict=True):
                wrong += [f"{name}: {path} {why}"] if why else []
            if len(wrong) > MOST_NAMED:
                break
    if wrong:
        raise HostError(f"Rows that cannot be run: {'; '.join(wrong[:MOST_NAMED])}{' ...' * (len(wrong) > MOST_NAMED)}")
    return count


def _parts(rows: Iterator[Row]) -> Iterable[list[Row]]:
    return iter(lambda: list(islice(rows, AT_A_TIME)), [])


def _is_file_name(name: str) -> bool:
    return re.fullmatch(r"[\w ()+,=@-][\w ()+,.=@-]{0,150}", name) is not None


def _why_no_value(row: Row, workflow: Workflow) -> str:
    for feed in workflow.feeds:
        try:
            feed.value(row.values[feed.column])
        except ValueError as error:
            return str(error)
    return ""


def _why_no_picture(path: str) -> str:
    if not Path(path).is_file():
        return "is not there"
    try:
        with Image.open(path) as image:
            image.verify()
    except Exception as error:  # whatever a broken file does to its reader
        return f"is no picture that can be read ({type(error).__name__})"
    return ""


def _other_node(one: Json, other: Json) -> str | None:
    """A node of ours that is not the same in both lists."""
    ours = {name for name in (*one, *other) if name.startswith("I2AM_")}
    return next((x for x in sorted(ours) if one.get(x, {}).get("input") != other.get(x, {}).get("input")), None)
