"""Sampling with I2AM Capture, or I2AM Steer, over sampling without: models of true size and random weights.

    PYTHONPATH=.host/ComfyUI:.host/placeholders .host/venv/bin/python benchmarks/sampling.py [part of a case's name]
    (the same) benchmarks/sampling.py --steer [part of a case's name]

Widths and heads are real; of SDXL and Flux the depth is cut. Full levels, all layers, all steps, no pair maps. The
U-Nets' cross-attention holds reference tokens alone, which is the arithmetic of a decoupled mechanism. Attention is
PyTorch's own, as ComfyUI has it on GPUs (--default leaves the choice to ComfyUI). Two steps each, with and without in
turn, and the least of the rounds counts. Extra memory is by how much the peak of a fresh process is higher with
capture than that of one without.

--steer: all settings of STEERED take their turn in each round, and the median of their ratios to the plain run of the
same round counts. Regions are the left half of the picture, and of the reference where it has places.
"""

import argparse
import logging
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from attention import peak

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))
pack = types.ModuleType("i2am_pack")
pack.__path__ = [str(ROOT)]
sys.modules["i2am_pack"] = pack

from comfy.cli_args import args as comfyui_args  # noqa: E402

from i2am_pack.demo import cpu  # noqa: E402, F401  (before ComfyUI's other modules)

comfyui_args.use_pytorch_cross_attention = "--default" not in sys.argv

import comfy.model_patcher  # noqa: E402  # isort: skip
import comfy.sample  # noqa: E402
import comfy.supported_models  # noqa: E402
import comfy.supported_models_base  # noqa: E402

from i2am_pack.demo.joint_network import newer_config  # noqa: E402
from i2am_pack.nodes.comfy.captured import capture_with  # noqa: E402
from i2am_pack.nodes.comfy.handle import Capture, Settings  # noqa: E402
from i2am_pack.nodes.comfy.steer_choice import Settings as SteerSettings  # noqa: E402
from i2am_pack.nodes.comfy.steered import steer_with  # noqa: E402
from i2am_pack.nodes.comfy.tags import KEY, tag  # noqa: E402

