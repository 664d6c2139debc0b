"""Measure I2AM Steer on held-out scenes of a demo model, through the node itself and ComfyUI's own sampler.

    scripts/demo --steer

Prints Markdown tables: two references in one context; strengths for a full and for a weakened reference, by output and
by guidance; parts of the reference and of the picture; parts of the run. A distance is the rms over the pixels inside
the inpainting mask, of colours in [0, 1]; PSNR is that inside the mask, against the truth. Both are means over the
scenes, and brackets are 95 % of a bootstrap over scenes.
"""

# ComfyUI's own nodes have no types.
# mypy: allow-untyped-calls

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import cpu  # noqa: F401  (must come before ComfyUI's other modules)

import comfy.sample  # isort: skip
from comfy.model_patcher import ModelPatcher

from ..i2am_core import TokenGrid, cells_of
from ..nodes.steer import I2AMSteer
from . import data, sprites
from .evaluate import SAMPLER, SCENES, SCHEDULER, STEPS
from .results import stored
from .subject import Conditioning, CrossAttention, Subject, of_weights, part_of
from .weights import WEIGHTS

BATCH = 16  # scenes that are sampled together
RESAMPLES = 4000
CHOICES = [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 10.0]  # of one of two references, by attention
STRENGTHS = [0.0, 0.5, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0]  # by output
BY_ATTENTION = [0.0, 0.5, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0]
GUIDED = [0.0, 0.5, 1.0, 1.25, 1.5, 2.0, 3.0]  # by guidance
WEAKENED = {"half": 0.5, "quarter": 0.25}  # what is left of how far a token is from the mean of all
STRENGTHENED = {"attention": [0.0, 1.0, 2.0, 4.0, 10.0], "output": [2.0, 5.0]}  # the weakened one of two
COMPARED = [0.0, 0.5, 5.0]  # strengths at which both ways are compared
UNSTEERED: dict[str, Any] = dict(
    strength=1.0, by="attention", reference=-1, through="everything", branch="both", steps="all", layers="all",
    heads="all", mechanism="auto",
)  # fmt: skip


class Study:
    """Held-out scenes, and what a demo model paints in them, however it is steered.

    ``cache`` is a folder for pictures that are painted: a run that was interrupted goes on from there. It has to be
    emptied where the code or the weights have changed.
    """

    def __init__(
        self, count: int = SCENES, steps: int = STEPS, seed: int = 1, cache: Path | None = None,
        subject: Subject | None = None,
    ) -> None:  # fmt: skip
        self.count, self.steps, self.seed = count, steps, seed
        self.subject = subject or CrossAttention()
        self.cache = None if cache is None else cache / f"{count} scenes, {steps} steps, seed {seed}" / self.subject.key
        held_out = sprites.held_out_sprites()
        spread = torch.arange(count) * len(held_out) // count % len(held_out)
        self.scenes = data.draw_scenes(held_out[spread], torch.Generator().manual_seed(seed))
        self.model = self.subject.model
        self.latent = data.to_latent(self.scenes.masked_image)
        self.conditionings = conditionings(self.subject, self.scenes)
        self.regions = regions(self.scenes)
        self._painted: dict[str, Tensor] = {}
        self._last = self.model  # that sampled: ComfyUI cannot replace one by another clone where it is gone by then

    def paint(self, conditioning: str = "own", **steered: Any) -> Tensor:
        """Pictures ``[B, 3, IMAGE, IMAGE]``, with these inputs of I2AM Steer; regions by their name."""
        key = " ".join([conditioning, *(f"{name}={value}" for name, value in steered.items())])
        if key not in self._painted:
            make = partial(self._all_sampled, conditioning, steered)
            self._painted[key] = (make() if self.cache is None else stored(self.cache, key, make))["image"]
        return self._painted[key]

    def _all_sampled(self, conditioning: str, steered: dict[str, Any]) -> dict[str, Tensor]:
        # Only one mask can be painted on the references of a batch, and these have their objects elsewhere.
        batch = 1 if "reference_region" in steered else BATCH
        parts = torch.arange(self.count).split(batch)
        return {"image": torch.cat([self._sampled(conditioning, part, steered) for part in parts])}

    def _sampled(self, conditioning: str, part: Tensor, steered: dict[str, Any]) -> Tensor:
        model = self.model
        if steered:
            masks = {name: self.regions[value][part] for name, value in steered.items() if name.endswith("_region")}
            (model,) = I2AMSteer.execute(model, **(self.unsteered | steered | masks)).args
        return data.to_image(self._latents(model, self.conditionings[conditioning], part, self.scenes.mask[part]))

    def _latents(
        self, model: ModelPatcher, conditioning: Conditioning, part: Tensor, mask: Tensor | None, noise: int = 0
    ) -> Tensor:
        """What the stock sampler makes of the scenes ``part``; ``noise`` is added to the seed."""
        seed = self.seed + noise
        start = comfy.sample.prepare_noise(self.latent, seed)
        with torch.inference_mode():
            samples: Tensor = comfy.sample.sample(
                model, start[part], self.steps, 1.0, SAMPLER, SCHEDULER, part_of(conditioning, part),
                self.subject.without_references(len(part)), self.latent[part], noise_mask=mask, seed=seed,
                disable_pbar=True,
            )  # fmt: skip
        self._last = model
        return samples

    @property
    def unsteered(self) -> dict[str, Any]:
        """Inputs of I2AM Steer that change nothing, and mean the first object."""
        return UNSTEERED | {"reference": self.subject.object}

    def psnr(self, image: Tensor) -> Tensor:
        """Inside the mask, against the truth, in dB: ``[B]``."""
        return data.psnr(image, self.scenes.image, self.scenes.mask)

    def distance(self, one: Tensor, other: Tensor, where: Tensor | None = None) -> Tensor:
        """Root mean square over the pixels of ``where [B, 1, IMAGE, IMAGE]``, by default the mask: ``[B]``."""
        return data.distance(one, other, self.scenes.mask if where is None else where)


