"""Results that are computed once: files of tensors, each whole or not there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor


def stored(folder: Path, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What ``make`` gives, from the second time on from a file, whose name says what it depends on."""
    path = folder / (re.sub(r"[^\w.,=-]+", "_", name) + ".safetensors")
    if not path.exists():
        result = {key: value.contiguous() for key, value in make().items()}
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = unfinished_of(path)
        save_file(result, unfinished)
        unfinished.replace(path)
    return load_file(path)


def unfinished_of(path: Path) -> Path:
    """The name of a file or folder until it is whole; that of another process is another one."""
    return path.with_name(f"{path.name}.{os.getpid()}.part")
