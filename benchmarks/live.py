"""What the map so far costs: the seconds that a run spends on it, with ``live`` of I2AM Capture on, of all its seconds.

    PYTHONPATH=.host/ComfyUI:.host/placeholders .host/venv/bin/python benchmarks/live.py [part of a case's name]

The demo, and models of true size as in ``sampling.py``. Messages are made whole, and go nowhere. Seconds are
those of the sampling thread, whatever else the machine does. *At true depth* has
the layers, heads and cells of a whole model, but no model: there is only what a step of it takes.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from memory import CASES as SIZES
from memory import Feed, add
from sampling import CASES, Run  # before ComfyUI

import comfy.sample  # isort: skip
import i2am_pack.nodes.comfy.captured as captured
from i2am_pack.demo.model import load
from i2am_pack.demo.nodes import DemoReference, DemoScene
from i2am_pack.i2am_core import Place, Recorder, Reference
from i2am_pack.nodes.comfy.handle import Capture, Settings
from i2am_pack.nodes.comfy.live import Audience, Live

AUDIENCE = Audience(lambda message: sent.append(len(json.dumps(message))), "prompt", "1", "2", ["3"])
ROUNDS = 3
sent: list[int] = []  # bytes
spent: list[float] = []  # seconds


def timed(method: Callable[..., None]) -> Callable[..., None]:
    def step_ended(self: Live, waits: bool) -> None:
        start = time.thread_time()
        method(self, waits)
        spent.append(time.thread_time() - start)

    return step_ended


def demo() -> Run:
    outputs = DemoScene.execute(11, 3, 1).args
    model, vae, encoder = load()
    positive: Any = DemoReference.execute(encoder, outputs[2]).args[0]
    return Run(model, positive, positive, torch.zeros_like(vae.encode(outputs[0])), 1.0)


def sample(run: Run, model: Any, steps: int) -> tuple[float, torch.Tensor]:
    """As a node does it, which has a callback."""
    start = time.thread_time()
    latent = comfy.sample.sample(
        model, torch.ones_like(run.latent), steps, run.cfg, "euler", "simple", run.positive, run.negative, run.latent,
        disable_pbar=True, seed=0, callback=lambda *step: None,
    )  # fmt: skip
    return time.thread_time() - start, latent


def sampled(name: str, run: Run, steps: int) -> None:
    """The least part of three rounds, since the machine does other things too."""
    parts = []
    for _ in range(ROUNDS):
        spent.clear(), sent.clear()
        settings = Settings("auto", "positive", "off", 512 * 2**20, live=True)
        seconds, live = sample(run, captured.capture_with(run.model, Capture(settings)), steps)
        parts.append(sum(spent) / seconds)
        assert len(sent) == len(spent) == steps
    assert torch.equal(live, sample(run, run.model, steps)[1])
    print(
        f"| {name} | {seconds:.2f} s | {1000 * max(spent):.2f} ms | {100 * min(parts):.2f} % | {max(sent)} |",
        flush=True,
    )


def at_true_depth(name: str) -> None:
    case = SIZES[name]
    feed, recorder = Feed(case), Recorder(torch.linspace(1, 0, case.steps + 1), 1, 512 * 2**20)
    for n, grid in enumerate(case.references):
        recorder.reference(Reference(f"{n}", grid.cells, grid, str(n)))
    live = Live(recorder, AUDIENCE)
    spent.clear(), sent.clear()
    for step in range(4):
        for n, layer in enumerate(feed.layers):
            for number, grid in enumerate(case.references):
                add(recorder, feed, Place(layer, step, number, step, grid), n)
        live.step_ended(waits=False)
    print(f"| {name}, at true depth | - | {1000 * max(spent):.2f} ms | - | {max(sent)} |", flush=True)


if __name__ == "__main__":
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    Live.step_ended = timed(Live.step_ended)  # type: ignore[method-assign]
    captured.audience_of = lambda node: AUDIENCE
    columns = ("run", "all of it", "the map so far, its longest step", "part of all", "bytes of a message")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    with torch.inference_mode():
        for name, make in {"the demo": demo, **CASES}.items():
            if wanted in name:
                sampled(name, make(), 20 if make is demo else 2)
        for name in ("Kontext, 1 reference", "Wan 2.1 I2V 14B, 81 frames"):
            if wanted in name:
                at_true_depth(name)
