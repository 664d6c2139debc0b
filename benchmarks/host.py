"""What the host does in a captured step, where the device takes no time: what a fast GPU waits for.

    PYTHONPATH=.host/ComfyUI:.host/placeholders .host/venv/bin/python benchmarks/host.py [part of a case's name]

Models of true depth sample in the real ComfyUI on one thread of the CPU. Their tensors are small, and products,
convolutions, norms and a U-Net's attention return at once; the pack takes the CPU for a device that runs on its own,
and starts its Triton kernels nowhere. What is left is Python, and PyTorch's dispatch of other operations; what it takes
to start a kernel of a GPU is left out, on both sides. Maps are whatever was in the memory. Plain and captured runs take
turns, and the least of the rounds counts.

Python's collection of garbage is on: how long it took in a captured step is the mean over all rounds, since a full
collection comes once in several runs.
"""

import argparse
import gc
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from gpu import SDXL
from torch import Tensor

import sampling  # isort: skip
from sampling import Run, model, noise, unet  # isort: skip

from i2am_pack.i2am_core.attention import fused  # isort: skip
from i2am_pack.nodes.comfy.captured import capture_with  # isort: skip
from i2am_pack.nodes.comfy.handle import Capture, Settings  # isort: skip

STEPS, ROUNDS = 20, 8
HEAD = ["model", "plain step", "captured step", "captured / plain", "garbage, in the mean"]
MB = 2**20
NARROW = dict(hidden_size=128 * 8, num_heads=8, context_in_dim=64, depth=19, depth_single_blocks=38)
ATTENTION = F.scaled_dot_product_attention


def kontext() -> Run:
    """One reference; sums over the row come from PyTorch's kernel, so attention is computed."""
    F.scaled_dot_product_attention = ATTENTION
    text, about = noise(1, 16, 64), {"pooled_output": noise(1, 768), "guidance": 3.5}
    positive = [[text, about | {"reference_latents": [noise(1, 16, 8, 8)]}]]
    patcher = model(sampling.flux_config(**NARROW))
    return Run(patcher, positive, positive, torch.zeros(1, 16, 8, 8), 1.0)


def narrow(settings: dict, side: int, **widths: int) -> Run:
    """A U-Net of true depth with few channels, with 257 reference tokens alone in its cross-attention."""
    F.scaled_dot_product_attention = lambda q, *others, **named: torch.zeros_like(q)
    return unet(settings | widths, side, 257)


# With a budget in MB: of Kontext, one at which it keeps what a real one does.
CASES: dict[str, tuple[Callable[[], Run], float]] = {
    "SD1.5": (lambda: narrow(sampling.SD15, 8, model_channels=32, num_heads=8), 512),
    "SDXL": (lambda: narrow(SDXL, 16, model_channels=64, num_head_channels=16), 512),
    "Kontext, 1 reference": (kontext, 1.05),
}


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return x.new_zeros(*x.shape[:-1], weight.shape[0])


def conv2d(x: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, *others: Any) -> Tensor:
    stride, padding = (n[0] if isinstance(n, tuple) else n for n in (stride, padding))
    height, width = ((n + 2 * padding - weight.shape[-1]) // stride + 1 for n in x.shape[2:])
    return x.new_zeros(x.shape[0], weight.shape[0], height, width)


class NoKernels:
    """In the place of ``fused_kernels``: each is started nowhere."""

    INTERPRETED = False

    def __getattr__(self, name: str) -> "NoKernels":
        return self

    def __getitem__(self, grid: tuple) -> Callable[..., None]:
        return lambda *given, **named: None


def device_takes_no_time() -> None:
    F.linear, F.conv2d = linear, conv2d
    F.group_norm = F.layer_norm = lambda x, *others, **named: x
    kernels = NoKernels()
    fused._kernels = lambda: kernels  # type: ignore[assignment]
    fused._serves = fused.is_proved = lambda of: True  # type: ignore[assignment]
    for name, module in list(sys.modules.items()):
        if name.startswith("i2am_pack") and hasattr(module, "runs_alone"):
            module.runs_alone = lambda x: True


@contextmanager
def collected(seconds: list[float]) -> Iterator[None]:
    """Appends how long each collection of garbage takes."""

    def called(phase: str, about: dict) -> None:
        seconds.append(-time.perf_counter() if phase == "start" else time.perf_counter())

    gc.callbacks.append(called)
    try:
        yield
    finally:
        gc.callbacks.remove(called)


def row(name: str) -> str:
    make, budget = CASES[name]
    run, handle = make(), Capture(Settings("auto", "positive", "off", int(budget * MB)))
    captured = capture_with(run.model, handle)
    sampling.STEPS = STEPS
    assert handle.find(run.sample(captured)[1]).captured_calls > 0
    times: dict[str, list[float]] = {"plain": [], "captured": []}
    garbage: list[float] = []
    for _ in range(ROUNDS):
        times["plain"].append(run.sample(run.model)[0])
        with collected(garbage):
            times["captured"].append(run.sample(captured)[0])
    plain, with_capture = (min(of) / STEPS * 1e3 for of in times.values())
    cells = [f"{plain:.1f} ms", f"{with_capture:.1f} ms", f"{with_capture / plain:.2f}"]
    return f"| {' | '.join([name, *cells, f'{sum(garbage) / ROUNDS / STEPS * 1e3:.1f} ms'])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="?", default="", help="only cases whose name holds this")
    chosen = parser.parse_args().case
    logging.getLogger().setLevel(logging.ERROR)
    torch.set_num_threads(1)
    sampling.DTYPE = torch.bfloat16
    device_takes_no_time()
    print(f"| {' | '.join(HEAD)} |\n{'|---' * len(HEAD)}|")
    with torch.inference_mode():
        for name in CASES:
            if chosen in name:
                print(row(name), flush=True)


if __name__ == "__main__":
    main()
