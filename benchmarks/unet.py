"""Sampling with I2AM Capture over sampling without: U-Nets of true size, random weights, in the real host.

    PYTHONPATH=.host/ComfyUI:.host/placeholders .host/venv/bin/python benchmarks/unet.py

SD1.5 at 512x512 pixels and a slice of SDXL (its widths and heads, fewer blocks in the depth) at 768x768; guidance on,
full levels, all layers, all steps, no pair maps. The cross-attention holds reference tokens alone, which is the
arithmetic of a decoupled mechanism. Two steps each, in turn, and the least of the rounds counts. Extra memory is
by how much the peak of a fresh process is higher with capture than that of one without.
"""

import logging
import subprocess
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

import comfy.model_base  # noqa: E402  # isort: skip
import comfy.model_patcher  # noqa: E402
import comfy.sample  # noqa: E402
import comfy.supported_models  # noqa: E402

from i2am_pack.nodes.host.capture import Capture, Settings  # noqa: E402
from i2am_pack.nodes.host.session import capture_with  # noqa: E402
from i2am_pack.nodes.host.tags import KEY, tag  # noqa: E402

STEPS, ROUNDS = 2, 3
COMMON = dict(
    image_size=32, in_channels=4, out_channels=4, model_channels=320, use_spatial_transformer=True, legacy=False,
    dtype=torch.float32,
)  # fmt: skip
SD15 = COMMON | dict(
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
SDXL_SLICE = COMMON | dict(
    num_res_blocks=[1, 1, 1],
    channel_mult=(1, 2, 4),
    transformer_depth=[0, 1, 2],
    transformer_depth_output=[0, 0, 1, 1, 2, 2],
    transformer_depth_middle=2,
    num_head_channels=64,
    use_linear_in_transformer=True,
    context_dim=2048,
)
CASES = {
    "SD1.5, 16 tokens": (SD15, 64, 16),
    "SD1.5, 257 tokens": (SD15, 64, 257),
    "SDXL slice, 16 tokens": (SDXL_SLICE, 96, 16),
    "SDXL slice, 257 tokens": (SDXL_SLICE, 96, 257),
}


def model(settings: dict) -> comfy.model_patcher.ModelPatcher:
    config = comfy.supported_models.SD15(settings)
    base = comfy.model_base.BaseModel(config, device=torch.device("cpu"))
    torch.manual_seed(0)
    for weight in base.diffusion_model.parameters():
        torch.nn.init.normal_(weight, std=0.02)
    return comfy.model_patcher.ModelPatcher(base, torch.device("cpu"), torch.device("cpu"))


def sample(patcher: comfy.model_patcher.ModelPatcher, side: int, tokens: int) -> tuple[float, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    width = patcher.model.model_config.unet_config["context_dim"]
    reference = torch.randn(1, tokens, width, generator=g)
    positive = [[reference, {KEY: [tag("reference", 0, reference, None)]}]]
    negative = [[torch.randn(1, tokens, width, generator=g), {}]]
    latent = torch.zeros(1, 4, side, side)
    noise = comfy.sample.prepare_noise(latent, 0)
    start = time.perf_counter()
    out = comfy.sample.sample(
        patcher, noise, STEPS, 7.0, "euler", "normal", positive, negative, latent, disable_pbar=True, seed=0
    )
    return time.perf_counter() - start, out


def watch(patcher: comfy.model_patcher.ModelPatcher) -> tuple[comfy.model_patcher.ModelPatcher, Capture]:
    handle = Capture(Settings("auto", "positive", "off", 512 * 2**20))
    return capture_with(patcher, handle), handle


def peak_of(name: str, watched: bool) -> float:
    """Peak memory in MB of a fresh process that samples once."""
    command = [sys.executable, __file__, "--peak", name, "with" if watched else "without"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure_peak(name: str, watched: bool) -> None:
    settings, side, tokens = CASES[name]
    patcher = model(settings)
    sample(watch(patcher)[0] if watched else patcher, side, tokens)
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    print(int(line.split()[1]) / 1024)


def main() -> None:
    logging.disable(logging.WARNING)
    if sys.argv[1:2] == ["--peak"]:
        measure_peak(sys.argv[2], sys.argv[3] == "with")
        return
    print("| model | without | with | with / without | extra memory |\n|---|---|---|---|---|")
    for name, (settings, side, tokens) in CASES.items():
        plain = model(settings)
        watched, handle = watch(plain)
        rounds = [(sample(plain, side, tokens), sample(watched, side, tokens)) for _ in range(ROUNDS)]
        (without, first), (with_capture, second) = (min(x, key=lambda y: y[0]) for x in zip(*rounds, strict=True))
        attribution = handle.find(second)
        assert torch.equal(first, second) and attribution.captured_calls == len(attribution.layers) * STEPS > 0
        memory = peak_of(name, True) - peak_of(name, False)
        ratio = with_capture / without
        print(f"| {name} | {without:.1f} s | {with_capture:.1f} s | {ratio:.3f} | {memory:.0f} MB |", flush=True)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
