"""Measure a demo model on held-out scenes, through ComfyUI's own sampler and this pack's own capture.

    scripts/demo --measure

What is measured: PSNR inside the mask; IMACS of both directions; how much of the generated-to-reference
map lies on the object; and for each layer, how often the strongest reference patch of an object patch
is within one patch of the true one.
"""

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import cpu  # noqa: F401  (must come before ComfyUI's other modules)

import comfy.sample  # isort: skip
from ..i2am_core import Attribution, MapKind, Selection, TokenGrid, imacs, maps, share_inside
from ..nodes.comfy.captured import capture_with
from ..nodes.comfy.handle import Capture, Settings
from . import data, sprites
from .subject import CrossAttention, Subject, of_weights
from .weights import WEIGHTS

SCENES = 64
SAMPLER, SCHEDULER, STEPS = "euler", "normal", 20


@dataclass(frozen=True)
class Sampled:
    scenes: data.Scenes
    image: Tensor  # [B, 3, IMAGE, IMAGE]
    attribution: Attribution
    reference: int  # which of the captured ones shows the object


def sample(subject: Subject | None = None, count: int = SCENES, seed: int = 1, steps: int = STEPS) -> Sampled:
    """Paint ``count`` held-out scenes with the stock sampler, captured."""
    held_out = sprites.held_out_sprites()
    spread = torch.arange(count) * len(held_out) // count % len(held_out)
    scenes = data.draw_scenes(held_out[spread], torch.Generator().manual_seed(seed))
    subject = subject or CrossAttention()
    capture = Capture(Settings("auto", "positive", "everywhere", 2**32))
    model = capture_with(subject.model, capture)
    latent = data.to_latent(scenes.masked_image)
    noise = comfy.sample.prepare_noise(latent, seed)
    positive = subject.conditioning(scenes.masked_image, [scenes.reference])
    negative = subject.without_references(count)
    with torch.inference_mode():
        samples = comfy.sample.sample(
            model, noise, steps, 1.0, SAMPLER, SCHEDULER, positive, negative, latent,
            noise_mask=scenes.mask, seed=seed, disable_pbar=True,
        )  # fmt: skip
    return Sampled(scenes, data.to_image(samples), capture.find(samples), subject.object)


def measure(sampled: Sampled) -> dict[str, Any]:
    """Means over the scenes, and the correspondence accuracy of each layer."""
    scenes, attribution = sampled.scenes, sampled.attribution
    psnr = data.psnr(sampled.image, scenes.image, scenes.mask)
    scores = [_scores(sampled, item) for item in range(attribution.items)]
    result: dict[str, Any] = {"scenes": len(scores), "psnr": psnr.mean().item()}
    result |= {name: sum(s[name] for s in scores) / len(scores) for name in scores[0]}
    imacs_scores = {name: torch.tensor([s[name] for s in scores]) for name in ("imacs_r2g", "imacs_g2r_mask")}
    result["imacs with psnr, Spearman"] = {name: correlation(x, psnr) for name, x in imacs_scores.items()}
    result["correspondence"] = {
        layer.name: correspondence_accuracy(sampled, number) for number, layer in enumerate(attribution.layers)
    }
    result["correspondence by geometry alone"] = {str(grid): geometry_accuracy(scenes, grid) for grid in (16, 8)}
    return result


def _scores(sampled: Sampled, item: int) -> dict[str, float]:
    scenes, attribution = sampled.scenes, sampled.attribution
    selection = Selection(item=item, reference=sampled.reference)
    mask = scenes.mask[item, 0]
    object_mask = (scenes.reference_object_mask[item, 0] > 0.5).float()
    cells = F.avg_pool2d(object_mask[None, None], data.PATCH)[0, 0]
    r2g = maps(attribution, MapKind("r2g"), selection=selection).values[0]
    inside, everywhere = (
        maps(attribution, MapKind("g2r"), selection=replace(selection, scope=scope)).values[0]
        for scope in ("inpainting mask", "whole image")
    )
    return {
        "imacs_r2g": imacs(r2g, mask),
        "imacs_g2r_mask": imacs(inside, object_mask),
        "imacs_g2r_whole": imacs(everywhere, object_mask),
        "g2r_on_object_mask": share_inside(inside, cells),
        "g2r_on_object_whole": share_inside(everywhere, cells),
        "object_area": cells.mean().item(),
    }


