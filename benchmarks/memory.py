"""What the default budget of I2AM Capture keeps of runs of real size, how much memory that takes, and how exact it is.

    .host/venv/bin/python benchmarks/memory.py [--budget 512] [case ...]

Each case is a process of its own that feeds the recorder maps of the shapes that the model gives, layer by layer and
step by step, and then reads all levels of some layers. *Sums* is the most that the recorder took, *process* the most
that the process grew: PyTorch's memory on the CPU comes from the C library, which keeps gaps between tensors. *Pair
maps* is in how many layers there are any. The maps are random, as steep as those of trained models: most of a map lies
in few cells. The means that they are compared with are of float64.
"""

import argparse
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from i2am_core import Layer, MapKind, Place, Recorder, Reference, Selection, TokenGrid, maps  # noqa: E402
from i2am_core.attention.marginals import Marginals  # noqa: E402
from i2am_core.kinds import KIND_OF, UNSCOPED  # noqa: E402

MB = 2**20
SQUARE = TokenGrid(64, 64)  # 1024 px, as Flux and Qwen-Image see them
SAMPLED = 3  # layers that are compared


@dataclass(frozen=True)
class Case:
    """A run at 1024 px, or of 81 frames at 832 x 480 px."""

    layers: tuple[tuple[int, TokenGrid, int], ...]  # so many of this grid and number of heads
    references: tuple[TokenGrid, ...]
    steps: int = 20
    pair_rows: int = 0  # positions in the inpainting mask; with these, maps in scope too


FLUX, QWEN, WAN = ((57, SQUARE, 24),), ((60, SQUARE, 24),), ((40, TokenGrid(30, 52, 21), 40),)
SDXL = ((10, SQUARE, 10), (60, TokenGrid(32, 32), 20))
CASES = {
    "Kontext, 1 reference": Case(FLUX, (SQUARE,)),
    "Kontext, 1 reference, 28 steps": Case(FLUX, (SQUARE,), steps=28),
    "Kontext, 1 reference, a mask of a quarter": Case(FLUX, (SQUARE,), pair_rows=1024),
    "Kontext, 2 references": Case(FLUX, (SQUARE,) * 2),
    "Qwen-Edit, 3 references": Case(QWEN, (SQUARE,) * 3),
    "Flux Redux": Case(FLUX, (TokenGrid(27, 27),)),
    "Flux Fill and Redux, a mask of a quarter": Case(FLUX, (TokenGrid(27, 27),), pair_rows=1024),
    "Flux Fill, a canvas of two pictures": Case(((57, TokenGrid(64, 128), 24),), (SQUARE,), pair_rows=4096),
    "SDXL, IP-Adapter, 30 steps": Case(SDXL, (TokenGrid(16, 16),), steps=30),
    "Wan 2.1 I2V 14B, 81 frames": Case(WAN, (TokenGrid(16, 16),)),
}


