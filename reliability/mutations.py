"""Small saved attributions, and what can happen to the bytes of one: by accident, or on purpose.

Case n of a seed is the same on every machine. ``mutated`` gives its name, its bytes, and whether it was sealed: given
the checksum that its changed content has, as another program would that writes such files.
"""

import dataclasses
import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from i2am_core import (
    Attribution,
    Effects,
    Layer,
    LayerMaps,
    Owner,
    Reference,
    RegionEffects,
    Removal,
    TokenGrid,
    save,
)
from i2am_core.attribution import HeadDetail
from i2am_core.files import checksum
from i2am_core.half import Half

Draw = random.Random
EFFECTS, EFFECTS_ALONE = "effects", "effects alone"  # the files of version 3
KEYS = ("r2g_paper", "r2g_share", "g2r_paper", "g2r_share")
HOSTILE: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3, 7, 255, 4097, 10**6, 2**31, 2**53, 10**9, 10**18, 10**30, -(10**9)),
    *(0.5, -0.0, 1e308, float("nan"), float("inf"), -float("inf")),
    *(
        "",
        "0",
        "a" * 300,
        "\x1b[2J",
        "\ud800",
        "$\\frac{$",
        "merged",
        "over steps",
        "in each step",
        "text",
        "directly",
        "../..",
        "\0",
        "%s",
    ),
    *(
        [],
        [0],
        [0, 0],
        [0, 10**9],
        [[0, 1]],
        [[]],
        [1, 1],
        [2, 3],
        [3, 2],
        [1, 6, 1],
        [10**6, 1],
        [-1, -1],
        {},
        {"a": 1},
    ),
    *({"name": "x", "tokens": 6, "grid": None, "key": ""}, {"name": "x", "grid": [1, 1], "heads": 1}),
]
VALUES = [float("nan"), float("inf"), -float("inf"), -1.0, -1e-6, 2.0, 0.5, 1e30, 3.4e38, 1e-40, 0.0]
TYPES = ["F32", "F16", "BF16", "F64", "F8_E4M3", "U8", "I8", "I16", "I32", "I64", "BOOL", "f32", "", None, 4]


def seeds() -> dict[str, bytes]:
    """Files of all versions, in every detail, each of a few kilobytes; the last ones have effects."""
    torch.manual_seed(0)
    files = {
        "each step": _saved(_attribution("in each step")),
        "each step, half": _saved(_attribution("in each step", half=True)),
        "over steps": _saved(_attribution("over steps")),
        "over steps and frames, half": _saved(_attribution("over steps and frames", frames=3, half=True)),
        "merged, half": _saved(_attribution("merged", half=True)),
    }
    caused = dataclasses.replace(_attribution("merged", frames=3), effects=_effects(18))
    alone = dataclasses.replace(
        _attribution("merged"), references=(), layers=(), entries={}, pictures={}, effects=_effects(6, references=False)
    )
    return files | {
        "version 1": _as_version_1(files["each step"]),
        EFFECTS: _saved(caused),
        EFFECTS_ALONE: _saved(alone),
    }