# What is sampled


def conditionings(subject: Subject, scenes: data.Scenes) -> dict[str, Conditioning]:
    """With the scene's own reference, that of another scene, both, and a weakened own one."""
    own, other = scenes.reference, _of_another_scene(scenes.reference)
    result = {"other": subject.conditioning(scenes.masked_image, [other])}
    for name, left in ({"own": 1.0} | {f"own, {name}": left for name, left in WEAKENED.items()}).items():
        result[name] = subject.conditioning(scenes.masked_image, [own], left)
        result[f"{name} + other"] = subject.conditioning(scenes.masked_image, [own, other], left)
    return result


def regions(scenes: data.Scenes) -> dict[str, Tensor]:
    """Masks ``[B, IMAGE, IMAGE]``: of the reference, and the left and right half of the painted square."""
    painted = (scenes.reference_object_mask[:, 0] > 0.5).float()  # as I2AM Demo Scene gives it
    on_object = cells_of(painted, TokenGrid(data.GRID, data.GRID)).reshape(-1, data.GRID, data.GRID)
    background = torch.stack([_as_much_background(cells) for cells in on_object])
    left = torch.stack([_left_half(mask) for mask in scenes.mask[:, 0]])
    return {
        "object": painted,
        "as much background": _pixels(background),
        "all but the object": _pixels(~on_object),
        "left half": left,
        "right half": scenes.mask[:, 0] - left,
    }


def _as_much_background(on_object: Tensor) -> Tensor:
    """As many cells as the object has, or all there are: the farthest from it, into which it has leaked the least."""
    place = on_object.nonzero().float()
    away = torch.cdist((~on_object).nonzero().float(), place).amin(1)
    farthest = (~on_object).flatten().nonzero().flatten()[away.argsort(descending=True, stable=True)]
    chosen = torch.zeros(on_object.numel(), dtype=torch.bool)
    chosen[farthest[: len(place)]] = True
    return chosen.reshape(on_object.shape)


def _left_half(mask: Tensor) -> Tensor:
    """Of a square, in whole cells."""
    columns = mask.any(0).nonzero().flatten()
    middle = columns[0] + len(columns) // (2 * data.PATCH) * data.PATCH
    return mask * (torch.arange(mask.shape[1]) < middle)


