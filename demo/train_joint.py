"""Train the joint demo model, by the loss of the picture alone. Resumable: run the same command again.

    PYTHONPATH=.host/ComfyUI:.host/placeholders .host/venv/bin/python -m demo.train_joint --run runs/joint

Needs what ``demo.train`` needs. No loss looks at the attention: what it does, it learned by itself. That takes long
from nothing, so scenes begin easy: at first the object is in the picture where its reference shows it, and moves away.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import cpu  # noqa: F401  (must come before the network, which imports ComfyUI)

import comfy.model_management  # isort: skip

from . import data, joint_network, sprites, training  # isort: skip

BATCH = 8
RATES = (0.02, 1e-3)  # the highest of Muon (matrices of the blocks) and of AdamW (the rest)
WARM_UP, DECAY = 100, 0.3
DISPLACED = 400  # steps until objects are as far from where their reference shows them as in the demo
EXPORTED = (500, 1500)


def attend(_attention: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """An attention with a gradient; q, k, v are ``[B, heads, tokens, size]``."""
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class JointTask:
    changes_in_place = True

    def __init__(self, font: str, seed: int) -> None:
        torch.manual_seed(seed)
        self.sprites, self.held_out = sprites.render_font(font)
        self.model = joint_network.build_flux(training.TrainableOperations)
        for name, weight in self.model.named_parameters():
            if name.endswith("norm.scale"):  # ComfyUI's own class, which leaves it uninitialized
                nn.init.ones_(weight)
        with torch.no_grad():
            self.model.final_layer.linear.weight.mul_(0.1)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        named = list(self.model.named_parameters())
        matrices = [weight for name, weight in named if "blocks" in name and weight.ndim == 2]
        others = [weight for name, weight in named if "blocks" not in name or weight.ndim != 2]
        self.peaks = RATES
        self.optimizers = (
            torch.optim.Muon(matrices, RATES[0], weight_decay=0.0, adjust_lr_fn="original"),
            torch.optim.AdamW(others, RATES[1], weight_decay=0.01, betas=(0.9, 0.98)),
        )

    def losses(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        chosen = self.sprites[torch.randint(len(self.sprites), (BATCH,), generator=generator)]
        scenes = data.draw_scenes(chosen, generator, augment=True, displaced=min(1.0, step / DISPLACED))
        clean = data.to_latent(scenes.image)
        noise = torch.randn(clean.shape, generator=generator)
        sigma = torch.rand(BATCH, generator=generator).sqrt()  # noisy ones more often: there the object is decided on
        s = sigma[:, None, None, None]
        predicted = predict(self.model, (1 - s) * clean + s * noise, sigma, scenes.masked_image, scenes.reference)
        picture = training.picture_loss(predicted, clean, scenes.mask)
        return picture, {"picture": picture}

    @torch.no_grad()
    def check(self) -> dict[str, float]:
        """PSNR of one prediction from pure noise on 64 held-out scenes: in the mask by object, and outside."""
        generator = torch.Generator().manual_seed(1)
        scenes = data.draw_scenes(self.held_out[torch.arange(64) % len(self.held_out)], generator)
        noise = torch.randn(data.to_latent(scenes.image).shape, generator=generator)
        objects = {
            "": scenes.reference,
            "_another_object": scenes.reference.roll(1, 0),
            "_blank": torch.full_like(scenes.reference, 0.5),
        }
        result = {}
        for name, reference in objects.items():
            predicted = data.to_image(predict(self.average, noise, torch.ones(64), scenes.masked_image, reference))
            result[f"psnr{name}"] = data.psnr(predicted, scenes.image, scenes.mask).mean().item()
            if not name:
                result["psnr_outside"] = data.psnr(predicted, scenes.image, 1 - scenes.mask).mean().item()
        return result


def predict(model: nn.Module, noisy: Tensor, sigma: Tensor, scene: Tensor, reference: Tensor) -> Tensor:
    """The clean latents ``[B, 48, GRID, GRID]`` that the model sees in noisy ones, given images of both references."""
    text = joint_network.text().expand(len(noisy), -1, -1).clone()
    references = [data.to_latent(image) for image in (scene, reference)]
    with torch.autocast("cpu", torch.bfloat16), in_training():
        predicted: Tensor = model(
            noisy, sigma, text, ref_latents=references, transformer_options={"optimized_attention_override": attend}
        )
    return predicted.float()


@contextmanager
def in_training() -> Iterator[None]:
    """What newer cores must be told, since some of their kernels have no gradients."""
    management: Any = comfy.model_management
    before = getattr(management, "in_training", False)
    management.in_training = True
    try:
        yield
    finally:
        management.in_training = before


def main() -> None:
    a = training.parser(__doc__, steps=3300).parse_args()
    rate = partial(training.warm_up_and_decay, warm_up=WARM_UP, decay=DECAY)
    training.train(a.run, JointTask(a.font, a.seed), a.steps, a.seed, rate, EXPORTED, {"batch": BATCH})


if __name__ == "__main__":
    main()
