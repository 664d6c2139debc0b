"""Train the demo model. Resumable: run the same command again after an interrupt.

    PYTHONPATH=.host/ComfyUI:.host/placeholders .host/venv/bin/python -m demo.train --run runs/demo

Needs a ComfyUI on the path (as ``scripts/demo`` prepares one) and the Noto Color Emoji font. Every step
draws its scenes, noise and timesteps from a generator seeded by the step number, so a resumed run sees
what an uninterrupted one would have seen.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import cpu  # noqa: F401  (must come before the network, which imports ComfyUI)

from . import data, network, sprites, training  # isort: skip

TIMESTEPS = 1000
# The cross-attention layers that are trained on the true correspondence. The others are free.
SUPERVISED = (("output", 2), ("output", 3))
# Once these two are aligned, a coarse layer joins them, and the consistency loss begins: in every layer the
# reference as a whole should act in the mask, most of all on the object.
CONSISTENT_FROM = 2500  # step
ATTENTION_WEIGHTS = (0.02, 0.03)  # of the attention losses, before that step and after
SUPERVISED_LATER = (("output", 1),)
MARGIN_WEIGHT = 0.3  # of a cell in the mask beside the object, where the object's own cells weigh 1
DROP_REFERENCE = 0.05  # scenes trained without a reference, so that guidance has a negative
WARM_UP = 200  # steps
DECAY = 0.3  # share of the run, at its end, over which the learning rate falls to zero
EXPORTED = (500, 1000, 2000, 4000)  # steps whose weights are exported

Block = tuple[str, int]


class DemoModel(nn.Module):
    """Denoiser and reference encoder, trained together."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = network.build_unet(training.TrainableOperations)
        self.encoder = network.ReferenceEncoder(training.TrainableOperations)
        last = self.unet.out[-1]
        assert isinstance(last, nn.Conv2d)
        with torch.no_grad():
            last.weight.mul_(0.1)

    def forward(
        self, noisy: Tensor, t: Tensor, scenes: data.Scenes, keep_reference: Tensor
    ) -> tuple[Tensor, dict[Block, Tensor]]:
        """The predicted clean latent, and the logits of every cross-attention ``[B, H, N, M]``."""
        tokens = self.encoder(data.to_latent(scenes.reference)) * keep_reference[:, None, None]
        mask = F.avg_pool2d(scenes.mask, data.PATCH)
        x = torch.cat([noisy, mask, network.mask_coordinates(mask), data.to_latent(scenes.masked_image)], 1)
        watch = AttentionWatch()
        x0 = self.unet(x, t, context=tokens, transformer_options=watch.options())
        return x0, watch.logits


class AttentionWatch:
    """Runs every attention call through SDPA and keeps the logits of cross-attention."""

    def __init__(self) -> None:
        self.logits: dict[Block, Tensor] = {}
        self._cross = False  # ComfyUI runs attn2_patch right before a cross-attention, and before no other attention

    def options(self) -> dict[str, Any]:
        """ComfyUI's ``transformer_options`` of a forward pass that is watched."""
        return {"optimized_attention_override": self.attend, "patches": {"attn2_patch": [self.expect_cross]}}

    def expect_cross(self, n: Tensor, context: Tensor, value: Tensor, _options: dict) -> tuple[Tensor, ...]:
        self._cross = True
        return n, context, value

    def attend(
        self, _attention: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, heads: int, *args: Any, **kwargs: Any
    ) -> Tensor:
        cross, self._cross = self._cross, False
        q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
        if cross:
            self.logits[kwargs["transformer_options"]["block"]] = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def correspondence_loss(logits: Tensor, scenes: data.Scenes, keep: Tensor) -> Tensor:
    """Cross-entropy of a layer's head-mean attention ``[B, H, N, M]`` to the true place, over object patches."""
    grid = math.isqrt(logits.shape[2])
    position = scenes.reference_position(grid).flatten(1, 2) / data.PATCH - 0.5  # [B, N, (x, y)], in cells
    weight = (1 - (position[..., None] - torch.arange(data.GRID)).abs()).clamp(min=0)  # bilinear
    target = (weight[:, :, 1, :, None] * weight[:, :, 0, None, :]).flatten(2)
    rows = (_cover(scenes.object_mask, grid) > 0.5) * keep[:, None]
    cross_entropy = -(target * (logits.softmax(-1).mean(1) + 1e-8).log()).sum(-1)
    return (cross_entropy * rows).sum() / rows.sum().clamp(min=1)


def consistency_loss(logits: Tensor, scenes: data.Scenes, keep: Tensor) -> Tensor:
    """Divergence of a layer's reference-to-generated map from where the reference should act."""
    grid = math.isqrt(logits.shape[2])
    wanted = _cover(scenes.mask, grid) * (MARGIN_WEIGHT + (1 - MARGIN_WEIGHT) * _cover(scenes.object_mask, grid))
    wanted = wanted / wanted.sum(1, keepdim=True)
    acting = logits.softmax(-2).mean((1, 3))  # [B, N]
    divergence = (wanted * ((wanted + 1e-8).log() - (acting + 1e-8).log())).sum(1)
    return (divergence * keep).sum() / keep.sum().clamp(min=1)