STEPS, ROUNDS = 2, 3
DEVICE, DTYPE = torch.device("cpu"), torch.float32  # of the models; gpu.py has others
HEAD = ["model", "without", "with", "with / without", "extra memory"]
UNET = dict(
    image_size=32, in_channels=4, out_channels=4, model_channels=320, use_spatial_transformer=True, legacy=False,
    use_temporal_attention=False,
)  # fmt: skip
SD15 = UNET | dict(
    num_res_blocks=[2, 2, 2, 2],
    channel_mult=(1, 2, 4, 4),
    transformer_depth=[1, 1, 1, 1, 1, 1, 0, 0],
    transformer_depth_output=[1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    transformer_depth_middle=1,
    num_heads=8,
    num_head_channels=-1,
    use_linear_in_transformer=False,
    context_dim=768,
)
SDXL_SLICE = UNET | dict(
    num_res_blocks=[1, 1, 1],
    channel_mult=(1, 2, 4),
    transformer_depth=[0, 1, 2],
    transformer_depth_output=[0, 0, 1, 1, 2, 2],
    transformer_depth_middle=2,
    num_head_channels=64,
    use_linear_in_transformer=True,
    context_dim=2048,
)
FLUX_SLICE = dict(
    image_model="flux", in_channels=16, out_channels=16, patch_size=2, vec_in_dim=768, context_in_dim=4096,
    hidden_size=3072, mlp_ratio=4.0, num_heads=24, depth=1, depth_single_blocks=1, axes_dim=[16, 56, 56], theta=10000,
    qkv_bias=True, guidance_embed=True,
)  # fmt: skip


@dataclass
class Run:
    model: comfy.model_patcher.ModelPatcher
    positive: list
    negative: list
    latent: torch.Tensor
    cfg: float

    def sample(self, model: comfy.model_patcher.ModelPatcher) -> tuple[float, torch.Tensor]:
        noise = comfy.sample.prepare_noise(self.latent, 0)
        start = time.perf_counter()
        out = comfy.sample.sample(
            model, noise, STEPS, self.cfg, "euler", "simple", self.positive, self.negative, self.latent,
            disable_pbar=True, seed=0,
        )  # fmt: skip
        return time.perf_counter() - start, out


def unet(settings: dict, side: int, tokens: int) -> Run:
    width = settings["context_dim"]
    reference = noise(1, tokens, width)
    positive = [[reference, {KEY: [tag("reference", 0, reference, None)]}]]
    patcher = model(comfy.supported_models.SD15(settings))
    return Run(patcher, positive, [[noise(1, tokens, width), {}]], torch.zeros(1, 4, side, side), 7.0)


def flux_config(**own: Any) -> comfy.supported_models.Flux:
    """Of the slice, with its ``own`` settings."""
    return comfy.supported_models.Flux(FLUX_SLICE | newer_config() | own)


def flux(style_tokens: int = 0, references: int = 0, side: int = 128, blocks: tuple[int, int] = (1, 1)) -> Run:
    """A latent of ``side`` cells, 512 text tokens; style tokens after the text, or reference latents of that size.

    ``blocks`` is how many the model has of each kind.
    """
    text, style = noise(1, 512, 4096), noise(1, style_tokens, 4096)
    about = {"pooled_output": noise(1, 768), "guidance": 3.5}
    if style_tokens:
        about[KEY] = [tag("style", 512, style, (27, 27))]
    if references:
        about["reference_latents"] = [noise(1, 16, side, side) for _ in range(references)]
    positive = [[torch.cat([text, style], 1), about]]
    patcher = model(flux_config(depth=blocks[0], depth_single_blocks=blocks[1]))
    return Run(patcher, positive, positive, torch.zeros(1, 16, side, side), 1.0)


CASES: dict[str, Callable[[], Run]] = {
    "SD1.5, 512 px, 16 tokens": lambda: unet(SD15, 64, 16),
    "SD1.5, 512 px, 257 tokens": lambda: unet(SD15, 64, 257),
    "SDXL slice, 768 px, 257 tokens": lambda: unet(SDXL_SLICE, 96, 257),
    "Flux slice, 1024 px, 729 style tokens": lambda: flux(style_tokens=729),
    "Flux slice, 1024 px, 4096 reference tokens": lambda: flux(references=1),
    "Flux slice, 512 px, 1024 reference tokens": lambda: flux(references=1, side=64),
}


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def model(config: comfy.supported_models_base.BASE) -> comfy.model_patcher.ModelPatcher:
    config.set_inference_dtype(DTYPE, None)
    base = config.get_model({}, device=DEVICE)
    g = torch.Generator(DEVICE).manual_seed(0)
    for weight in base.diffusion_model.parameters():
        weight.requires_grad_(False).normal_(std=0.02, generator=g)
    return comfy.model_patcher.ModelPatcher(base, DEVICE, DEVICE)


def watch(
    patcher: comfy.model_patcher.ModelPatcher, pair_maps: str = "off"
) -> tuple[comfy.model_patcher.ModelPatcher, Capture]:
    handle = Capture(Settings("auto", "positive", pair_maps, 512 * 2**20))
    return capture_with(patcher, handle), handle


def row(name: str) -> str:
    run = CASES[name]()
    watched, handle = watch(run.model)
    rounds = [(run.sample(run.model), run.sample(watched)) for _ in range(ROUNDS)]
    (without, first), (with_capture, second) = (min(x, key=lambda y: y[0]) for x in zip(*rounds, strict=True))
    attribution = handle.find(second)
    assert torch.equal(first, second) and attribution.captured_calls == len(attribution.layers) * STEPS > 0
    memory = peak_of(name, True) - peak_of(name, False)
    cells = (name, f"{without:.2f} s", f"{with_capture:.2f} s", f"{with_capture / without:.3f}", f"{memory:.0f} MB")
    return f"| {' | '.join(cells)} |"


STEERED: dict[str, dict] = {
    "0": {"strength": 0.0},
    "2": {"strength": 2.0},
    "2, in a region": {"strength": 2.0, "generated_region": True},
    "2, of and in a region": {"strength": 2.0, "generated_region": True, "reference_region": True},
    "2, by output": {"strength": 2.0, "by": "output"},
    "2, with capture": {"strength": 2.0, "capture": True},
    "2, in a region, with capture": {"strength": 2.0, "generated_region": True, "capture": True},
    "capture alone": {"strength": 1.0, "capture": True},
}
STEER_ROUNDS = 3


def steered_models(run: Run) -> dict[str, comfy.model_patcher.ModelPatcher]:
    """A model for each setting of STEERED that the case allows."""
    left = torch.zeros(1, *run.latent.shape[-2:])
    left[..., : left.shape[-1] // 2] = 1
    models = {}
    for name, settings in STEERED.items():
        settings = settings | {x: left for x in ("generated_region", "reference_region") if x in settings}
        if "reference_region" in settings and run.latent.shape[1] == 4:  # the U-Nets' tokens here have no places
            continue
        patched = watch(run.model)[0] if settings.pop("capture", False) else run.model
        models[name] = steer_with(patched, SteerSettings(**settings))
    return models


def steered_row(name: str) -> str:
    run = CASES[name]()
    models = steered_models(run)
    ratios: dict[str, list[float]] = {setting: [] for setting in models}
    plain_seconds = []
    run.sample(run.model)
    for _ in range(STEER_ROUNDS):
        plain_seconds.append(run.sample(run.model)[0])
        for setting, patched in models.items():
            ratios[setting].append(run.sample(patched)[0] / plain_seconds[-1])
            print(f"{name}: {setting}: {ratios[setting][-1]:.3f}", file=sys.stderr, flush=True)
    cells = [f"{statistics.median(ratios[x]):.3f}" if x in ratios else "-" for x in STEERED]
    return f"| {' | '.join((name, f'{statistics.median(plain_seconds):.2f} s', *cells))} |"


def peak_of(name: str, watched: bool) -> float:
    """Peak memory in MB of a fresh process that samples once."""
    switches = ["--default"] if "--default" in sys.argv else []
    command = [sys.executable, __file__, name, "--peak", "with" if watched else "without", *switches]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure_peak(name: str, watched: bool) -> None:
    run = CASES[name]()
    run.sample(watch(run.model)[0] if watched else run.model)
    print(peak())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="?", default="", help="only cases whose name holds this")
    parser.add_argument("--steer", action="store_true", help="with I2AM Steer instead")
    parser.add_argument("--default", action="store_true", help="attention as ComfyUI chooses it")
    parser.add_argument("--peak", choices=["with", "without"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    if arguments.peak:
        measure_peak(arguments.case, arguments.peak == "with")
        return
    titles = ["model", "without", *STEERED] if arguments.steer else HEAD
    print(f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|")
    for name in CASES:
        if arguments.case in name:
            print(steered_row(name) if arguments.steer else row(name), flush=True)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