def _pixels(cells: Tensor) -> Tensor:
    return F.interpolate(cells[:, None].float(), scale_factor=data.PATCH)[:, 0]


def _of_another_scene(values: Tensor) -> Tensor:
    return values.roll(len(values) // 2, 0)  # far off, since neighbours look alike


# The tables


def two_references(study: Study) -> str:
    """One context with two references: the second counts less or more."""
    first, second = study.paint("own"), study.paint("other")
    pictures = {strength: _two(study, "own + other", strength, second=True) for strength in CHOICES}
    to_first = {s: study.distance(picture, first) for s, picture in pictures.items()}
    to_second = {s: study.distance(picture, second) for s, picture in pictures.items()}
    rows = [
        [f"{s:g}", bracketed(to_first[s], 3), bracketed(to_second[s], 3), bracketed(study.psnr(pictures[s]), 1)]
        for s in CHOICES
    ]
    away, toward = (torch.stack(list(d.values())).diff(dim=0) for d in (to_first, to_second))
    return "\n\n".join(
        [
            "### Two references in one context: strength of the second, by attention",
            table(["strength", "distance to the first alone", "distance to the second alone", "PSNR, dB"], rows),
            f"The first alone and the second alone are {bracketed(study.distance(first, second), 3)} apart. At "
            f"strength 0 the picture differs from that of the first alone {differs(pictures[0.0], first)}.",
            f"From each strength to the next, away from the first in {percent(away > 0)} and closer to the second in "
            f"{percent(toward < 0)} of the scenes; at every one of them in {percent((away > 0).all(0))} and "
            f"{percent((toward < 0).all(0))}.",
        ]
    )


def strengths(study: Study) -> str:
    """One reference, full or weakened, that counts less or more: PSNR, and what is recovered of what was lost."""
    return "\n\n".join(
        ["### One reference: strength by output, PSNR in dB", *_scored(study, "output", STRENGTHS), _both_ways(study)]
    )


def strengths_by_attention(study: Study) -> str:
    """The same by attention, which is not the same where the reference has competitors."""
    return "\n\n".join(
        ["### One reference: strength by attention, PSNR in dB", *_scored(study, "attention", BY_ATTENTION)]
    )


def strengths_by_guidance(study: Study) -> str:
    """The same by guidance, and how the picture differs from one that is muted by output."""
    by_guidance, by_output = (study.paint("own", strength=0.0, by=by) for by in ("guidance", "output"))
    return "\n\n".join(
        [
            "### One reference: strength by guidance, PSNR in dB",
            *_scored(study, "guidance", GUIDED),
            f"The full reference at 0: the picture by guidance differs from that by output "
            f"{differs(by_guidance, by_output)}.",
        ]
    )


def _scored(study: Study, by: str, chosen: Sequence[float]) -> list[str]:
    names = {"full": "own"} | {name: f"own, {name}" for name in WEAKENED}
    scores = {
        name: {s: study.psnr(_alone(study, conditioning, s, by)) for s in chosen}
        for name, conditioning in names.items()
    }
    heads = ["reference", *(f"{s:g}" for s in chosen)]
    means = [[name, *emphasized([x.mean().item() for x in of.values()])] for name, of in scores.items()]
    changes = [
        [name, *("" if s == 1 else bracketed(x - of[1.0], 1, sign=True) for s, x in of.items())]
        for name, of in scores.items()
    ]
    return [table(heads, means), "Change against strength 1, in dB:", table(heads, changes), _recovered(scores)]


def _recovered(scores: dict[str, dict[float, Tensor]]) -> str:
    rows = []
    for name in WEAKENED:
        of, lost = scores[name], scores["full"][1.0] - scores[name][1.0]
        best = max(of, key=lambda s: of[s].mean().item())
        share = of[best].sub(of[1.0]).mean() / lost.mean()
        rows.append([name, bracketed(lost, 1), f"{best:g}", bracketed(of[best] - of[1.0], 1), f"{share:.0%}"])
    return table(["reference", "lost, dB", "best strength tried", "recovered there, dB", "of what was lost"], rows)


def _both_ways(study: Study) -> str:
    both_ways = [
        torch.stack([_alone(study, "own", s), study.paint("own", strength=s, by="attention")]) for s in COMPARED
    ]
    by_output, by_attention = torch.stack(both_ways, 1)
    ten = study.psnr(study.paint("own", strength=10.0, by="attention"))
    return (
        f"The full reference at {', '.join(f'{s:g}' for s in COMPARED)}: the picture by attention differs from that by "
        f"output {differs(by_attention, by_output)}. At 10, which only attention has: {bracketed(ten, 1)} dB."
    )


def weakened_beside_another(study: Study) -> str:
    """Two references in one context, of which the right one is weakened: it is strengthened, or the other is muted."""
    context = "own, half + other"
    pictures = {
        (by, s): study.paint(context, **({} if s == 1 else dict(strength=s, by=by)))
        for by, chosen in STRENGTHENED.items()
        for s in chosen
    }
    plain, muted = study.psnr(pictures["attention", 1.0]), study.psnr(_two(study, context, 0.0, second=True))
    rows = [
        [by, f"{s:g}", *_against(study.psnr(x), plain),
         *(bracketed(study.distance(x, study.paint(name)), 3) for name in ("own, half", "other"))]
        for (by, s), x in pictures.items()
    ]  # fmt: skip
    heads = ["by", "strength of the right one", "PSNR, dB", "change, dB", "distance to it alone", "to the other alone"]
    return "\n\n".join(
        [
            "### The right reference, weakened to half, beside a full one of another object",
            table(heads, rows),
            f"With the other muted instead: {bracketed(muted, 1)} dB. The weakened one alone: "
            f"{bracketed(study.psnr(study.paint('own, half')), 1)} dB. Both, neither weakened: "
            f"{bracketed(study.psnr(study.paint('own + other')), 1)} dB.",
        ]
    )


def parts_of_the_reference(study: Study) -> str:
    """The object muted, against as much background, and all of the background."""
    plain, scenes = study.paint("own"), study.scenes
    on_object = (scenes.object_mask > 0.5) * scenes.mask
    places = (on_object, scenes.mask - on_object)
    names = ["object", "as much background", "all but the object"]
    cells = {name: F.avg_pool2d(study.regions[name][:, None], data.PATCH).flatten(1).gt(0.5).sum(1) for name in names}
    cells["everything"] = torch.full_like(cells["object"], data.GRID**2)
    pictures = {name: study.paint("own", strength=0.0, reference_region=name) for name in names}
    pictures["everything"] = study.paint("own", strength=0.0, by="output")
    rows = [
        [name, f"{cells[name].float().mean():.0f}", *_against(study.psnr(picture), study.psnr(plain)),
         *(bracketed(study.distance(picture, plain, where), 3) for where in places)]
        for name, picture in pictures.items()
    ]  # fmt: skip
    short = cells["as much background"] < cells["object"]
    change = study.psnr(pictures["as much background"]) - study.psnr(plain)
    heads = [
        "muted",
        f"cells of {data.GRID**2}",
        "PSNR, dB",
        "change, dB",
        "distance to the plain picture, on the object",
    ]
    return "\n\n".join(
        [
            "### Parts of the reference, muted by attention",
            table([*heads, "beside it, in the mask"], rows),
            f"PSNR of the plain picture: {bracketed(study.psnr(plain), 1)} dB. In {int(short.sum())} of {study.count} "
            "scenes the background has fewer cells than the object, so that all of it is muted; as much background "
            f"changes the others by {bracketed(change[~short], 2, sign=True)} dB.",
        ]
    )


def parts_of_the_picture(study: Study) -> str:
    """The reference muted in the left half of the painted square alone."""
    plain, picture = study.paint("own"), study.paint("own", strength=0.0, generated_region="left half")
    everywhere = study.paint("own", strength=0.0, by="output")
    rows = []
    for name in ("left half", "right half"):
        where = study.regions[name][:, None]
        rows.append([name, *(bracketed(study.distance(x, plain, where), 3) for x in (picture, everywhere))])
    return "\n\n".join(
        [
            "### The reference muted in the left half of the painted square",
            table(["distance to the plain picture", "muted in the left half", "muted everywhere"], rows),
        ]
    )


def parts_of_the_run(study: Study) -> str:
    """The reference muted in the first and in the second half of the steps."""
    plain, middle = study.paint("own"), study.steps // 2
    chosen = {f"0-{middle - 1}": "first half", f"{middle}-{study.steps - 1}": "second half"}
    rows = [[f"{name} ({steps})", *_muted(study, plain, strength=0.0, steps=steps)] for steps, name in chosen.items()]
    rows.append(["all", *_muted(study, plain, strength=0.0, by="output")])
    return "\n\n".join(
        [
            "### The reference muted in some of the steps",
            table(["steps", "PSNR, dB", "change, dB", "distance to the plain picture"], rows),
        ]
    )


def _two(study: Study, context: str, strength: float, second: bool) -> Tensor:
    """One of two objects counts otherwise, by attention."""
    reference = study.subject.object + second
    return study.paint(context, **({} if strength == 1 else dict(strength=strength, reference=reference)))


def _alone(study: Study, conditioning: str, strength: float, by: str = "output") -> Tensor:
    """One reference that is all of its context counts otherwise."""
    return study.paint(conditioning, **({} if strength == 1 else dict(strength=strength, by=by)))


def _muted(study: Study, plain: Tensor, **steered: Any) -> list[str]:
    picture = study.paint("own", **steered)
    return [*_against(study.psnr(picture), study.psnr(plain)), bracketed(study.distance(picture, plain), 3)]


def _against(scores: Tensor, plain: Tensor) -> list[str]:
    return [bracketed(scores, 1), bracketed(scores - plain, 1, sign=True)]


# How they are written


def interval(values: Tensor) -> tuple[float, float]:
    """In which 95 % of the means lie of as many scenes as there are values ``[B]``, drawn from these."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(values), (RESAMPLES, len(values)), generator=generator)
    low, high = values[drawn].mean(1).quantile(torch.tensor([0.025, 0.975], dtype=values.dtype)).tolist()
    return low, high


def bracketed(values: Tensor, decimals: int, sign: bool = False) -> str:
    """The mean of values ``[B]`` of scenes, and its ``interval``."""
    form = f"{'+' if sign else ''}.{decimals}f"
    numbers = (values.mean().item(), *interval(values))
    mean, low, high = (round(x, decimals) + 0.0 for x in numbers)  # 0.0: no minus before it
    return f"{mean:{form}} [{low:{form}}, {high:{form}}]"


def differs(one: Tensor, other: Tensor) -> str:
    """How much two pictures do, at most."""
    most = (one - other).abs().max().item()
    return f"by up to {most:.2g} in a pixel" if most else "in no bit"


def percent(holds: Tensor) -> str:
    return f"{holds.float().mean().item():.0%}"


def emphasized(values: Sequence[float]) -> list[str]:
    """Numbers of one row, the highest in bold."""
    return [f"**{x:.1f}**" if x == max(values) else f"{x:.1f}" for x in values]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


TABLES = [
    two_references, strengths, strengths_by_guidance, parts_of_the_reference, parts_of_the_picture, parts_of_the_run,
    weakened_beside_another,
]  # fmt: skip
# It was never given two objects, and its object has competitors: scene, text and the picture itself.
JOINT_TABLES = [
    strengths, strengths_by_attention, strengths_by_guidance, parts_of_the_reference, parts_of_the_picture,
    parts_of_the_run,
]  # fmt: skip


def tables_of(study: Study) -> Sequence[Callable[[Study], str]]:
    """Those that a demo model has."""
    return TABLES if isinstance(study.subject, CrossAttention) else JOINT_TABLES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--cache", type=Path, help="a folder from which an interrupted run goes on")
    a = parser.parse_args()
    study = Study(a.scenes, a.steps, cache=a.cache, subject=of_weights(a.weights))
    for make in tables_of(study):
        sys.stdout.write(make(study) + "\n\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