def correspondence_accuracy(sampled: Sampled, layer: int) -> float:
    """How often the strongest reference patch of an object patch is within one patch of the truth."""
    best = strongest_patches(sampled.attribution, sampled.reference, layer)
    hits, on_object = correspondence_hits(sampled.scenes, best, sampled.attribution.layers[layer].grid)
    return hits[on_object].float().mean().item()


def strongest_patches(attribution: Attribution, reference: int, layer: int) -> Tensor:
    """Of each cell of the picture the reference patch that it looks at most, ``[B, cells]``: pairs 'everywhere'."""
    return attribution.entries[reference, layer].pairs["g2r_pairs"].argmax(-1)  # of [B, cells, M]


def correspondence_hits(scenes: data.Scenes, best: Tensor, grid: TokenGrid) -> tuple[Tensor, Tensor]:
    """Whether patches ``best`` are within one patch of the truth, and which cells show the object: ``[B, cells]``."""
    attended = torch.stack([best % data.GRID, best // data.GRID], -1)
    truth, on_object = true_patches(scenes, grid)
    return ((attended - truth).abs().amax(-1) <= 1), on_object


def true_patches(scenes: data.Scenes, grid: TokenGrid) -> tuple[Tensor, Tensor]:
    """Where in the reference cells come from, ``[B, cells, 2]`` (x, y) in patches, and which show the object."""
    truth = scenes.reference_position(grid.width).flatten(1, 2) / data.PATCH - 0.5
    on_object = F.adaptive_avg_pool2d(scenes.object_mask, (grid.height, grid.width)).flatten(1) > 0.5
    return truth, on_object


def geometry_accuracy(scenes: data.Scenes, grid: int) -> float:
    """The same of a guess that sees nothing of either picture: from the place in the painted square, on ``grid``."""
    hits, on_object = geometry_hits(scenes, grid)
    return hits[on_object].float().mean().item()


def geometry_hits(scenes: data.Scenes, grid: int) -> tuple[Tensor, Tensor]:
    """As ``correspondence_hits``. For each scene, the guess is linear in the place, and fitted to all other scenes."""
    truth, on_object = true_patches(scenes, TokenGrid(grid, grid))
    places = torch.stack([_place_in_square(mask) for mask in F.adaptive_avg_pool2d(scenes.mask, (grid, grid))[:, 0]])
    hits = []
    for scene in range(len(truth)):
        others = torch.arange(len(truth)) != scene
        fitted = torch.linalg.lstsq(places[others][on_object[others]], truth[others][on_object[others]]).solution
        guess = (places[scene] @ fitted).round()
        hits.append((guess - truth[scene]).abs().amax(-1) <= 1)
    return torch.stack(hits), on_object


def _place_in_square(mask: Tensor) -> Tensor:
    """Of each cell its place in the painted square, ``[cells, 3]``: x and y from 0 to 1 inside it, and 1."""
    grid = len(mask)
    low = torch.stack([(mask > 0.5).any(axis).float().argmax() for axis in (0, 1)])
    side = (mask > 0.5).any(0).sum()
    y, x = torch.meshgrid(*2 * [torch.arange(grid) + 0.5], indexing="ij")
    inside = (torch.stack([x, y], -1).flatten(0, 1) - low) / side
    return torch.cat([inside, torch.ones(grid * grid, 1)], 1)


def correlation(one: Tensor, other: Tensor) -> float:
    """Spearman's, of two rows of values; 0 where all of one are equal."""
    a, b = (ranks(x) - ranks(x).mean() for x in (one, other))
    both = a.norm() * b.norm()
    return float(a @ b / both) if both > 0 else 0.0


def ranks(values: Tensor) -> Tensor:
    """Of values ``[n]``, in float64; equal ones share the mean of their ranks."""
    _, place, count = values.unique(return_inverse=True, return_counts=True)
    last = count.cumsum(0).double()
    return (last - (count.double() - 1) / 2)[place]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    print(json.dumps(measure(sample(of_weights(a.weights), a.scenes, a.seed)), indent=2))


if __name__ == "__main__":
    main()
