"""Saved attributions in ComfyUI's folders: which of them there are, which a name means, and names for new ones.

One rule for all three: what lies in a folder is what lies there when all links are followed. A link that leads out of
the folder is outside, whoever made it.
"""

import contextlib
import datetime
import logging
import os
import re
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import folder_paths

from ..i2am_core import SUFFIX, printable

FOLDERS = {"output": folder_paths.get_output_directory, "input": folder_paths.get_input_directory}
SECONDS = 5.0  # for looking for files, at most: a folder of a hundred thousand pictures takes a quarter of one
ENTRIES = 1_000_000  # looked at, at most
FOLDERS_DEEP = 100  # of a new file, at most: Python makes folders one within the other, and ends on a thousand


def inside(folder: Path, path: Path) -> Path | None:
    """The file or folder that a path means, all links followed; None if that is not in the folder."""
    try:
        root, real = Path(os.path.realpath(folder)), Path(os.path.realpath(path))
    except (OSError, ValueError):  # a character that no name can have
        return None
    return real if real.is_relative_to(root) else None


def find(file: object) -> Path:
    """The file that an entry of the list names. Raises ValueError for one outside ComfyUI's folders, or missing."""
    if not isinstance(file, str):
        raise ValueError("file is no text: choose a file from the list.")
    name, _, within = file.partition("/")
    worded = printable(file, 200)
    if name not in FOLDERS:
        raise ValueError(f"'{worded}' is not in ComfyUI's output or input folder: choose a file from the list.")
    folder = Path(FOLDERS[name]())
    path = inside(folder, folder / within)
    if path is None or not path.name.endswith(SUFFIX):
        raise ValueError(f"'{worded}' is no attribution in ComfyUI's {name} folder: choose a file from the list.")
    if not _is_file(path):
        within = printable(within, 200)
        raise ValueError(f"there is no file '{within}' in ComfyUI's {name} folder: choose one that I2AM Save wrote.")
    return path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long
        return False


def saved_files() -> list[str]:
    """Every saved attribution, newest first, as ``<folder>/<path within it>``; or as many as ``SECONDS`` allow for."""
    end = time.monotonic() + SECONDS
    files = [(changed, f"{name}/{within}") for name in FOLDERS for changed, within in _files_in(name, end)]
    return [file for _, file in sorted(files, key=lambda file: (-file[0], file[1]))]


def _files_in(name: str, end: float) -> Iterator[tuple[float, str]]:
    """Of each file in one of the folders when it was changed, and its path within; folders near the top come first."""
    root = Path(FOLDERS[name]())
    folders, looked_at = deque([""]), 0
    while folders:
        folder = folders.popleft()
        for entry in _entries(root / folder):
            looked_at += 1
            if looked_at > ENTRIES or time.monotonic() > end:
                logging.warning(
                    "I2AM Load lists only some of the files in ComfyUI's %s folder: it holds more than can be looked "
                    "through in %s seconds.", name, SECONDS,
                )  # fmt: skip
                return
            within = f"{folder}{entry.name}"
            with contextlib.suppress(OSError):  # it is gone, or nobody may look at it
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{within}/")
                elif _is_listed(root, entry, within):
                    yield entry.stat().st_mtime, within


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        yield from entries


def _is_listed(root: Path, entry: os.DirEntry[str], within: str) -> bool:
    """Whether it is a file that ``find`` finds, by a name that a page can send."""
    if not entry.name.endswith(SUFFIX) or printable(within) != within or not entry.is_file():
        return False
    return not entry.is_symlink() or inside(root, Path(entry.path)) is not None


def new_names(prefix: str, width: int, height: int, prompt: Mapping[str, Any] | None) -> Iterator[Path]:
    """Names for a new file in the output folder, whose folder is made: numbered, from the last number there is.

    ``prefix`` is as in ComfyUI's Save Image: see ``expanded``. Raises ValueError where it leads out of the folder.
    """
    output = Path(folder_paths.get_output_directory())
    typed = "".join(x if printable(x) == x else "_" for x in expanded(prefix, width, height, prompt))
    wanted = Path(os.path.normpath(typed or "attribution"))
    folder, name = output / wanted.parent, wanted.name
    if name in ("", "..") or inside(output, folder) is None:
        raise ValueError(
            f"filename_prefix '{printable(prefix, 200)}' names a file outside the output folder: choose one within it."
        )
    if len(wanted.parts) > FOLDERS_DEEP:
        raise ValueError(
            f"filename_prefix '{printable(prefix, 200)}' has {len(wanted.parts) - 1} folders, one within the other: "
            "choose a shorter one."
        )
    folder.mkdir(parents=True, exist_ok=True)
    number = last_number(folder, name)
    return (folder / f"{name}_{n:05}{SUFFIX}" for n in range(number + 1, number + 100_000))


def last_number(folder: Path, name: str) -> int:
    """The largest number of a file of this name, 0 if there is none."""
    numbered = re.compile(re.escape(name) + r"_(\d{5,9})" + re.escape(SUFFIX))
    matches = (numbered.fullmatch(entry.name) for entry in _entries(folder))
    return max((int(match[1]) for match in matches if match), default=0)


def expanded(prefix: str, width: int, height: int, prompt: Mapping[str, Any] | None = None) -> str:
    """The prefix with values for what stands between percent signs, as ComfyUI's Save Image has it.

    ``%date:yyyy-MM-dd%`` and ``%node.widget%`` are the page's there, which knows only the save nodes of ComfyUI; here
    they are values also for whoever queues without a page. What is not known stays as it is.
    """
    now = datetime.datetime.now()
    known = {"width": str(width), "height": str(height), "year": str(now.year)}
    known |= {unit: f"{getattr(now, unit):02}" for unit in ("month", "day", "hour", "minute", "second")}

    def value(match: re.Match[str]) -> str:
        what = match[1]
        if what.startswith("date:"):
            return _date(what.removeprefix("date:"), now)
        node, dot, widget = what.partition(".")
        typed = _typed(prompt or {}, node, widget) if dot else None
        return known.get(what, match[0]) if typed is None else re.sub(r'[/?<>\\:*|"\x00-\x1f\x7f]', "_", typed)

    return re.sub("%([^%]+)%", value, prefix)


def _date(form: str, now: datetime.datetime) -> str:
    """``form`` with one letter, or two with a leading zero, for each unit, as ComfyUI's page has it."""
    units = {"d": now.day, "M": now.month, "h": now.hour, "m": now.minute, "s": now.second}

    def value(match: re.Match[str]) -> str:
        letters = match[0]
        if letters[0] == "y":
            year = str(now.year)
            return {"yy": year[2:], "yyyy": year}.get(letters, letters)
        return str(units[letters[0]]).zfill(len(letters))

    return re.sub("dd?|MM?|hh?|mm?|ss?|yyy?y?", value, form)


def _typed(prompt: Mapping[str, Any], node: str, widget: str) -> str | None:
    """What a widget of a node of this name holds: the first node that is of this type, or has this title."""
    nodes = [x for x in prompt.values() if isinstance(x, Mapping)]
    named = [x for x in nodes if x.get("class_type") == node] or [
        x for x in nodes if _mapping(x.get("_meta")).get("title") == node
    ]
    typed = _mapping(named[0].get("inputs")).get(widget) if named else None
    return None if typed is None or isinstance(typed, list | dict) else str(typed)


def _mapping(value: object) -> Mapping[str, Any]:
    """ComfyUI looks only at the nodes that it runs: the others of a graph are as a script has written them."""
    return value if isinstance(value, Mapping) else {}
