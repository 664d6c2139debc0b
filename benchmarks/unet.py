"""Sampling with I2AM Capture over sampling without: a U-Net of SD1.5's size, random weights, in the real host.

    PYTHONPATH=.host/ComfyUI:.host/placeholders .host/venv/bin/python benchmarks/unet.py

512x512 pixels, guidance on, full levels, all layers, all steps, no pair maps; the reference tokens follow 77 text
tokens in the same cross-attention. Two steps each, in turn, and the least of the rounds counts.
"""

import logging
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

STEPS, ROUNDS = 2, 2
CONFIG = dict(
    image_size=32,
    in_channels=4,
    out_channels=4,
    model_channels=320,
    num_res_blocks=[2, 2, 2, 2],
    channel_mult=(1, 2, 4, 4),
    transformer_depth=[1, 1, 1, 1, 1, 1, 0, 0],
    transformer_depth_output=[1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    transformer_depth_middle=1,
    num_heads=8,
    num_head_channels=-1,
    use_spatial_transformer=True,
    use_linear_in_transformer=False,
    context_dim=768,
    legacy=False,
    dtype=torch.float32,
)


def model() -> comfy.model_patcher.ModelPatcher:
    config = comfy.supported_models.SD15(CONFIG)
    base = comfy.model_base.BaseModel(config, device=torch.device("cpu"))
    torch.manual_seed(0)
    for weight in base.diffusion_model.parameters():
        torch.nn.init.normal_(weight, std=0.02)
    return comfy.model_patcher.ModelPatcher(base, torch.device("cpu"), torch.device("cpu"))


def sample(patcher: comfy.model_patcher.ModelPatcher, tokens: int) -> tuple[float, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    text, reference = torch.randn(1, 77, 768, generator=g), torch.randn(1, tokens, 768, generator=g)
    positive = [[torch.cat([text, reference], 1), {KEY: [tag("reference", 77, reference, None)]}]]
    negative = [[torch.randn(1, 77 + tokens, 768, generator=g), {}]]
    latent = torch.zeros(1, 4, 64, 64)
    noise = comfy.sample.prepare_noise(latent, 0)
    start = time.perf_counter()
    out = comfy.sample.sample(
        patcher, noise, STEPS, 7.0, "euler", "normal", positive, negative, latent, disable_pbar=True, seed=0
    )
    return time.perf_counter() - start, out


def main() -> None:
    logging.disable(logging.WARNING)
    plain = model()
    print("| reference tokens | without | with | with / without |\n|---|---|---|---|")
    for tokens in [int(count) for count in sys.argv[1:]] or [16, 257]:
        handle = Capture(Settings("auto", "positive", "off", 512 * 2**20))
        watched = capture_with(plain, handle)
        rounds = [(sample(plain, tokens), sample(watched, tokens)) for _ in range(ROUNDS)]
        (without, first), (with_capture, second) = (min(x, key=lambda y: y[0]) for x in zip(*rounds, strict=True))
        assert torch.equal(first, second) and handle.find(second).captured_calls == 16 * STEPS
        ratio = with_capture / without
        print(f"| {tokens} | {without:.1f} s | {with_capture:.1f} s | {ratio:.3f} |", flush=True)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