def _effects(cells: int, references: bool = True) -> Effects:
    """Of two pictures on a grid of 2 x 3 cells, or of three frames of it."""
    owners: list[Owner] = [0, "text"] if references else ["conditioning"]
    frames = () if cells == 6 else (cells // 6,)
    regions = RegionEffects(1, "everything", TokenGrid(2, 1), torch.rand(2, 2, cells))
    return Effects(
        maps={Removal(step, owner): torch.rand(2, cells) for step in (0, 1) for owner in owners},
        floor=torch.rand(2, cells) * 1e-3,
        regions={(0, "only this left"): regions} if references else {},
        predictions={(1, owner): torch.randn(2, 3, *frames, 2, 3).half() for owner in (None, *owners)},
        unmeasured={"all references together": "out of memory"},
        evaluations=5,
        seconds=0.5,
    )


def _attribution(heads: HeadDetail, frames: int = 1, half: bool = False) -> Attribution:
    layers = tuple(Layer(f"output {n}.0", grid, 2) for n, grid in enumerate((TokenGrid(2, 3, frames), TokenGrid(1, 2))))
    references = (Reference("a", 4, TokenGrid(2, 2)), Reference("global", 3, None))
    entries = {(r, n): _entry(references[r], layers[n], heads, half, r == 0) for r, n in ((0, 0), (0, 1), (1, 0))}
    return Attribution(
        references=references,
        layers=layers,
        entries=entries,
        bins=(range(1), range(1, 3)),
        sigmas=(4.0, 2.0, 1.0, 0.0),
        items=2,
        heads=heads,
        grid=TokenGrid(2, 3, frames),
        denoise_mask=torch.tensor([[[0, 1, 1], [0, 0, 1]], [[0, 0, 0], [0, 0, 1]]]).float() if frames == 1 else None,
        mechanism="a mechanism",
        branch="positive",
        captured_calls=9,
        skipped={"text": 3},
        row_sums={"a kernel": 9},
        notes=("a note",),
        pictures={name: torch.randint(256, (4, 5, 3)).byte() for name in ("generated 0", "reference 0")},
    )


def _entry(reference: Reference, layer: Layer, heads: HeadDetail, half: bool, paired: bool) -> LayerMaps:
    each = layer.heads if heads == "in each step" else 1
    planes = (layer.grid.plane, reference.grid.plane if reference.grid else reference.tokens)
    cells = planes if heads == "over steps and frames" else (layer.grid.cells, reference.tokens)
    keys = (*KEYS, "g2r_paper_scope", "g2r_share_scope")

    def maps(bins: int, number: int, sizes: tuple[int, int]) -> dict[str, Any]:
        values = {key: torch.rand(2, bins, number, sizes[key.startswith("g2r")]) for key in keys}
        return {key: Half.of(x) if half else x for key, x in values.items()}

    rows = torch.arange(2)
    return LayerMaps(
        maps=maps(2, each, (layer.grid.cells, reference.tokens)),
        seen=torch.tensor([1.0, 2.0]),
        pair_rows=rows if paired else None,
        pairs={key: torch.rand(2, 2, reference.tokens) for key in ("g2r_pairs", "r2g_pairs")} if paired else {},
        reference_grid=reference.grid,
        head_maps=maps(1, layer.heads, cells) if heads.startswith("over") else {},
    )


def _saved(attribution: Attribution) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seed.i2am.safetensors"
        save(attribution, path)
        entries, tensors = taken_apart(path.read_bytes())
    entries["__metadata__"] = dict(sorted(entries["__metadata__"].items()))  # safetensors writes it in any order
    return put_together(entries, tensors)


def _as_version_1(data: bytes) -> bytes:
    entries, tensors = taken_apart(data)
    header = json.loads(entries["__metadata__"]["i2am"])
    header |= {"version": 1, "heads_kept": header.pop("heads") == "in each step"}
    entries["__metadata__"] = {"i2am": json.dumps(header)}
    return put_together(entries, tensors)


def taken_apart(data: bytes) -> tuple[dict[str, Any], bytearray]:
    """The header of a file, and what comes after it."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])


def put_together(entries: dict[str, Any] | str, tensors: bytes | bytearray) -> bytes:
    """A file of a header and of what comes after it."""
    text = (entries if isinstance(entries, str) else json.dumps(entries)).encode("utf-8", "surrogatepass")
    return len(text).to_bytes(8, "little") + text + bytes(tensors)


def sealed(data: bytes) -> bytes:
    """The file with the checksum of its content; as it is where nobody can tell its content."""
    try:
        entries, tensors = taken_apart(data)
        header = entries["__metadata__"]["i2am"]
        entries["__metadata__"][checksum.KEY] = checksum.checksum(header, safetensors.torch.load(data))
        return put_together(entries, tensors)
    except Exception:  # any: it is no file then, and its checksum is of no interest
        return data


# By accident


def _flip_bits(draw: Draw, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 8))):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _flip_in_header(draw: Draw, data: bytes) -> bytes:
    changed = bytearray(data)
    length = int.from_bytes(data[:8], "little")
    for _ in range(draw.choice((1, 1, 2, 4))):
        changed[draw.randrange(8 + length)] = draw.randrange(256)
    return bytes(changed)


def _overwrite(draw: Draw, data: bytes) -> bytes:
    start, length = draw.randrange(len(data)), draw.choice((1, 4, 16, 64, 512))
    run = draw.choice((bytes(length), b"\xff" * length, draw.randbytes(length)))
    return data[:start] + run[: len(data) - start] + data[start + length :]


def _truncate(draw: Draw, data: bytes) -> bytes:
    return data[: draw.randrange(len(data))]


def _extend(draw: Draw, data: bytes) -> bytes:
    return data + draw.choice((b"\0", bytes(8), draw.randbytes(draw.randrange(1, 100)), data))


def _move(draw: Draw, data: bytes) -> bytes:
    a, b, c = sorted(draw.randrange(len(data)) for _ in range(3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


# On purpose


def _edit_tensor(draw: Draw, data: bytes) -> bytes:
    """The type, shape, place or name of a tensor."""
    entries, tensors = taken_apart(data)
    name, other = draw.sample([x for x in entries if x != "__metadata__"], 2)
    entry = entries[name]
    what = draw.randrange(7)
    if what == 0:
        entry["dtype"] = draw.choice(TYPES)
    elif what == 1:
        entry["shape"] = draw.choice([_hostile(draw), entry["shape"][::-1], [*entry["shape"], 1], entry["shape"][1:]])
    elif what == 2:
        entry["data_offsets"] = draw.choice(
            [_hostile(draw), entry["data_offsets"][::-1], entries[other]["data_offsets"]]
        )
    elif what == 3:
        entries[name], entries[other] = entries[other], entries[name]
    elif what == 4:
        entries[draw.choice([name + "x", name.replace("0", "1"), "../" + name, "", other])] = entries.pop(name)
    elif what == 5:
        entries["extra"] = draw.choice(
            [dict(entry), {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}, _hostile(draw)]
        )
    else:
        entries["__metadata__"] = draw.choice([_hostile(draw), {"i2am": _hostile(draw)}, {"i2am": "{}"}, {}])
    return put_together(entries, tensors)


def _remove_tensor(draw: Draw, data: bytes) -> bytes:
    """A tensor with its bytes, so that the file is whole without it."""
    entries, tensors = taken_apart(data)
    name = draw.choice([x for x in entries if x != "__metadata__"])
    low, high = entries.pop(name)["data_offsets"]
    for entry in entries.values():
        if "data_offsets" in entry and entry["data_offsets"][0] >= high:
            entry["data_offsets"] = [end - (high - low) for end in entry["data_offsets"]]
    return put_together(entries, tensors[:low] + tensors[high:])


def _edit_values(draw: Draw, data: bytes) -> bytes:
    """Values of a tensor, of its own type."""
    entries, tensors = taken_apart(data)
    entry = entries[draw.choice([x for x in entries if x != "__metadata__"])]
    dtype = {"F32": torch.float32, "F16": torch.float16, "U8": torch.uint8, "I64": torch.int64}[entry["dtype"]]
    low, high = entry["data_offsets"]
    values = torch.frombuffer(tensors[low:high], dtype=dtype).clone()
    chosen = slice(None) if draw.random() < 0.3 else draw.randrange(len(values))
    values[chosen] = draw.choice(VALUES) if dtype.is_floating_point else draw.choice((0, 1, 2, 255))
    if dtype == torch.int64:
        values[chosen] = draw.choice((-1, 0, 6, 10**6, -(2**63), 2**63 - 1))
    tensors[low:high] = values.view(torch.uint8).numpy().tobytes()
    return put_together(entries, tensors)


def _edit_header(draw: Draw, data: bytes) -> bytes:
    """A few fields, items of lists, or keys of our header."""
    entries, tensors = taken_apart(data)
    header = json.loads(entries["__metadata__"]["i2am"])
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        _edit(draw, header)
    entries["__metadata__"]["i2am"] = json.dumps(header)
    return put_together(entries, tensors)


def _edit(draw: Draw, tree: Any) -> None:
    """Change something somewhere in a tree: each level down is as likely as to stop."""
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    if not keys:
        return None
    key = draw.choice(keys)
    if isinstance(tree[key], dict | list) and tree[key] and draw.random() < 0.6:
        return _edit(draw, tree[key])
    what = draw.randrange(8)
    if what == 0:
        del tree[key]
    elif what == 1 and isinstance(tree, list):
        tree.append(tree[key])
    elif what == 1 and isinstance(tree, dict):
        tree[draw.choice(("0/5", "x", "", "9/9", "heads_kept"))] = tree[key]
    elif what == 2 and isinstance(tree[key], int) and not isinstance(tree[key], bool):
        tree[key] += draw.choice((-1, 1, 2, 100))
    elif what == 3 and isinstance(tree[key], list):
        tree[key] = tree[key] * draw.choice((2, 3, 1000))
    else:
        tree[key] = _hostile(draw)
    return None


def _edit_text(draw: Draw, data: bytes) -> bytes:
    """What JSON allows, or nearly, and no program would write."""
    entries, tensors = taken_apart(data)
    text = entries["__metadata__"]["i2am"]
    place = draw.choice([i for i, letter in enumerate(text) if letter in "[{,:}]"])
    what = draw.choice(
        [
            "NaN,",
            "1e999,",
            "-Infinity,",
            "9" * 5000 + ",",
            "[" * 2000,
            '{"a":' * 2000,
            '"version": 1,',
            '"items": 1,',
            "\0",
            " ",
        ]
    )
    text = text[: place + 1] + what + text[place + 1 :]
    if draw.random() < 0.3:  # into safetensors' own header
        outer = json.dumps(entries)
        place = draw.choice([i for i, letter in enumerate(outer) if letter in "[{,:}]"])
        return put_together(outer[: place + 1] + what + outer[place + 1 :], tensors)
    entries["__metadata__"]["i2am"] = text
    return put_together(entries, tensors)


def _hostile(draw: Draw) -> Any:
    return json.loads(json.dumps(draw.choice(HOSTILE)))


ACCIDENTS: dict[str, Callable[[Draw, bytes], bytes]] = {
    "bits flipped": _flip_bits,
    "bytes of the header": _flip_in_header,
    "bytes overwritten": _overwrite,
    "truncated": _truncate,
    "extended": _extend,
    "parts moved": _move,
}
PURPOSES: dict[str, Callable[[Draw, bytes], bytes]] = {
    "tensor's entry": _edit_tensor,
    "tensor removed": _remove_tensor,
    "values": _edit_values,
    "header's fields": _edit_header,
    "header's text": _edit_text,
}


def mutated(number: int, seed: int, files: dict[str, bytes]) -> tuple[str, str, bytes, bool]:
    """Case ``number``: the seed's file, the mutation, the bytes, and whether they were sealed."""
    draw = random.Random(f"{seed}:{number}")
    file = draw.choice(list(files))
    mutation = draw.choice([*ACCIDENTS, *PURPOSES, *PURPOSES])
    change = (ACCIDENTS | PURPOSES)[mutation]
    data = change(draw, files[file])
    seal = file != "version 1" and draw.random() < 0.5
    return file, mutation, sealed(data) if seal else data, seal
