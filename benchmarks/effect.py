"""Sampling with I2AM Capture and I2AM Effect over sampling with neither: 3 of 20 steps, models of true width.

    PYTHONPATH=.host/ComfyUI:.host/placeholders .host/venv/bin/python benchmarks/effect.py [part of a case's name]

The models and the attention are those of ``sampling.py``, on smaller pictures. All rounds take their turn, and the
median of their ratios to the plain run of the same round counts. Extra memory is by how much the peak of a fresh
process is higher than that of one that samples alone.
"""

import argparse
import logging
import statistics
import subprocess
import sys

import sampling  # first: it prepares ComfyUI for a machine without CUDA
import torch
from attention import peak
from comfy.model_patcher import ModelPatcher
from sampling import Run, flux, unet, watch

from i2am_pack.nodes.comfy.measured import effect_with
from i2am_pack.nodes.comfy.removals import Settings

sampling.STEPS = 20
ROUNDS = 3
CASES = {
    "Flux slice, 512 px, 1024 reference tokens, cfg 1": lambda: flux(references=1, side=64),
    "Flux slice, 512 px, 729 style tokens, cfg 1": lambda: flux(style_tokens=729, side=64),
    "SD1.5, 256 px, 257 tokens, cfg on": lambda: unet(sampling.SD15, 32, 257),
    "SDXL slice, 512 px, 257 tokens, cfg on": lambda: unet(sampling.SDXL_SLICE, 64, 257),
}
MEASURED = {"capture": None, "effect": Settings(), "effect, 4x4 regions": Settings(regions=4)}
HEAD = ["model", "plain", *MEASURED, "evaluations", "extra memory"]


def patched(run: Run, settings: Settings | None) -> ModelPatcher:
    captured, _ = watch(run.model)
    return captured if settings is None else effect_with(captured, settings)


def row(name: str, rounds: int) -> str:
    run = CASES[name]()
    ratios: dict[str, list[float]] = {setting: [] for setting in MEASURED}
    plain_seconds = []
    evaluations = 0
    for _ in range(rounds):
        seconds, plain = run.sample(run.model)
        plain_seconds.append(seconds)
        for setting, settings in MEASURED.items():
            captured, handle = watch(run.model)
            seconds, latent = run.sample(captured if settings is None else effect_with(captured, settings))
            assert torch.equal(plain, latent)
            ratios[setting].append(seconds / plain_seconds[-1])
            print(f"{name}: {setting}: {ratios[setting][-1]:.3f}", file=sys.stderr, flush=True)
            if setting == "effect":
                effects = handle.find(latent).effects
                assert effects is not None and effects.maps and not effects.unmeasured
                evaluations = effects.evaluations
    memory = peak_of(name, True) - peak_of(name, False)
    cells = [
        name,
        f"{statistics.median(plain_seconds):.2f} s",
        *(f"{statistics.median(x):.3f}" for x in ratios.values()),
    ]
    return f"| {' | '.join((*cells, str(evaluations), f'{memory:.0f} MB'))} |"


def peak_of(name: str, measured: bool) -> float:
    """Peak memory in MB of a fresh process that samples once."""
    command = [sys.executable, __file__, name, "--peak", "with" if measured else "without"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="?", default="", help="only cases whose name holds this")
    parser.add_argument("--peak", choices=["with", "without"], help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    if arguments.peak:
        sampling.STEPS = 4
        run = CASES[arguments.case]()
        run.sample(patched(run, Settings()) if arguments.peak == "with" else run.model)
        print(peak())
        return
    print(f"| {' | '.join(HEAD)} |\n{'|---' * len(HEAD)}|")
    for name in CASES:
        if arguments.case in name:
            print(row(name, arguments.rounds), flush=True)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
