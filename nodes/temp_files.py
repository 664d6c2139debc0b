"""Files for the page in ComfyUI's temp folder, bounded: ComfyUI itself empties it only when it starts."""

import contextlib
import hashlib
import secrets
from pathlib import Path

import folder_paths

KEPT_FILES = 16  # the last ones, however large: as many viewers may be in one workflow
KEPT_BYTES = 512 * 2**20  # of all, where there are more


class TempFiles:
    """Files that are written in one session, named by their content: what is written again is no second file.

    ComfyUI's cache, its history and open pages may name a file long after. Those written or written again last are
    kept; a node whose cached answer may name one that is gone is to run again, which ``count_gone`` is for.
    """

    def __init__(self, prefix: str, suffix: str) -> None:
        self.prefix, self.suffix = prefix, suffix
        self._key = secrets.token_bytes(32)  # without it a name cannot be guessed: ComfyUI serves the file to anyone
        self._names: dict[str, int] = {}  # the files that should be there and their bytes, last written last
        self._gone = 0

    def write(self, data: bytes) -> str:
        """The name of the file that holds ``data``. Raises ValueError where it cannot be written."""
        digest = hashlib.blake2b(data, key=self._key, digest_size=16).hexdigest()
        name = f"{self.prefix}{digest}{self.suffix}"
        path = _folder() / name
        try:
            if not _holds(path, len(data)):
                _write_whole(path, data)
        except OSError as error:
            raise ValueError(
                f"the file for the page could not be written to ComfyUI's temp folder ({error.strerror or error}): "
                "free space there, or start ComfyUI with another --temp-directory."
            ) from error
        self._names.pop(name, None)
        self._names[name] = len(data)
        for old in self._surplus():
            with contextlib.suppress(OSError):  # Windows deletes no file that a page is just loading: the next time
                (_folder() / old).unlink(missing_ok=True)
                self._forget(old)
        return name

    def count_gone(self) -> int:
        """How many files of this session are not there any more: deleted here, or by someone else."""
        folder = _folder()
        for name in [name for name in self._names if not (folder / name).is_file()]:
            self._forget(name)
        return self._gone

    def _surplus(self) -> list[str]:
        """The oldest files, without which the others are within bounds."""
        total, surplus = sum(self._names.values()), []
        for name in list(self._names)[:-KEPT_FILES]:
            if total <= KEPT_BYTES:
                break
            total -= self._names[name]
            surplus.append(name)
        return surplus

    def _forget(self, name: str) -> None:
        del self._names[name]
        self._gone += 1


def _folder() -> Path:
    return Path(folder_paths.get_temp_directory())


def _holds(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _write_whole(path: Path, data: bytes) -> None:
    """Write under another name first: under its own, ComfyUI would serve what there is of it."""
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
