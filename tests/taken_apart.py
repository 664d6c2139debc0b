"""A saved attribution, taken apart and put together again with a change that nobody who saves one would make."""

import dataclasses
import json

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from i2am_core import Layer, Place, Positions, Recorder, Reference, TokenGrid, attribute, span
from i2am_core.files.checksum import KEY, checksum

GRID = TokenGrid(3, 4)


def small():
    """Two references, one without a grid, of which the first has pair maps; two pictures, four steps, a mask."""
    recorder = Recorder(torch.linspace(4, 0, 5), 2, 2**30)
    for name, tokens, grid in (("a", 6, TokenGrid(2, 3)), ("global", 4, None)):
        number = recorder.reference(Reference(name, tokens, grid))
        for step in range(4):
            q, k = torch.randn(2, 3, 12, 8), torch.randn(2, 3, 9, 8)
            rows = torch.tensor([1, 2]) if number == 0 else None
            scope = torch.ones(2, 12, dtype=torch.bool)
            (m,) = attribute(q, k, [span(name, 2, grid, tokens)], positions=Positions(scope=scope, pair_rows=rows))
            recorder.add(Place(Layer("output 1.0", GRID, 3), step, number), m, rows)
    recorder.skip("self-attention", calls=7)
    made = recorder.freeze(grid=GRID, denoise_mask=torch.rand(2, 3, 4), mechanism="cross-attention", branch="positive")
    picture = torch.randint(256, (8, 9, 3), dtype=torch.uint8)
    return dataclasses.replace(made, notes=("a note",), pictures={"generated 0": picture})


def rewrite(path, change, sealed=True):
    """Change the header and the tensors of a file. ``sealed``: with the checksum that the changed content has."""
    with safe_open(path, "pt") as file:
        tensors, header = {k: file.get_tensor(k) for k in file.keys()}, json.loads(file.metadata()["i2am"])  # noqa: SIM118
    change(header, tensors)
    write(path, json.dumps(header), tensors, sealed)


def write(path, header, tensors, sealed=True):
    metadata = {"i2am": header} | ({KEY: checksum(header, tensors)} if sealed else {})
    save_file(tensors, path, metadata=metadata)


def as_version_1(path):
    """Make of a file what version 1 wrote, in which heads were kept in each step."""

    def change(header, tensors):
        assert header.pop("heads") == "in each step"
        header.update(version=1, heads_kept=True)

    rewrite(path, change, sealed=False)


def raw(header, data=b"", length=None):
    """Bytes of a safetensors file with this header, said to be ``length`` bytes long."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data
