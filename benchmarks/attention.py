"""What attribution costs beside the attention that it watches, and beside a build that keeps the matrix.

    .host/venv/bin/python benchmarks/attention.py            the table
    .host/venv/bin/python benchmarks/attention.py --growth   cost against reference tokens

Each row is one attention call of one batch item, float32, with random queries and keys. Everything of a row
is timed in turn, in one process, and the least of several rounds counts. "block" adds the linear layers that
surround the attention in the model. Extra memory is the growth of the process's peak, in a process of its own.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.append(str(Path(__file__).resolve().parent.parent))

from i2am_core import attribute, span

ROUNDS = 2
# name: heads, head size, picture tokens, competitors, reference tokens, linear weights of the block / width^2
CASES = {
    "SD1.5, 64x64, 16 tokens, decoupled": (8, 40, 4096, 0, 16, 0),
    "SD1.5, 64x64, 257 tokens, decoupled": (8, 40, 4096, 0, 257, 0),
    "Flux block, 729 style tokens": (24, 128, 4096, 4096 + 512, 729, 12),
    "Flux block, 4096 reference tokens": (24, 128, 4096, 4096 + 512, 4096, 12),
}


class Case:
    """The tensors of one row of the table, and what is done with them."""

    def __init__(self, heads: int, dim: int, picture: int, competitors: int, reference: int, linear: int) -> None:
        g = torch.Generator().manual_seed(0)
        keys = competitors + reference
        # in joint attention, every token asks
        asking = keys if competitors else picture
        self.q = torch.randn(1, heads, asking, dim, generator=g)
        self.k = torch.randn(1, heads, keys, dim, generator=g)
        self.picture = slice(512, 512 + picture) if competitors else slice(None)
        self.reference = span("reference", competitors, count=reference)
        width = heads * dim
        self.linear = [torch.randn(width, width, generator=g) for _ in range(linear)]

    def attention(self) -> None:
        F.scaled_dot_product_attention(self.q, self.k, self.k)

    def around(self) -> None:
        tokens = self.q.transpose(1, 2).flatten(2)[0]
        for weight in self.linear:
            tokens @ weight

    def attribution(self) -> None:
        attribute(self.q, self.k, [self.reference], queries=self.picture)

    def naive(self) -> None:
        """As packs do that keep the matrix: all probabilities at once, then means."""
        p = (self.q[:, :, self.picture] @ self.k.transpose(-1, -2) * self.q.shape[-1] ** -0.5).softmax(-1)
        columns = p[..., self.reference.index]
        rows = columns / columns.sum(-1, keepdim=True)
        by_column = columns / columns.sum(-2, keepdim=True)
        (columns.sum(-1), columns.mean(-2), rows.mean(-2), by_column.mean(-1))


def least_seconds(*work: Callable[[], None]) -> list[float]:
    """The least time of each, over rounds in which all take their turn."""
    times: list[list[float]] = [[] for _ in work]
    for _ in range(ROUNDS):
        for seconds, do in zip(times, work, strict=True):
            start = time.perf_counter()
            do()
            seconds.append(time.perf_counter() - start)
    return [min(seconds) for seconds in times]


def extra_memory(name: str, work: str) -> float:
    """MB by which the peak of a fresh process grows when it does the work once."""
    command = [sys.executable, __file__, "--memory", name, work]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure_memory(name: str, work: str) -> None:
    case = Case(*json.loads(name))
    case.linear.clear()
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far, of imports too, is forgotten (Linux)
    before = peak()
    getattr(case, work)()
    print(peak() - before)


def peak() -> float:
    """Peak resident memory of this process in MB."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def table() -> None:
    print(
        "| case | attention | attribution | naive | attribution / attention | with its block | extra memory | naive |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, shape in CASES.items():
        case = Case(*shape)
        attention, around, attribution, naive = least_seconds(case.attention, case.around, case.attribution, case.naive)
        memory = [extra_memory(json.dumps(shape), work) for work in ("attribution", "naive")]
        block = f"{1 + attribution / (attention + around):.2f}" if around > 1e-3 else "-"
        print(
            f"| {name} | {attention:.3f} s | {attribution:.3f} s | {naive:.3f} s | {attribution / attention:.2f} "
            f"| {block} | {memory[0]:.0f} MB | {memory[1]:.0f} MB |",
            flush=True,
        )


def growth() -> None:
    print("| reference tokens | attention | attribution | extra memory |")
    print("|---|---|---|---|")
    for tokens in (256, 1024, 4096, 16384):
        shape = (4, 128, 4096, 512, tokens, 0)
        case = Case(*shape)
        case.q = case.q[:, :, :4096]
        case.picture = slice(None)
        attention, attribution = least_seconds(case.attention, case.attribution)
        memory = extra_memory(json.dumps(shape), "attribution")
        print(f"| {tokens} | {attention:.3f} s | {attribution:.3f} s | {memory:.0f} MB |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--growth", action="store_true", help="cost against reference tokens")
    parser.add_argument("--memory", nargs=2, metavar=("SHAPE", "WORK"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        measure_memory(*arguments.memory)
    elif arguments.growth:
        growth()
    else:
        table()


if __name__ == "__main__":
    with torch.inference_mode():
        main()
