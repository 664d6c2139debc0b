"""Nothing as large as queries x keys ever exists: every tensor that an attribution makes is looked at."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from i2am_core import Logits, Positions, attribute, span

MB = 2**20
ROOT = Path(__file__).resolve().parents[2]


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that any operation gave out of new memory."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("text", "reference"), [(77, 3000), (0, 3000), (3000, 64)])
def test_no_matrix_of_queries_and_keys(text, reference, masked):
    queries, heads = 2000, 4
    q, k = torch.randn(1, heads, queries, 16), torch.randn(1, heads, text + reference, 16)
    bias = torch.zeros(1, 1, 1, text + reference) if masked else None
    with Largest() as largest:
        attribute(q, k, [span("reference", text, count=reference)], logits=Logits(bias=bias), chunk_bytes=8 * MB)
    matrix = 4 * heads * queries * (text + reference)
    assert matrix > 90 * MB or reference == 64
    assert largest.bytes <= 34 * MB < matrix  # the plain log-sum-exp reads up to 32 MB at a time


def test_pair_maps_are_the_only_thing_that_grows_with_both():
    q, k = torch.randn(1, 4, 2000, 16), torch.randn(1, 4, 1000, 16)
    with Largest() as largest:
        attribute(
            q,
            k,
            [span("reference", 0, count=1000)],
            positions=Positions(pair_rows=torch.arange(500)),
            chunk_bytes=8 * MB,
        )
    assert largest.bytes <= 16 * MB


def test_the_hook_sees_what_it_should():
    with Largest() as largest:
        torch.randn(4, 2000, 16) @ torch.randn(4, 16, 3000)
    assert largest.bytes == 4 * 4 * 2000 * 3000


SAMPLING = """
import sys, torch
from pathlib import Path
from i2am_core import Positions, TokenGrid, attribute, span
from i2am_core.attribution import Layer, Reference
from i2am_core.recording.recorder import Place, Recorder

budget, side, text = map(int, sys.argv[1:4])
pairs, dtype = sys.argv[4] == "pairs", getattr(torch, sys.argv[5])

def peak():
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

def sample(recorder, layers, grid, q, k):
    rows = torch.arange(grid.cells) if pairs else None
    number = recorder.reference(Reference("it", grid.cells, grid))
    for step in range(recorder.steps):
        for layer in layers:
            fits = pairs and recorder.pairs_fit(number, layer, grid.cells, grid.cells)
            some = rows if fits else None
            positions = Positions(pair_rows=some)
            group = span("it", text, grid)
            (maps,) = attribute(q, k, [group], positions=positions, chunk_bytes=recorder.chunk_bytes)
            recorder.add(Place(layer, step, number), maps, some)
    return recorder.freeze(grid=grid)

def inputs(side):
    grid, heads = TokenGrid(side, side), 2
    q, k = (torch.randn(1, heads, n, 16).to(dtype) for n in (grid.cells, text + grid.cells))
    return [Layer(f"layer {i}", grid, heads) for i in range(2)], grid, q, k

with torch.inference_mode():
    sample(Recorder(torch.linspace(1, 0, 3), 1, 2**30), *inputs(8))  # kernels and threads of first use
    real = inputs(side)
    recorder = Recorder(torch.linspace(1, 0, 5), 1, budget)
    Path("/proc/self/clear_refs").write_text("5")  # Linux forgets the peak so far
    before = peak()
    attribution = sample(recorder, *real)
    print(peak() - before, attribution.nbytes, sum(bool(e.pairs) for e in attribution.entries.values()))
"""


@pytest.mark.parametrize(
    ("budget", "side", "pairs", "dtype", "text"),
    [
        (300 * MB, 64, "off", "float32", 77),
        (300 * MB, 64, "off", "bfloat16", 0),
        (300 * MB, 40, "pairs", "float32", 77),
        (100 * MB, 64, "pairs", "bfloat16", 77),
        (2 * MB, 64, "off", "float32", 77),
    ],
)
def test_a_process_grows_by_the_budget_and_64_mb_at_most(budget, side, pairs, dtype, text):
    command = [sys.executable, "-c", SAMPLING, *map(str, (budget, side, text, pairs, dtype))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=100)
    grown, frozen, paired = map(int, done.stdout.split())
    assert 0 < frozen <= budget
    assert grown <= budget + 64 * MB, f"grown {grown / MB:.0f} MB, frozen {frozen / MB:.0f} MB"
    assert (paired > 0) == (pairs == "pairs" and side == 40)
