"""What attribution costs beside the attention that it watches, and beside a build that keeps the matrix.

    .host/venv/bin/python benchmarks/attention.py                       the table
    .host/venv/bin/python benchmarks/attention.py --growth growth.png   cost against reference tokens, and its plot

Each row is one attention call of one batch item, float32, with random queries and keys. Everything of a row
is timed in turn, in one process, and the least of several rounds counts. "intercepted" takes the row log-sum-exp from
the attention itself, as capture does where ComfyUI runs PyTorch's own attention; "own pass" computes it again.
"arithmetic" is what cannot be avoided: the product with the reference keys, and one exponential. "block" adds the
linear layers that surround the attention in the model. Extra memory is the growth of the process's peak, in a
process of its own.
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

from i2am_core import Logits, Positions, attribute, span
from i2am_core.attention.intercept import Interceptor

ROUNDS = 3
# name: heads, head size, picture tokens, competitors, reference tokens, linear weights of the block / width^2
CASES = {
    "SD1.5, 64x64, 16 tokens, decoupled": (8, 40, 4096, 0, 16, 0),
    "SD1.5, 64x64, 257 tokens, decoupled": (8, 40, 4096, 0, 257, 0),
    "SDXL, 64x64, 257 tokens beside 77 of text": (10, 64, 4096, 77, 257, 0),
    "Flux block, 729 style tokens": (24, 128, 4096, 4096 + 512, 729, 12),
    "Flux block, 4096 reference tokens": (24, 128, 4096, 4096 + 512, 4096, 12),
}


class Case:
    """The tensors of one row of the table, and what is done with them."""

    def __init__(self, heads: int, dim: int, picture: int, competitors: int, reference: int, linear: int) -> None:
        g = torch.Generator().manual_seed(0)
        keys = competitors + reference
        joint = competitors > picture  # then every token is a query
        queries = keys if joint else picture
        self.q = torch.randn(1, heads, queries, dim, generator=g)
        self.k = torch.randn(1, heads, keys, dim, generator=g)
        self.picture = slice(512, 512 + picture) if joint else slice(None)
        self.reference = span("reference", competitors, count=reference)
        self.decoupled = competitors == 0  # a softmax over the reference's keys alone
        width = heads * dim
        self.linear = [torch.randn(width, width, generator=g) for _ in range(linear)]

    def attention(self) -> None:
        F.scaled_dot_product_attention(self.q, self.k, self.k)

    def around(self) -> None:
        tokens = self.q.transpose(1, 2).flatten(2)[0]
        for weight in self.linear:
            tokens @ weight

    def intercepted(self) -> None:
        """The attention and its attribution, as capture does both."""
        with Interceptor() as interceptor:
            self.attention()
        total = interceptor.total(self.q, self.k, None)
        assert total is not None
        attribute(
            self.q,
            self.k,
            [self.reference],
            logits=Logits(total=None if self.decoupled else total),
            positions=Positions(queries=self.picture),
        )

    def own_pass(self) -> None:
        attribute(self.q, self.k, [self.reference], positions=Positions(queries=self.picture))

    def arithmetic(self) -> None:
        """One head at a time, so that it does not wait for memory."""
        for head in range(self.q.shape[1]):
            (self.q[0, head, self.picture] @ self.k[0, head, self.reference.index].T).exp_()

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
    titles = (
        "case",
        "attention",
        "intercepted",
        "own pass",
        "naive",
        "arithmetic",
        "intercepted / attention",
        "with its block",
    )
    print(" | ".join(("", *titles, "extra memory", "naive", "")).strip())
    print("|---" * (len(titles) + 2) + "|")
    for name, shape in CASES.items():
        case = Case(*shape)
        attention, around, both, own, naive, least = least_seconds(
            case.attention, case.around, case.intercepted, case.own_pass, case.naive, case.arithmetic
        )
        memory = [extra_memory(json.dumps(shape), work) for work in ("own_pass", "naive")]
        seconds = [f"{x:.3f} s" for x in (attention, max(0.0, both - attention), own, naive, least)]
        block = f"{(both + around) / (attention + around):.2f}" if around > 1e-3 else "-"
        cells = (name, *seconds, f"{both / attention:.2f}", block, *(f"{x:.0f} MB" for x in memory))
        print(f"| {' | '.join(cells)} |", flush=True)


def growth(plot: Path) -> None:
    """A head size of 128 and 4096 positions, with 512 text tokens beside the reference."""
    print("| reference tokens | attention | intercepted | own pass | extra memory |")
    print("|---|---|---|---|---|")
    rows = []
    for tokens in (256, 512, 1024, 2048, 4096, 8192, 16384):
        shape = (4, 128, 4096, 512, tokens, 0)
        case = Case(*shape)
        attention, both, own = least_seconds(case.attention, case.intercepted, case.own_pass)
        memory = extra_memory(json.dumps(shape), "own_pass")
        rows.append((tokens, attention, max(0.0, both - attention), own, memory))
        print(f"| {tokens} | {attention:.3f} s | {rows[-1][2]:.3f} s | {own:.3f} s | {memory:.0f} MB |", flush=True)
    draw(rows, plot)


def draw(rows: list[tuple[int, float, float, float, float]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tokens, attention, intercepted, own, memory = zip(*rows, strict=True)
    figure = Figure(figsize=(9, 3.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    time_axes, memory_axes = figure.subplots(1, 2)
    for values, label in (
        (attention, "attention itself"),
        (own, "attribution, own pass"),
        (intercepted, "attribution, intercepted"),
    ):
        time_axes.plot(tokens, values, marker="o", label=label)
    time_axes.set(xlabel="reference tokens", ylabel="seconds", ylim=(0, None), title="Time grows linearly")
    time_axes.legend()
    memory_axes.plot(tokens, memory, marker="o", label="attribution")
    matrix = [4 * 4 * 4096 * (512 + n) / 2**20 for n in tokens]
    memory_axes.plot(tokens, matrix, marker="o", label="the matrix that is never made")
    memory_axes.set(xlabel="reference tokens", ylabel="MB", ylim=(0, None), title="Extra memory stays flat")
    memory_axes.legend()
    for axes in (time_axes, memory_axes):
        axes.set_xticks([256, 4096, 8192, 16384])
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--growth", type=Path, metavar="PNG", help="cost against reference tokens, plotted")
    parser.add_argument("--memory", nargs=2, metavar=("SHAPE", "WORK"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        measure_memory(*arguments.memory)
    elif arguments.growth:
        growth(arguments.growth)
    else:
        table()


if __name__ == "__main__":
    with torch.inference_mode():
        main()
