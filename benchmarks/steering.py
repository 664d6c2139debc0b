"""One attention call of ComfyUI's kernel, steered, over the same call as it is. No mask of all rows is ever made.

    PYTHONPATH=.host/ComfyUI:.host/placeholders .host/venv/bin/python benchmarks/steering.py

Float32, random tensors, PyTorch's attention. All settings take their turn in each round; the median of their ratios to
the plain call of the same round counts. Regions are half of the picture's rows, and half of the reference's columns.
"""

import statistics
import sys
import time
import types
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))
pack = types.ModuleType("i2am_pack")
pack.__path__ = [str(ROOT)]
sys.modules["i2am_pack"] = pack

from i2am_pack.demo import cpu  # noqa: E402, F401  (before ComfyUI's other modules)

import comfy.ldm.modules.attention as kernels  # noqa: E402  # isort: skip

from i2am_pack.i2am_core.attention.steering import Change, Steering  # noqa: E402
from i2am_pack.nodes.comfy.attention_call import Arguments  # noqa: E402
from i2am_pack.nodes.comfy.steered_kernel import kernel_of  # noqa: E402

ROUNDS = 3
CASES = {  # heads, head size, text, picture, reference
    "Flux, 4096 reference tokens beside 4608": (24, 128, 512, 4096, 4096),
    "Flux, 729 style tokens beside 4608": (24, 128, 512, 4096, 729),
    "SDXL, 257 tokens beside 77 of text": (10, 64, 77, 4096, 257),
}


def changes(text: int, picture: int, reference: int, rows: int) -> dict[str, Change]:
    columns = torch.arange(reference) + text + (picture if rows > picture else 0)
    positions = torch.zeros(1, rows, dtype=torch.bool)
    first = text if rows > picture else 0
    positions[:, first : first + picture // 2] = True
    half, one = columns[: reference // 2], slice(0, 1)
    return {
        "0": Change(one, columns, 0.0),
        "2": Change(one, columns, 2.0),
        "2, in a region": Change(one, columns, 2.0, positions=positions),
        "2, of and in a region": Change(one, half, 2.0, positions=positions),
        "2, by output": Change(one, columns, 2.0, "output"),
        "2, in a region, by output": Change(one, columns, 2.0, "output", positions),
    }


def row(name: str) -> str:
    heads, size, text, picture, reference = CASES[name]
    joint = name.startswith("Flux")
    keys = text + reference + (picture if joint else 0)
    rows = keys if joint else picture
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, heads, n, size, generator=g) for n in (rows, keys, keys))
    plain = Arguments(kernel_of(kernels.attention_pytorch), (q, k, v, heads), {"skip_reshape": True})
    steered = {
        setting: Arguments(plain.kernel, plain.args, plain.kwargs, steering=Steering((change,)))
        for setting, change in changes(text, picture, reference, rows).items()
    }
    ratios: dict[str, list[float]] = {setting: [] for setting in steered}
    seconds = []
    for _ in range(ROUNDS):
        seconds.append(timed(plain))
        for setting, arguments in steered.items():
            ratios[setting].append(timed(arguments) / seconds[-1])
    cells = [f"{statistics.median(ratios[setting]):.2f}" for setting in steered]
    return f"| {' | '.join((name, f'{statistics.median(seconds):.3f} s', *cells))} |"


def timed(arguments: Arguments) -> float:
    start = time.perf_counter()
    arguments.run()
    return time.perf_counter() - start


if __name__ == "__main__":
    titles = ["case", "plain", *changes(1, 2, 2, 5)]
    print(f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|")
    with torch.inference_mode():
        for case in CASES:
            print(row(case), flush=True)
