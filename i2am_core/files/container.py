"""A safetensors file in memory: read once and whole, its parts known before any of them is taken.

safetensors takes the bytes apart. What it does not look at is read here: the header, in which nobody else limits how
much it holds, and of which it gives no metadata where a file is read from memory.
"""

import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..errors import BadFile
from .checks import check, count, mapping, member, sequence, text, worded

HEADER_BYTES = 16 * 2**20  # of a file's header: some five thousand layers and references
DIGITS = 19  # of a whole number, so that reading one costs nothing
TYPES = {torch.uint8: "U8", torch.int32: "I32", torch.int64: "I64", torch.float16: "F16", torch.float32: "F32"}
BYTES = {"U8": 1, "I32": 4, "I64": 8, "F16": 2, "F32": 4}  # of one value of the types that an attribution has

METADATA = "__metadata__"  # in safetensors' header

Shape = tuple[int, ...]
Parts = Mapping[str, tuple[str, Shape]]  # of each tensor type and shape
Expected = Iterator[tuple[str, tuple[tuple[str, ...], Shape]]]
"""Names of tensors, each with the types that it may have, and its shape."""


@dataclass(frozen=True)
class Container:
    """What a file holds: ``metadata``, of each tensor type and shape in ``parts``, and the bytes of all of it."""

    name: str
    metadata: Mapping[str, str]
    parts: Parts
    data: bytes

    def tensors(self) -> dict[str, Tensor]:
        """All tensors, which do not share memory with the file. Raises BadFile where its parts do not fill it."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            return load(self.data)
        except SafetensorError as error:
            raise BadFile(self.name, "damaged", str(error)) from None


def type_of(tensor: Tensor) -> str:
    """The name of a tensor's type in a file; PyTorch's, of one that no attribution has."""
    return TYPES.get(tensor.dtype, str(tensor.dtype))


def read(path: Path, key: str) -> Container:
    """Read a file, in whose metadata there is this key.

    Raises BadFile where there is none, or what it says of itself does not fit what it has.
    """
    try:
        with _opened(path) as file:
            return _read(file, path.name, key)
    except FileNotFoundError:
        raise BadFile(path.name, "missing") from None
    except MemoryError:
        raise BadFile(path.name, "too large", "this machine has no memory for it") from None
    except OSError as error:
        raise BadFile(path.name, "unreadable", error.strerror or str(error)) from None
    except ValueError as error:
        if isinstance(error, BadFile):
            raise
        raise BadFile(path.name, "unreadable", str(error)) from None  # no file can have this name


def _opened(path: Path) -> BinaryIO:
    """The file, if it is one: to open a pipe would be to wait for somebody who writes to it."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadFile(path.name, "no file")
    return os.fdopen(descriptor, "rb")


def _read(file: BinaryIO, name: str, key: str) -> Container:
    size = os.fstat(file.fileno()).st_size
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or 8 + length > size:
        raise BadFile(name, "damaged", f"it ends after {size} bytes, within its header")
    if length > HEADER_BYTES:
        raise BadFile(name, "damaged", f"its header has {length} bytes, where {HEADER_BYTES} are the most")
    start += file.read(length)
    try:
        entries = parse(start[8:].decode(), "its header")
        metadata = mapping(entries.pop(METADATA, {}), "its metadata")
        metadata = {entry: text(value, "its metadata", HEADER_BYTES) for entry, value in metadata.items()}
        if key not in metadata:
            raise BadFile(name, "foreign")
        if size > (most := largest()):
            raise BadFile(name, "too large", f"{size / 2**30:.1f} GB, where {most / 2**30:.1f} GB are the most")
        parts = _parts(entries, size - 8 - length)
    except BadFile:
        raise
    except ValueError as error:
        raise BadFile(name, "damaged", str(error)) from None
    file.seek(0)
    data = file.read(size + 1)
    if len(data) != size or not data.startswith(start):
        raise BadFile(name, "damaged", "it changed while it was read")
    return Container(name, metadata, parts, data)


def largest() -> int:
    """How many bytes a file may have: half of the memory of this machine, since reading takes twice as much."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):  # Windows does not say
        return 16 * 2**30


def _parts(entries: Mapping[str, Any], size: int) -> dict[str, tuple[str, Shape]]:
    """Of each tensor type and shape, which together must take ``size`` bytes."""
    parts, total = {}, 0
    for name, entry in entries.items():
        it = mapping(entry, f"tensor {worded(name)}")
        dtype, shape = member(it, "dtype", "a tensor"), sequence(member(it, "shape", "a tensor"), "a shape")
        known = isinstance(dtype, str) and dtype in BYTES
        check(known, f"tensor {worded(name)} has type {worded(dtype)}, where one of {', '.join(BYTES)} is expected")
        product = BYTES[dtype]
        for side in shape:
            product *= count(side, f"a side of tensor {worded(name)}", 0)
            check(product <= size, f"tensor {worded(name)} is larger than the file")
        total += product
        parts[name] = (dtype, tuple(shape))
    check(total == size, f"its tensors take {total} bytes, where it has {size}")
    return parts


def parse(header: str | bytes, what: str) -> dict[str, Any]:
    """An object in JSON, without duplicate keys and without numbers that are none. Raises ValueError."""
    try:
        value = json.loads(
            header, object_pairs_hook=_unique, parse_constant=_no_number, parse_int=_whole, parse_float=_finite
        )
    except RecursionError:
        value = None
    check(value is not None, f"{what} is nested too deeply, or nothing")
    return mapping(value, what)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    check(len(result) == len(pairs), "one key is there twice")
    return result


def _no_number(constant: str) -> None:
    check(False, f"{constant} is no number")


def _whole(digits: str) -> int:
    check(len(digits) <= DIGITS, f"a number has {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    check(abs(value) < float("inf"), f"{worded(digits)} is no number")
    return value