class Feed:
    """Maps of one case, the same each time: of each layer a few random ones, shifted from step to step."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.layers = [
            Layer(f"block {n} of {grid}", grid, heads) for count, grid, heads in case.layers for n in range(count)
        ]
        self._random: dict[tuple[int, int], Tensor] = {}

    def marginals(self, layer: int, reference: int, step: int) -> Marginals:
        grid, heads = self.layers[layer].grid, self.layers[layer].heads
        cells = {"r2g": grid.cells, "g2r": self.case.references[reference].cells}
        values = {
            key: self._steep(heads, cells[kind.direction]).roll(
                (step + hash((layer, reference, n)) % 997, 61 * step + 7 * layer), (0, 1)
            )[None]
            for n, (key, kind) in enumerate(KIND_OF.items())
            if self.case.pair_rows or not kind.scoped
        }
        return Marginals(**values)

    def _steep(self, heads: int, cells: int) -> Tensor:
        if (heads, cells) not in self._random:
            logits = 2.5 * torch.randn(heads, cells, generator=torch.Generator().manual_seed(cells))
            self._random[heads, cells] = logits.softmax(-1)
        return self._random[heads, cells]


def run(case: Case, budget: int) -> str:
    feed = Feed(case)
    feed.marginals(0, 0, 0)
    recorder = Recorder(torch.linspace(1, 0, case.steps + 1), 1, budget)
    numbers = [
        recorder.reference(Reference(f"{n}", grid.cells, grid, str(n))) for n, grid in enumerate(case.references)
    ]
    before, grown, most = memory("VmRSS"), 0, 0
    for step in range(case.steps):
        for n, layer in enumerate(feed.layers):
            for number, grid in zip(numbers, case.references, strict=True):
                add(recorder, feed, Place(layer, step, number, step, grid), n)
        most, grown = max(most, recorder.nbytes), max(grown, memory("VmRSS") - before)
    attribution = recorder.freeze(grid=feed.layers[0].grid)
    on_reference = 4 if case.pair_rows else 2  # G2R maps, each head's
    values = sum(x.heads * (2 * x.grid.cells + on_reference * r.cells) for x in feed.layers for r in case.references)
    whole = 4 * case.steps * values
    paired = len({layer for (_, layer), entry in attribution.entries.items() if entry.pairs})
    detail = attribution.summary().split("kept: ")[1].split("\n")[0].rsplit(", ", 1)[0]
    notes = "; ".join(note for note in attribution.notes if "half" in note) or "full precision"
    errors = ", ".join(f"{name} {100 * error:.2g} %" for name, error in compare(attribution, feed).items())
    sizes = " | ".join(f"{size / MB:.0f} MB" for size in (whole, attribution.nbytes, most, grown))
    return f"| {sizes} | {detail} | {paired} | {notes} | {errors} |"


def add(recorder: Recorder, feed: Feed, place: Place, layer: int) -> None:
    marginals, rows = feed.marginals(layer, place.reference, place.step), feed.case.pair_rows
    tokens = feed.case.references[place.reference].cells
    if rows and recorder.pairs_fit(place.reference, place.layer, rows, tokens):
        pairs = torch.rand(1, rows, tokens)
        marginals = Marginals(**vars(marginals) | {"g2r_pairs": pairs, "r2g_pairs": pairs.clone()})
        recorder.add(place, marginals, torch.arange(rows))
    else:
        recorder.add(place, marginals)


def compare(attribution, feed: Feed) -> dict[str, float]:
    """The largest difference of a level from the mean in float64, over that mean."""
    errors: dict[str, float] = defaultdict(float)
    count = len(feed.layers)
    for n in range(0, count, -(-count // SAMPLED)):
        for reference in range(len(feed.case.references)):
            frames = {"r2g": feed.layers[n].grid, "g2r": feed.case.references[reference]}
            for kind in UNSCOPED:
                by_step, by_head = 0, 0
                all_steps = []
                for step in range(feed.case.steps):
                    values = getattr(feed.marginals(n, reference, step), kind.key)[0].double()
                    grid = frames[kind.direction]
                    values = values.unflatten(1, (grid.frames, grid.height, grid.width)).mean(1)
                    all_steps.append(values.mean(0))
                    by_head = by_head + values / feed.case.steps
                by_step = torch.stack(all_steps)
                of = Selection(layers=str(n), reference=reference, scope="whole image")
                expected = {"unified": by_step.mean(0)[None], "layer": by_step.mean(0)[None], "time": by_step}
                expected |= {"head": by_head}
                for level, mean in expected.items():
                    got = maps(attribution, MapKind(kind.direction, kind.normalization), level, of, 0).values.double()
                    errors[level] = max(errors[level], ((got - mean).abs() / mean).max().item())
    return errors


def memory(what: str) -> int:
    """Of this process, in bytes."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(what))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="case", help=", ".join(CASES))
    parser.add_argument("--budget", type=int, default=512, help="in MB")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        with torch.inference_mode():
            print(run(CASES[options.cases[0]], options.budget * MB), flush=True)
        sys.exit()
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"no such case: {', '.join(unknown)}; choose from {', '.join(CASES)}")
    columns = ("run", "all of it", "kept", "sums", "process", "detail", "pair maps", "precision", "largest error")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for name in options.cases or CASES:
        command = [sys.executable, __file__, name, "--one", "--budget", str(options.budget)]
        print(
            f"| {name} {subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout}",
            end="",
            flush=True,
        )
