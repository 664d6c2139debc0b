"""Many queues on the real server, each with another seed: are memory, open files, threads and temp files flat?

    .host/venv/bin/python -m reliability.soak [--queues 500] [--cache classic|lru|none] [--history]

The graph is the demo's: Capture, KSampler, Collect, Viewer, Maps and IMACS. Two viewers, of which one is of a run that
stays the same. ComfyUI's own history, which keeps 10,000 prompts, is emptied unless --history is given. Growth is the
median of all slopes between two samples, over the last three quarters of the run. The exit code is 1 where something
is not flat.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from reliability import places  # noqa: F401  (before what it makes importable)

import demo_graph  # isort: skip
from comfy_server import ComfyServer  # isort: skip
from devenv import one_sentence_errors, prepare  # isort: skip

MB = 2**20
CACHES = {"classic": [], "lru": ["--cache-lru", "40"], "none": ["--cache-none"]}
BUDGET_MB = 24  # of Capture: small, so that it is full after some queues
FLAT = {"rss_mb": 12.0, "fds": 1.0, "threads": 1.0, "files": 2.0, "files_mb": 8.0}  # the growth that is none


@dataclass(frozen=True)
class Sample:
    """The server after ``queue`` queues."""

    queue: int
    rss_mb: float
    fds: int
    threads: int
    files: int  # in temp
    files_mb: float


@dataclass(frozen=True)
class Soak:
    """What is queued, and how often."""

    queues: int
    every: int  # queues a sample
    batch: int = 4
    steps: int = 2
    history: bool = False  # whether the server's history is kept


def graph(seed: int, batch: int, steps: int) -> demo_graph.Graph:
    """The demo's graph with what is looked at, whose ``seed`` changes the picture."""
    whole = demo_graph.build(steps=steps)
    whole["scene"]["inputs"]["batch"] = batch
    whole["capture"]["inputs"]["budget_mb"] = BUDGET_MB
    whole["sampler"]["inputs"]["seed"] = seed
    whole["viewer"] = demo_graph.node("I2AM_Viewer", attribution=["collect", 0], image=["large", 0])
    whole["large"] = demo_graph.node(
        "ImageScale", image=["decode", 0], upscale_method="bicubic", width=896, height=896, crop="disabled"
    )
    whole["maps:r2g_unified"]["inputs"]["image"] = ["decode", 0]
    whole["sampler:same"] = demo_graph.node("KSampler", **whole["sampler"]["inputs"] | {"seed": 0, "steps": 2})
    whole["sampler:same"]["inputs"]["model"] = ["capture:same", 0]
    whole["capture:same"] = demo_graph.node("I2AM_Capture", **whole["capture"]["inputs"])
    whole["collect:same"] = demo_graph.node("I2AM_Collect", capture=["capture:same", 1], samples=["sampler:same", 0])
    whole["viewer:same"] = demo_graph.node("I2AM_Viewer", attribution=["collect:same", 0])
    ends = ("viewer", "viewer:same", "text:imacs", "text:summary", "text:r2g_unified")
    return {name: whole[name] for name in needed(whole, ends)}


def needed(whole: demo_graph.Graph, ends: Sequence[str]) -> list[str]:
    """The names of these nodes and of all before them."""
    names, waiting = [], list(ends)
    while waiting:
        name = waiting.pop()
        if name not in names:
            names.append(name)
            waiting += [x[0] for x in whole[name]["inputs"].values() if isinstance(x, list)]
    return names


def soak(server: ComfyServer, plan: Soak) -> Iterator[Sample]:
    """Queue, and look at the server now and then."""
    for queue in range(1, plan.queues + 1):
        server.run(graph(1000 + queue, plan.batch, plan.steps))
        if not plan.history:
            server.forget()
        if queue % plan.every == 0:
            yield sample(server, queue)


def sample(server: ComfyServer, queue: int) -> Sample:
    process = Path(f"/proc/{server.pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line)
    files = [path.stat().st_size for path in (server.work / "temp").rglob("*") if path.is_file()]
    return Sample(
        queue,
        int(status["VmRSS"].split()[0]) / 1024,
        len(list((process / "fd").iterdir())),
        int(status["Threads"]),
        len(files),
        sum(files) / MB,
    )


def growth(samples: Sequence[Sample], name: str) -> float:
    """By how much a figure grew over the last three quarters of the samples: the median slope times their length."""
    last = samples[len(samples) // 4 :]
    pairs = itertools.combinations(last, 2)
    slopes = [(getattr(b, name) - getattr(a, name)) / (b.queue - a.queue) for a, b in pairs]
    return statistics.median(slopes) * (last[-1].queue - last[0].queue)


def not_flat(samples: Sequence[Sample]) -> list[str]:
    """What grew, in words."""
    grown = {name: growth(samples, name) for name in FLAT}
    return [f"{name} grew by {by:.1f}, allowed is {FLAT[name]:g}" for name, by in grown.items() if by > FLAT[name]]


def line(values: Sequence[object]) -> str:
    return "  ".join(f"{value:>9.1f}" if isinstance(value, float) else f"{value:>9}" for value in values)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queues", type=int, default=500)
    parser.add_argument("--cache", choices=CACHES, default="classic")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--history", action="store_true")
    args = parser.parse_args()
    plan = Soak(args.queues, max(1, args.queues // 40), args.batch, args.steps, args.history)
    samples: list[Sample] = []
    with (
        one_sentence_errors(),
        tempfile.TemporaryDirectory() as work,
        ComfyServer(prepare(tests=True), Path(work), CACHES[args.cache]) as server,
    ):
        start = time.monotonic()
        print(line([field.name for field in fields(Sample)]))
        for one in soak(server, plan):
            samples.append(one)
            print(line(astuple(one)), flush=True)
        print(f"{args.queues} queues, cache {args.cache}, {time.monotonic() - start:.0f} s")
    for name in FLAT:
        print(f"growth of {name} over the last three quarters: {growth(samples, name):+.2f}")
    grown = not_flat(samples)
    print("not flat: " + "; ".join(grown) if grown else "flat")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
