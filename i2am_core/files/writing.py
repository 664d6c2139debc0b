"""From an attribution to a file, which appears whole or not at all."""

import contextlib
import itertools
import json
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from torch import Tensor

from ..attribution import Attribution
from ..errors import BadFile, MissingPackage
from ..half import Half, Precise
from . import checksum, effects
from .checks import check
from .container import HEADER_BYTES, parse, type_of
from .header import KEY, described, header_text, version_of
from .reading import built, check_parts


def save(attribution: Attribution, path: Path) -> None:
    """Write a file, by custom with ``SUFFIX``. It appears whole or not at all, and replaces one of that name.

    Raises BadFile for what ``load`` would refuse, OSError where the file cannot be written, and MissingPackage without
    safetensors.
    """
    with _written(attribution, path) as temporary:
        temporary.replace(path)


def save_new(attribution: Attribution, paths: Iterable[Path]) -> Path:
    """Write a file under the first of the names, all in one folder, that nothing has; which of them.

    Two that save at once never get the same name. Raises what ``save`` does, and FileExistsError where all are taken.
    """
    names = iter(paths)
    first = next(names)
    with _written(attribution, first) as temporary:
        for path in itertools.chain([first], names):
            with contextlib.suppress(FileExistsError):
                _claim(path, temporary)
                return path
    raise FileExistsError(f"every name after {first.name} is taken")


@contextlib.contextmanager
def _written(attribution: Attribution, path: Path) -> Iterator[Path]:
    """The file under a name that nobody else has, for as long as it has no other.

    What is written is not forced to the disk: that can take seconds, and a file that a loss of power cut short is
    refused for its checksum, so that none is read as something else.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.torch import save_file
    except ImportError:
        raise MissingPackage("safetensors", "files", "saving an attribution") from None
    header, tensors = header_text(attribution), _tensors(attribution)
    _check(path.name, version_of(attribution), header, tensors)
    metadata = {KEY: header, checksum.KEY: checksum.checksum(header, tensors)}
    temporary = path.with_name(f".i2am-{secrets.token_hex(8)}.tmp")
    mode = _created(temporary)
    try:
        save_file(tensors, temporary, metadata=metadata)  # which, in newer versions, only its owner may read
        temporary.chmod(mode)
        yield temporary
    except SafetensorError as error:
        raise OSError(str(error)) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _created(path: Path) -> int:
    """Make an empty file, and say who may read it: umask does, which cannot be read without changing it for a moment.

    Raises FileExistsError where there is one.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def _claim(path: Path, temporary: Path) -> None:
    """Give the file a name. Raises FileExistsError where it is taken."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file has one name here: an empty one keeps it, for a moment
        _created(path)
        temporary.replace(path)


def _check(name: str, version: int, header: str, tensors: Mapping[str, Tensor]) -> None:
    """Raises BadFile for what ``load`` would refuse, by what it refuses it for: a file that nobody can read is none."""
    parts = {key: (type_of(x), tuple(x.shape)) for key, x in tensors.items()}
    try:
        size = len(json.dumps([header, parts]))  # more than it takes in the file
        check(size <= HEADER_BYTES, f"names and notes take {size} bytes, where {HEADER_BYTES} are the most")
        about = described(parse(header, "its header"), version)
        check_parts(about, parts, version)
        built(about, tensors)
    except ValueError as error:
        raise BadFile(name, "not saved", str(error)) from None


def _tensors(a: Attribution) -> dict[str, Tensor]:
    tensors = {f"pictures/{name}": picture for name, picture in a.pictures.items()}
    if a.denoise_mask is not None:
        tensors["denoise_mask"] = a.denoise_mask.clamp(0, 1)  # a mask that counts more than wholly counts wholly
    tensors |= {f"shares/{owner}": values for owner, values in a.shares.items()}
    for (reference, layer), entry in a.entries.items():
        place = f"{reference}/{layer}"
        tensors[f"seen/{place}"] = entry.seen
        for group, maps in (("maps", entry.maps), ("head_maps", entry.head_maps)):
            for key, values in maps.items():
                tensors |= _precise(f"{group}/{place}/{key}", values)
        tensors |= {f"pairs/{place}/{key}": x for key, x in entry.pairs.items()}
        if entry.pair_rows is not None and entry.pairs:
            tensors[f"pair_rows/{place}"] = entry.pair_rows.clone()  # several layers may share theirs
    if a.effects is not None:
        tensors |= effects.tensors_of(a.effects)
    return {name: x.contiguous() for name, x in tensors.items()}


def _precise(name: str, maps: Precise) -> dict[str, Tensor]:
    return {name: maps.values, f"scale/{name}": maps.scale} if isinstance(maps, Half) else {name: maps}
