"""An attribution as one safetensors file: all maps, and a JSON header that says what they are.

With ``<place>`` for ``<reference>/<layer>``, its tensors are ``maps/<place>/<key>``, ``pairs/<place>/<key>``,
``seen/<place>`` and ``pair_rows/<place>`` (see ``LayerMaps``), ``pictures/<name>`` and ``denoise_mask``. The header is
the metadata entry ``i2am``. A file may come from anywhere, so that reading checks everything: one whose parts do not
fit each other is refused.

The package safetensors is imported when a file is read or written, so that the core can be used without it.
"""

import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from .attribution import HEAD_DETAILS, Attribution, HeadDetail, Layer, LayerMaps, Reference
from .errors import BadFile, MissingPackage
from .kinds import KINDS, PAIR_KEYS, UNSCOPED
from .tokens import TokenGrid

VERSION = 1
SUFFIX = ".i2am.safetensors"


def save(attribution: Attribution, path: Path) -> None:
    """Write a file, by custom with ``SUFFIX``. It appears whole or not at all, and replaces one of that name.

    Raises MissingPackage without safetensors, and OSError where the file cannot be written.
    """
    try:
        from safetensors.torch import save_file
    except ImportError:
        raise MissingPackage("safetensors", "files", "saving an attribution") from None
    tensors = dict(_tensors(attribution))
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        temporary = Path(file.name)
    try:
        save_file(tensors, temporary, metadata={"i2am": json.dumps(_header(attribution))})
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def load(path: Path) -> Attribution:
    """Read a file that any version up to this one wrote.

    Raises BadFile for what is no attribution that this version can read, and MissingPackage without safetensors.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise MissingPackage("safetensors", "files", "loading an attribution") from None
    if not path.is_file():
        raise BadFile(path.name, "missing")
    try:
        with safe_open(path, "pt") as file:
            header = _read_header(file.metadata(), path.name)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is not a dict)
    except (SafetensorError, OSError) as error:
        raise BadFile(path.name, "damaged", str(error)) from None
    try:
        return _attribution(header, tensors)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        reason = str(error).strip("'\"")
        raise BadFile(path.name, "invalid", reason) from None


def _header(a: Attribution) -> dict[str, Any]:
    return {
        "version": VERSION,
        "references": [
            {"name": r.name, "tokens": r.tokens, "grid": _sides(r.grid), "key": r.key, "approximate": r.approximate}
            for r in a.references
        ],
        "layers": [{"name": x.name, "grid": _sides(x.grid), "heads": x.heads} for x in a.layers],
        "entries": sorted(a.entries),
        "reference_grids": {f"{r}/{n}": _sides(entry.reference_grid) for (r, n), entry in a.entries.items()},
        "bins": [[b.start, b.stop] for b in a.bins],
        "sigmas": a.sigmas,
        "items": a.items,
        "heads": a.heads,
        "grid": _sides(a.grid),
        "mechanism": a.mechanism,
        "branch": a.branch,
        "captured_calls": a.captured_calls,
        "skipped": dict(a.skipped),
        "row_sums": dict(a.row_sums),
        "notes": a.notes,
    }


def _tensors(a: Attribution) -> Mapping[str, Tensor]:
    tensors = {f"pictures/{name}": picture.contiguous() for name, picture in a.pictures.items()}
    if a.denoise_mask is not None:
        tensors["denoise_mask"] = a.denoise_mask.contiguous()
    for (reference, layer), entry in a.entries.items():
        place = f"{reference}/{layer}"
        tensors[f"seen/{place}"] = entry.seen
        tensors |= {f"maps/{place}/{name}": x.contiguous() for name, x in entry.maps.items()}
        tensors |= {f"pairs/{place}/{name}": x.contiguous() for name, x in entry.pairs.items()}
        if entry.pair_rows is not None and entry.pairs:
            tensors[f"pair_rows/{place}"] = entry.pair_rows.clone()
    return tensors


def _read_header(metadata: Mapping[str, str] | None, name: str) -> dict[str, Any]:
    try:
        header = json.loads((metadata or {})["i2am"])
        version = header["version"]
    except (KeyError, TypeError, ValueError):
        raise BadFile(name, "foreign") from None
    if not isinstance(version, int) or version > VERSION:
        raise BadFile(name, "newer", f"format {version}, this one reads {VERSION}")
    return dict(header)


def _attribution(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Attribution:
    references = tuple(
        Reference(
            str(r["name"]), _count(r["tokens"]), _grid(r["grid"]), str(r["key"]), bool(r.get("approximate", False))
        )
        for r in header["references"]
    )
    layers = tuple(Layer(str(x["name"]), _required_grid(x["grid"]), _count(x["heads"])) for x in header["layers"])
    a = Attribution(
        references=references,
        layers=layers,
        entries={},
        bins=tuple(range(_count(low, 0), _count(high)) for low, high in header["bins"]),
        sigmas=tuple(float(s) for s in header["sigmas"]),
        items=_count(header["items"]),
        heads=_heads(header),
        grid=_required_grid(header["grid"]),
        denoise_mask=tensors.get("denoise_mask"),
        mechanism=str(header["mechanism"]),
        branch=str(header["branch"]),
        captured_calls=_count(header["captured_calls"], 0),
        skipped={str(reason): _count(n) for reason, n in header["skipped"].items()},
        row_sums={str(name): _count(n) for name, n in header.get("row_sums", {}).items()},
        notes=tuple(str(note) for note in header["notes"]),
        pictures={name.removeprefix("pictures/"): x for name, x in tensors.items() if name.startswith("pictures/")},
    )
    _check_run(a)
    grids = header.get("reference_grids", {})
    entries = {
        (int(r), int(n)): _entry(a, _in_layer(references[r], grids.get(f"{r}/{n}")), layers[n], f"{r}/{n}", tensors)
        for r, n in header["entries"]
    }
    return Attribution(**vars(a) | {"entries": entries})


def _heads(header: Mapping[str, Any]) -> HeadDetail:
    """In what detail heads are kept; older files say only whether they are kept in each step."""
    if "heads" not in header:
        return "in each step" if header["heads_kept"] else "merged"
    heads: HeadDetail = header["heads"]
    _check(heads in HEAD_DETAILS, f"{heads!r} is no detail of heads")
    return heads


def _check_run(a: Attribution) -> None:
    steps = [step for b in a.bins for step in b]
    _check(steps == list(range(a.steps)) and all(len(b) for b in a.bins), "its time bins do not hold its steps")
    for reference in a.references:
        _check(reference.grid is None or reference.grid.cells == reference.tokens, "a reference does not fill its grid")
    if a.denoise_mask is not None:
        _check_tensor("denoise_mask", a.denoise_mask, (a.items, a.grid.height, a.grid.width))
    for name, picture in a.pictures.items():
        _check(picture.ndim == 3 and picture.shape[-1] == 3, f"its picture '{name}' has shape {tuple(picture.shape)}")


def _entry(a: Attribution, reference: Reference, layer: Layer, place: str, tensors: Mapping[str, Tensor]) -> LayerMaps:
    heads = layer.heads if a.heads == "in each step" else 1
    maps, pairs = {}, {}
    for kind in KINDS:
        if (values := tensors.get(f"maps/{place}/{kind.key}")) is not None:
            cells = reference.tokens if kind.on_reference else layer.grid.cells
            _check_tensor(kind.key, values, (a.items, len(a.bins), heads, cells))
            maps[kind.key] = values
    _check({kind.key for kind in UNSCOPED} <= maps.keys(), f"maps of layer '{layer.name}' are missing")
    rows = tensors.get(f"pair_rows/{place}")
    if rows is not None:
        _check(rows.ndim == 1 and not rows.is_floating_point(), "pair_rows is not a list of positions")
        _check(
            len(rows) == 0 or 0 <= int(rows.min()) <= int(rows.max()) < layer.grid.cells, "pair_rows leaves the grid"
        )
        for name in PAIR_KEYS:
            pairs[name] = tensors[f"pairs/{place}/{name}"]
            _check_tensor(name, pairs[name], (a.items, len(rows), reference.tokens))
    seen = tensors[f"seen/{place}"]
    _check_tensor("seen", seen, (len(a.bins),))
    return LayerMaps(maps, seen, rows, pairs, reference.grid)


def _in_layer(reference: Reference, sides: Any) -> Reference:
    """The reference with the grid that it has in one layer; older files have one grid for all layers."""
    if sides is None:
        return reference
    grid = _required_grid(sides)
    return dataclasses.replace(reference, grid=grid, tokens=grid.cells)


def _check_tensor(name: str, values: Tensor, shape: tuple[int, ...]) -> None:
    _check(tuple(values.shape) == shape, f"{name} has shape {tuple(values.shape)} where {shape} is expected")
    _check(values.is_floating_point() and bool(values.isfinite().all()), f"{name} holds values that are not numbers")


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def _count(value: Any, least: int = 1) -> int:
    _check(isinstance(value, int) and value >= least, f"{value!r} is not a count")
    return int(value)


def _sides(grid: TokenGrid | None) -> list[int] | None:
    """Height and width, and of a video the number of frames."""
    if grid is None:
        return None
    return [grid.height, grid.width] if grid.frames == 1 else [grid.height, grid.width, grid.frames]


def _grid(sides: Any) -> TokenGrid | None:
    return None if sides is None else _required_grid(sides)


def _required_grid(sides: Any) -> TokenGrid:
    height, width, *frames = sides
    _check(len(frames) <= 1, f"{sides!r} is not a grid")
    return TokenGrid(_count(height), _count(width), *(_count(x) for x in frames))
