"""From a file to an attribution: everything that later code relies on is checked here, and nowhere else."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..attribution import SHARE_OWNERS, Attribution, LayerMaps, ShareOwner
from ..errors import BadFile, MissingPackage
from ..half import LARGEST as LARGEST_HALF
from ..half import Half, Precise
from ..kinds import KINDS, PAIR_KEYS, UNSCOPED, MapKind
from . import checksum, effects
from .checks import LARGEST, check, check_values, worded
from .container import Container, Expected, Parts, Shape, parse, read
from .header import KEY, VERSION, Described, Place, described

SCOPED = MapKind("g2r", scoped=True).key  # of the kinds with a scope, there are all or none


def load(path: Path) -> Attribution:
    """Read a file that any version up to this one wrote. What happens to the file afterwards changes nothing.

    Raises BadFile for what is no attribution that this version can read, and MissingPackage without safetensors.
    """
    try:
        import safetensors.torch  # noqa: F401  (so that a missing package is said before anything is read)
    except ImportError:
        raise MissingPackage("safetensors", "files", "loading an attribution") from None
    file = read(path, KEY)
    try:
        return _attribution(file)
    except BadFile:
        raise
    except ValueError as error:
        raise BadFile(path.name, "invalid", str(error)) from None
    except MemoryError:
        raise BadFile(path.name, "too large", "this machine has no memory for it") from None


def _attribution(file: Container) -> Attribution:
    header = parse(file.metadata[KEY], "its header")
    version = header.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise BadFile(file.name, "foreign")
    if version > VERSION:
        raise BadFile(file.name, "newer", f"format {version}, this one reads {VERSION}")
    entries = header.get("entries")  # their number comes first: each of them is looked at several times
    few = isinstance(entries, list) and 5 * len(entries) > len(file.parts)
    check(not few, f"it has {len(file.parts)} tensors, too few for its entries")
    about = described(header, version)
    check_parts(about, file.parts, version)
    tensors = file.tensors()
    _check_sum(file, tensors, version)
    return built(about, tensors)


def _check_sum(file: Container, tensors: Mapping[str, Tensor], version: int) -> None:
    """Version 1 has no checksum. A file that has one must be as it was written, whatever its version."""
    said = file.metadata.get(checksum.KEY)
    if said is None and version == 1:
        return
    if said != checksum.checksum(file.metadata[KEY], tensors):
        reason = "it has no checksum" if said is None else "its content is not what was written: the checksum differs"
        raise BadFile(file.name, "damaged", reason)


def check_parts(about: Described, parts: Parts, version: int) -> None:
    """Raises ValueError unless the tensors are those that the header implies, of its types and shapes."""
    expected = dict(_expected(about, parts, version))
    missing, others = expected.keys() - parts.keys(), parts.keys() - expected.keys()
    check(not missing, f"its tensor {worded(min(missing, default=''))} is missing")
    check(not others, f"it has a tensor {worded(min(others, default=''))}, of which its header says nothing")
    for name, (dtypes, shape) in expected.items():
        dtype, got = parts[name]
        check(dtype in dtypes, f"{worded(name)} has type {dtype} where {' or '.join(dtypes)} is expected")
        check(got == shape, f"{worded(name)} has shape {got} where {shape} is expected")


def _expected(about: Described, parts: Parts, version: int) -> Expected:
    """All tensors that there must be, given which optional ones there are."""
    a = about.attribution
    if "denoise_mask" in parts:
        yield "denoise_mask", (("F32",), (a.items, a.grid.height, a.grid.width))
    for subject, number in (("generated", a.items), ("reference", len(a.references))):
        for name in (f"pictures/{subject} {i}" for i in range(number)):
            if name in parts:
                _, shape = parts[name]
                fits = len(shape) == 3 and shape[2] == 3 and min(shape) > 0
                check(fits, f"{worded(name)} has shape {shape}, which no picture has")
                yield name, (("U8",), shape)
    for name in (f"shares/{owner}" for owner in SHARE_OWNERS):
        if name in parts:
            yield name, (("F32",), (a.items, a.steps, len(a.layers), 2))
    for name, place in about:
        yield f"seen/{name}", (("F32",), (len(a.bins),))
        yield from _maps(about, name, place, parts, version)
        yield from _pairs(about, name, place, parts)
    if a.effects is not None:
        yield from effects.expected(a, a.effects, parts)


def _maps(about: Described, name: str, place: Place, parts: Parts, version: int) -> Expected:
    a, layer = about.attribution, about.attribution.layers[place[1]]
    heads = layer.heads if a.heads == "in each step" else 1
    own = about.reference_grids[place]
    by_frame = a.heads != "over steps and frames"
    for kind in _kinds(name, parts):
        cells = about.tokens(place) if kind.on_reference else layer.grid.cells
        yield from _precise(f"maps/{name}/{kind.key}", (a.items, len(a.bins), heads, cells), parts, version)
        if a.heads.startswith("over steps"):
            grid = own if kind.on_reference else layer.grid
            cells = cells if by_frame or grid is None else grid.plane
            yield from _precise(f"head_maps/{name}/{kind.key}", (a.items, 1, layer.heads, cells), parts, version)


def _kinds(name: str, parts: Parts) -> tuple[MapKind, ...]:
    """The kinds of maps of one entry: with all that have a scope, if it has any of these."""
    scoped = any(kind.scoped and f"maps/{name}/{kind.key}" in parts for kind in KINDS)
    return KINDS if scoped else UNSCOPED


def _precise(name: str, shape: Shape, parts: Parts, version: int) -> Expected:
    """Maps in float32; since version 2 also in half precision with a scale."""
    yield name, (("F32",) if version == 1 else ("F32", "F16"), shape)
    if version > 1 and name in parts and parts[name][0] == "F16":
        yield f"scale/{name}", (("F32",), (*shape[:-1], 1))


def _pairs(about: Described, name: str, place: Place, parts: Parts) -> Expected:
    if f"pair_rows/{name}" not in parts:
        return
    _, shape = parts[f"pair_rows/{name}"]
    check(len(shape) == 1, f"pair_rows/{name} has shape {shape}, where a list of positions is expected")
    yield f"pair_rows/{name}", (("I64", "I32"), shape)
    for key in PAIR_KEYS:
        yield f"pairs/{name}/{key}", (("F32",), (about.attribution.items, *shape, about.tokens(place)))


def built(about: Described, tensors: Mapping[str, Tensor]) -> Attribution:
    """The attribution of tensors whose types and shapes fit. Raises ValueError for values that do not."""
    a = about.attribution
    mask = tensors.get("denoise_mask")
    if mask is not None:
        check_values("denoise_mask", mask, -LARGEST, LARGEST)  # of the first files, not all kept it within [0, 1]
        mask = mask.clamp(0, 1)
    pictures = {name.removeprefix("pictures/"): x for name, x in tensors.items() if name.startswith("pictures/")}
    entries = {place: _entry(about, name, place, tensors) for name, place in about}
    scoped = all(SCOPED in entry.maps for entry in entries.values())
    check(scoped or mask is None or not mask.any(), "it has a mask, but no maps of what is in the mask")
    caused = None if a.effects is None else effects.built(a.effects, tensors)
    return dataclasses.replace(
        a, denoise_mask=mask, pictures=pictures, entries=entries, effects=caused, shares=_shares(tensors)
    )


def _shares(tensors: Mapping[str, Tensor]) -> dict[ShareOwner, Tensor]:
    """Parts of the attention, or NaN where nothing was recorded."""
    shares: dict[ShareOwner, Tensor] = {
        owner: tensors[f"shares/{owner}"] for owner in SHARE_OWNERS if f"shares/{owner}" in tensors
    }
    for owner, values in shares.items():
        check_values(f"shares/{owner}", values.nan_to_num(0), 0, 1.001)  # rounding
    return shares


def _entry(about: Described, name: str, place: Place, tensors: Mapping[str, Tensor]) -> LayerMaps:
    a = about.attribution
    maps = {}
    head_maps = {}
    for kind in KINDS:
        if f"maps/{name}/{kind.key}" in tensors:
            maps[kind.key] = _read_maps(f"maps/{name}/{kind.key}", tensors)
        if f"head_maps/{name}/{kind.key}" in tensors:
            head_maps[kind.key] = _read_maps(f"head_maps/{name}/{kind.key}", tensors)
    seen = tensors[f"seen/{name}"]
    lengths = torch.tensor([float(len(steps)) for steps in a.bins])
    fits = (seen >= 0) & (seen <= lengths) & (seen == seen.round())
    check(bool(fits.all()), f"seen/{name} holds what is no number of steps of its time bins")
    check(bool(seen.any()), f"seen/{name} says that nothing was captured")
    off = about.off.get(name, ())
    counts = zip(a.bins, seen.tolist(), strict=True)
    check(all(sum(step in off for step in steps) <= count for steps, count in counts), f"{name} is off where not seen")
    rows = tensors.get(f"pair_rows/{name}")
    if rows is None or len(rows) == 0:
        return LayerMaps(maps, seen, reference_grid=about.reference_grids[place], head_maps=head_maps, off=off)
    cells = a.layers[place[1]].grid.cells
    check(0 <= int(rows.min()) <= int(rows.max()) < cells, f"pair_rows/{name} leaves the grid of {cells} cells")
    pairs = {key: tensors[f"pairs/{name}/{key}"] for key in PAIR_KEYS}
    for key, values in pairs.items():
        check_values(f"pairs/{name}/{key}", values, 0, LARGEST)
    return LayerMaps(maps, seen, rows, pairs, about.reference_grids[place], head_maps, off)


def _read_maps(name: str, tensors: Mapping[str, Tensor]) -> Precise:
    values, scale = tensors[name], tensors.get(f"scale/{name}")
    if scale is None:
        return check_values(name, values, 0, LARGEST)
    return Half(check_values(name, values, 0, LARGEST_HALF), check_values(f"scale/{name}", scale, 0, LARGEST))
