"""Work that is done once: each stage leaves a stamp with a hash of its inputs inside the thing it made.

The stamp is the last act. So a stage that was interrupted runs again, a changed pin runs again, and when all is
ready nothing runs at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from devenv.errors import HostError
from devenv.places import HOST, PYTHON

STAMP = ".i2am-stamp"
SPACE_NEEDED = 4_000_000_000


def stage(title: str, folder: Path, inputs: Callable[[], str], build: Callable[[], None], stamp: str = STAMP) -> None:
    """Run ``build`` unless the stamp in ``folder`` shows that it ran with these inputs."""
    file = folder / stamp
    if file.is_file() and file.read_text() == digest(inputs()):
        return
    if not PYTHON.exists():
        need_space()
    with report(title):
        file.unlink(missing_ok=True)
        build()
        write_whole(file, digest(inputs()))


def need_space() -> None:
    free = shutil.disk_usage(HOST).free
    if free < SPACE_NEEDED:
        raise HostError(
            f"{HOST} has {free / 1e9:.1f} GB of free disk space, expected {SPACE_NEEDED / 1e9:.0f} GB "
            "for the first set-up: make room and run this again."
        )


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def texts(folder: Path) -> str:
    """The names and texts of the files in a folder, as the inputs of a stage that uses them."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    return "\n".join(f"{path.relative_to(folder)}\n{path.read_text()}" for path in files)


@contextlib.contextmanager
def report(title: str) -> Iterator[None]:
    """One line per piece of work, with its seconds."""
    print(f"  {title} ...", end=" ", flush=True)
    start = time.monotonic()
    done = False
    try:
        yield
        done = True
    finally:
        print(f"{time.monotonic() - start:.1f} s" if done else "failed", flush=True)


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """Two runs at once must not write into one folder. The lock of a run that died goes with its last child."""
    import fcntl  # not on Windows, where only COMFYUI_PATH works

    HOST.mkdir(exist_ok=True)
    with (HOST / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"  waiting for another run that prepares {HOST} ...", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        os.set_inheritable(file.fileno(), True)
        yield


@contextlib.contextmanager
def scratch_folder(name: str) -> Iterator[Path]:
    folder = HOST / f"{name}.part"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def put(made: Path, target: Path) -> None:
    """Replace ``target`` by ``made`` so that it is never half there."""
    if target.exists():
        old = target.with_name(target.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        made.rename(target)
        shutil.rmtree(old)
    else:
        made.rename(target)


def write_whole(file: Path, text: str) -> None:
    part = file.with_name(file.name + ".part")
    part.write_text(text)
    part.replace(file)
