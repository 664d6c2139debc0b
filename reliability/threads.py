"""Samplers with Captures in several threads at once: is each picture and each map what it is alone?

    .host/venv/bin/python -m reliability.threads [--rounds 20] [--threads 4]

Each thread has a model of its own, since ComfyUI keeps what a run does in the model, and all run at the same time. One
Capture is shared by all threads, too. The exit code is 1 where a bit differs.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from reliability import comfyui_here  # noqa: F401  (before what it makes importable)

import comfy.utils  # isort: skip
import tiny_graphs  # isort: skip
import torch  # isort: skip

from i2am_pack.i2am_core.attribution import Attribution  # isort: skip
from i2am_pack.nodes.comfy.captured import capture_with  # isort: skip
from i2am_pack.nodes.comfy.handle import Capture, Settings  # isort: skip

GRAPHS: Sequence[Callable[[], tiny_graphs.Graph]] = (
    tiny_graphs.flux_kontext, tiny_graphs.wan_i2v, tiny_graphs.sd15_canvas, tiny_graphs.qwen_edit,
)  # fmt: skip
SETTINGS = Settings("auto", "positive", "everywhere", 2**28)


@dataclass(frozen=True)
class Result:
    """What a run gave."""

    picture: torch.Tensor
    attribution: Attribution

    def differs_from(self, other: Result) -> bool:
        return not (
            torch.equal(self.picture, other.picture)
            and self.attribution.captured_calls == other.attribution.captured_calls
            and self.attribution.skipped == other.attribution.skipped
            and all(
                torch.equal(values, other.attribution.entries[key].maps[name])
                for key, entry in self.attribution.entries.items()
                for name, values in entry.maps.items()
            )
        )


def result_of(graph: tiny_graphs.Graph, capture: Capture) -> Result:
    """Sample a graph with a capture, without noise: ComfyUI draws it from one generator for all threads."""
    with torch.inference_mode():
        picture = graph.sample(capture_with(graph.model, capture), disable_noise=True)["samples"]
    return Result(picture, capture.find(picture))


def differing(threads: int, rounds: int, shared: bool) -> int:
    """How many of ``threads * rounds`` runs at the same time are not what they are alone."""
    graphs = [GRAPHS[n % len(GRAPHS)]() for n in range(threads)]
    alone = [result_of(graph, Capture(SETTINGS)) for graph in graphs]
    capture, start = Capture(SETTINGS), threading.Barrier(threads)

    def work(number: int) -> int:
        start.wait()
        results = (result_of(graphs[number], capture if shared else Capture(SETTINGS)) for _ in range(rounds))
        return sum(alone[number].differs_from(result) for result in results)

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(work, range(threads)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=4)
    args = parser.parse_args()
    comfy.utils.PROGRESS_BAR_ENABLED = False
    start = time.monotonic()
    total, wrong = args.threads * args.rounds, 0
    for shared, name in ((False, "a Capture each"), (True, "one Capture for all")):
        differ = differing(args.threads, args.rounds, shared)
        wrong += differ
        print(f"{name}: {total - differ} of {total} runs in {args.threads} threads are as they are alone")
    print(f"{time.monotonic() - start:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