def _cover(mask: Tensor, grid: int) -> Tensor:
    return F.avg_pool2d(mask, data.IMAGE // grid).flatten(1)


def noise_schedule() -> Tensor:
    """Stable Diffusion's alpha-bar for each timestep, ``[TIMESTEPS]``."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, TIMESTEPS, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float()


@dataclass
class Losses:
    picture: Tensor
    correspondence: Tensor
    consistency: Tensor


def losses(
    model: DemoModel, sprite_set: Tensor, alpha_bar: Tensor, batch: int, step: int, g: torch.Generator
) -> Losses:
    chosen = sprite_set[torch.randint(len(sprite_set), (batch,), generator=g)]
    scenes = data.draw_scenes(chosen, g, augment=True)
    x0 = data.to_latent(scenes.image)
    t = torch.randint(TIMESTEPS, (batch,), generator=g)
    level = alpha_bar[t][:, None, None, None]
    noisy = level.sqrt() * x0 + (1 - level).sqrt() * torch.randn(x0.shape, generator=g)
    keep = (torch.rand(batch, generator=g) >= DROP_REFERENCE).float()

    predicted, logits = model(noisy, t.float(), scenes, keep)
    picture = training.picture_loss(predicted, x0, scenes.mask)

    later = step >= CONSISTENT_FROM
    aligned = [
        correspondence_loss(logits[block], scenes, keep) for block in SUPERVISED + (SUPERVISED_LATER if later else ())
    ]
    consistent = [consistency_loss(x, scenes, keep) for x in logits.values()] if later else [torch.zeros(())]
    return Losses(picture, torch.stack(aligned).mean(), torch.stack(consistent).mean())


@torch.no_grad()
def quick_check(model: DemoModel, held_out: Tensor, alpha_bar: Tensor) -> dict[str, float]:
    """One prediction from pure noise on 64 held-out scenes: PSNR in the mask, and correspondence accuracy."""
    g = torch.Generator().manual_seed(1)
    scenes = data.draw_scenes(held_out[torch.arange(64) % len(held_out)], g)
    x0 = data.to_latent(scenes.image)
    level = alpha_bar[-1]
    noisy = level.sqrt() * x0 + (1 - level).sqrt() * torch.randn(x0.shape, generator=g)
    predicted, logits = model(noisy, torch.full((64,), TIMESTEPS - 1.0), scenes, torch.ones(64))
    result = {"psnr": data.psnr(data.to_image(predicted), scenes.image, scenes.mask).mean().item()}
    truth = scenes.reference_position(data.GRID).flatten(1, 2) / data.PATCH - 0.5
    rows = _cover(scenes.object_mask, data.GRID) > 0.5
    for block in SUPERVISED:
        best = logits[block].softmax(-1).mean(1).argmax(-1)
        attended = torch.stack([best % data.GRID, best // data.GRID], -1)
        near = (attended - truth).abs().amax(-1) <= 1
        result[f"accuracy_{block[0]}_{block[1]}"] = near[rows].float().mean().item()
    result["consistency"] = (
        torch.stack([consistency_loss(x, scenes, torch.ones(64)) for x in logits.values()]).mean().item()
    )
    return result


class DemoTask:
    changes_in_place = False

    def __init__(self, font: str, batch: int, peak: float, seed: int) -> None:
        torch.manual_seed(seed)
        self.batch, self.peaks = batch, (peak,)
        self.sprites, self.held_out = sprites.render_font(font)
        self.alpha_bar = noise_schedule()
        self.model, self.average = DemoModel(), DemoModel().requires_grad_(False)
        self.average.load_state_dict(self.model.state_dict())
        self.optimizers = (torch.optim.AdamW(self.model.parameters(), weight_decay=0.01, betas=(0.9, 0.98)),)

    def losses(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        loss = losses(self.model, self.sprites, self.alpha_bar, self.batch, step, generator)
        weight = ATTENTION_WEIGHTS[step >= CONSISTENT_FROM]
        return loss.picture + weight * (loss.correspondence + loss.consistency), vars(loss)

    def check(self) -> dict[str, float]:
        return quick_check(self.average, self.held_out, self.alpha_bar)


def main() -> None:
    parser = training.parser(__doc__, steps=5500)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    a = parser.parse_args()
    rate = partial(training.warm_up_and_decay, warm_up=WARM_UP, decay=DECAY)
    task = DemoTask(a.font, a.batch, a.rate, a.seed)
    training.train(a.run, task, a.steps, a.seed, rate, EXPORTED, {"batch": a.batch})


if __name__ == "__main__":
    main()
