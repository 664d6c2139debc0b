"""Measure I2AM Effect on held-out scenes of a demo model: does it say what a reference really changed?

    scripts/demo --effect

Effect is measured within one run. What it is held against is the finished picture of *whole* runs: without the
reference, without one of 16 regions of it, with only this region left, with the region's pixels painted over, with
another reference, from another noise. Prints Markdown tables: the Spearman correlation in each scene, as the mean over
scenes; brackets are 95 % of a bootstrap over scenes. Beside Effect stand the maps of attention of the same run, and
where the object is.
"""

# ComfyUI's own nodes have no types.
# mypy: allow-untyped-calls

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from . import cpu  # noqa: F401  (must come before ComfyUI's other modules)

from comfy.model_patcher import ModelPatcher  # isort: skip
from PIL import Image

from ..i2am_core import (
    CUTS,
    Attribution,
    Cut,
    MapKind,
    Reference,
    RegionRemoval,
    Removal,
    Row,
    Selection,
    TokenGrid,
    colorize,
    contact_sheet,
    effect_maps,
    heat,
    imacs,
    maps,
    overlay,
    regions_of,
)
from ..nodes.comfy import handle
from ..nodes.comfy.captured import capture_with
from ..nodes.comfy.consumer_watch import ConsumerWatch
from ..nodes.comfy.consumers.take_away import TakeAway
from ..nodes.comfy.measured import effect_with
from ..nodes.comfy.removals import Settings
from ..nodes.comfy.run import watched
from ..nodes.steer import I2AMSteer
from . import data, steer
from .evaluate import SCENES, correlation
from .results import stored
from .steer import bracketed, table
from .subject import Conditioning, Subject, of_weights
from .weights import WEIGHTS

STEPS = 10
BATCH = 8  # scenes that are sampled together
PER_SIDE = 4  # regions of the reference
REGIONS = TokenGrid(PER_SIDE, PER_SIDE)
NOTHING_MORE = Settings()
WITH_REGIONS = Settings(regions=PER_SIDE, cuts=CUTS)
PAINTED_OVER = ("background", "mean", "blurred")  # how pixels of a region are changed, see reference_images
HOLDS = 0.1  # of a region's pixels that show the object, where the region holds it
BLURRED = 8  # px
MUTED = 0.25
OTHER_NOISE = 1  # added to the seed
RIGHT, WRONG = "the right one", "that of another scene"
RESAMPLES = 4000
NO_SHARE = "share has no map here: the reference is all there is to look at, and its share is 1 everywhere."


@dataclass(frozen=True)
class Trial:
    """One way to paint the scenes: with which reference, from which noise, and what is taken away in all steps."""

    reference: str = "own"
    removed: Removal | RegionRemoval | None = None
    noise: int = 0  # added to the seed

    @property
    def key(self) -> str:
        """A name for a file."""
        removed = self.removed
        what = f"without {removed.owner}" if isinstance(removed, Removal) else "plain"
        if isinstance(removed, RegionRemoval):
            what = f"{removed.number} {removed.cut}"
        return f"{self.reference}, {what}, noise {self.noise}"


PLAIN = Trial()


class Study(steer.Study):
    """Held-out scenes, what a demo model paints in them, and what I2AM Effect measured meanwhile.

    ``cache`` is a folder for results: a run that was interrupted goes on from there. It has to be emptied where the
    code has changed.
    """

    def __init__(
        self, count: int = SCENES, steps: int = STEPS, seed: int = 1, cache: Path | None = None,
        subject: Subject | None = None, first: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(count, steps, seed, cache, subject)
        self.in_mask = F.avg_pool2d(self.scenes.mask, data.PATCH).flatten(1) > 0.5  # [B, cells]
        # Every part of this order is spread over all objects, so that tables of the first few scenes are, too.
        self.order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:first]

    def pictures(self, trial: Trial) -> Tensor:
        """Of all scenes in ``order``, the finished pictures ``[n, 3, IMAGE, IMAGE]``."""
        if trial == PLAIN:  # that of the run which was measured: a test says that it is the same to the bit
            return self.measured()["image"]
        parts = [
            self._cached(trial.key, part, partial(self._image_of, trial, part))["image"]
            for part in self.order.split(BATCH)
        ]
        return torch.cat(parts)

    def measured(self, reference: str = "own", strength: float = 1.0) -> dict[str, Tensor]:
        """Of all scenes in ``order``, what one run of each gave (see ``_measured_in``)."""
        make = partial(self._measured_in, reference, strength)
        parts = [
            self._cached(f"measured, {reference} {strength:g}", part, partial(make, part))
            for part in self.order.split(BATCH)
        ]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def run(
        self, model: ModelPatcher, reference: str, part: Tensor, noise: int = 0, painted: bool = True
    ) -> Tensor:  # fmt: skip
        """Latents of the scenes ``part``, by the stock sampler; ``painted``: whether it gets the mask."""
        mask = self.scenes.mask[part] if painted else None
        return self._latents(model, self._conditioning(reference), part, mask, noise)

    def attribution(
        self, reference: str, strength: float, part: Tensor, settings: Settings, painted: bool = True
    ) -> tuple[Tensor, Attribution]:
        """Latents of the scenes ``part``, and what was captured and, by these settings of Effect, measured meanwhile.

        ``painted`` as in ``run``.
        """
        model, capture = self.model, handle.Capture(handle.Settings("auto", "positive", "off", 2**32))
        if strength != 1:
            (model,) = I2AMSteer.execute(model, **(self.unsteered | {"strength": strength})).args
        model = effect_with(capture_with(model, capture), settings)
        samples = self.run(model, reference, part, painted=painted)
        return samples, capture.find(samples)

    def _image_of(self, trial: Trial, part: Tensor) -> dict[str, Tensor]:
        return {"image": self._painted_in(trial, part)}

    def _painted_in(self, trial: Trial, part: Tensor) -> Tensor:
        model, removed = self.model, trial.removed
        if removed is not None:
            model = taken_away(model, removed)
        return data.to_image(self.run(model, trial.reference, part, trial.noise))

    def _measured_in(self, reference: str, strength: float, part: Tensor) -> dict[str, Tensor]:
        """Effects ``[B, measured steps, cells]``, of regions by cut ``[B, regions, cells]``, maps of attention."""
        settings = WITH_REGIONS if (reference, strength) == ("own", 1.0) else NOTHING_MORE
        samples, attribution = self.attribution(reference, strength, part, settings)
        effects = attribution.effects
        assert effects is not None
        assert not effects.unmeasured
        owner = self.subject.object
        steps = effects.steps(owner)
        items = range(attribution.items)
        result = {
            "image": data.to_image(samples),
            "steps": torch.tensor([steps] * len(part)),
            "effect": torch.stack([effects.maps[Removal(step, owner)] for step in steps], 1),
            "floor": effects.floor,
            "imacs": torch.tensor(
                [imacs(map_of(attribution, "r2g_paper", owner, n), self.scenes.mask[part][n, 0]) for n in items]
            ),
        }
        for key in ("r2g_paper", "r2g_share", "g2r_paper", "g2r_share"):
            result[key] = torch.stack([map_of(attribution, key, owner, n) for n in items])
        return result | {cut: x.values for (number, cut), x in effects.regions.items() if number == owner}

    def _cached(self, name: str, part: Tensor, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """By the numbers of its scenes: where fewer or more are drawn, the last part has others."""
        if self.cache is None:
            return make()
        scenes = "-".join(map(str, part.tolist()))
        return stored(self.cache, f"{name}, scenes {scenes}", make)

    def _conditioning(self, reference: str) -> Conditioning:
        if reference not in self.conditionings:
            self.conditionings[reference] = self._encoded(reference)
        return self.conditionings[reference]

    def _encoded(self, reference: str) -> Conditioning:
        """Of one object, or of two such as 'own + other'."""
        images = [reference_images(self.scenes, name) for name in reference.split(" + ")]
        return self.subject.conditioning(self.scenes.masked_image, images)

    @property
    def alone(self) -> bool:
        """Whether the reference is all there is to look at: then share is 1 everywhere, and has no map."""
        return self.subject.alone

    @property
    def without(self) -> Trial:
        """The object's reference is taken away in all steps."""
        return Trial(removed=Removal(0, self.subject.object))

    def without_region(self, number: int, cut: Cut) -> Trial:
        return Trial(removed=RegionRemoval(0, "everything", self.subject.object, cut, REGIONS, number))

    # What is held against each other, all in the scenes of ``order``

    def change(self, one: Tensor, other: Tensor) -> Tensor:
        """What pictures differ by in each cell: ``[n, cells]``."""
        return F.avg_pool2d((one - other).square().mean(1, keepdim=True), data.PATCH).sqrt().flatten(1)

    def change_by_region(self, how: str) -> Tensor:
        """What the picture changes by in the mask, for each region of the reference: ``[n, regions]``.

        ``how`` is a cut, of which 'only this left' is compared with the picture without the reference, or one of
        ``PAINTED_OVER``.
        """
        numbers = range(REGIONS.cells)
        if how in PAINTED_OVER:
            trials = [Trial(f"{how} {number}") for number in numbers]
        else:
            trials = [self.without_region(number, cast("Cut", how)) for number in numbers]
        against = self.pictures(self.without if how == "only this left" else PLAIN)
        where = self.scenes.mask[self.order]
        return torch.stack([self.distance(self.pictures(trial), against, where) for trial in trials], 1)

    def in_mask_of(self, values: Tensor) -> Tensor:
        """The root mean square in the mask, of effects ``[n, ..., cells]``."""
        inside = self.in_mask[self.order[: len(values)]].float()
        inside = inside.view(len(values), *[1] * (values.ndim - 2), -1)
        return ((values.square() * inside).sum(-1) / inside.sum(-1)).sqrt()


def taken_away(model: ModelPatcher, removed: Removal | RegionRemoval) -> ModelPatcher:
    """The model without a reference or a part of it, in all steps. References are numbered as they are met."""

    def consumers() -> list[TakeAway]:
        numbers: dict[Reference, int] = {}
        return [TakeAway(removed, lambda reference: numbers.setdefault(reference, len(numbers)))]

    return watched(model, ConsumerWatch(consumers, acts=True))


def map_of(attribution: Attribution, key: str, reference: int, item: int) -> Tensor:
    """A unified map of attention ``[h, w]``, on the grid of the latent; G2R is of the mask."""
    return maps(attribution, MapKind.parse(key), selection=Selection(item=item, reference=reference)).values[0]


def reference_images(scenes: data.Scenes, name: str) -> Tensor:
    """Images ``[B, 3, IMAGE, IMAGE]``: the scene's own, another's, blank, noise, or the own with a region painted over.

    A region is painted over with the 'background' or with its own 'mean' colour, or is 'blurred': 'background 5'.
    """
    own = scenes.reference
    if name == "own":
        return own
    if name == "other":
        return own.roll(len(own) // 2, 0)  # far off, since neighbours look alike
    if name == "blank":
        return torch.full_like(own, 0.5)
    if name == "noise":
        return torch.rand(own.shape, generator=torch.Generator().manual_seed(0))
    how, number = name.split()
    grid = regions_of(TokenGrid(data.GRID, data.GRID), REGIONS).view(data.GRID, data.GRID)
    inside = F.interpolate((grid == int(number)).float()[None, None], scale_factor=data.PATCH)
    if how == "background":
        over = background(own)
    elif how == "mean":
        over = (own * inside).sum((2, 3), keepdim=True) / inside.sum()
    elif how == "blurred":
        over = blurred(own)
    else:
        raise ValueError(f"There is no reference {name!r}: a region is painted over with background, mean or blurred.")
    return torch.where(inside > 0, over, own)


def background(images: Tensor) -> Tensor:
    """The field of colour that an object lies on: it follows from its corners, where no object is."""
    return F.interpolate(images[:, :, :: data.IMAGE - 1, :: data.IMAGE - 1], images.shape[2:], mode="bilinear",
                         align_corners=True)  # fmt: skip


def blurred(images: Tensor) -> Tensor:
    """Means of squares of ``BLURRED`` pixels, blended into each other."""
    return F.interpolate(F.avg_pool2d(images, BLURRED), scale_factor=float(BLURRED), mode="bilinear")


# Numbers


def spearman(one: Tensor, other: Tensor, where: Tensor | None = None) -> Tensor:
    """Of each row of ``[n, values]``, over its values ``where`` (None: all): ``[n]``. 0 where all are equal."""
    where = torch.ones_like(one, dtype=torch.bool) if where is None else where
    return torch.tensor([correlation(a[w], b[w]) for a, b, w in zip(one, other, where, strict=True)])


def auc(good: Tensor, bad: Tensor) -> float:
    """How often a good one is above a bad one: 0.5 is chance."""
    higher = (good[:, None] > bad).double() + (good[:, None] == bad).double() / 2
    return float(higher.mean())


def bracketed_auc(good: Tensor, bad: Tensor) -> str:
    """With 95 % of those of as many scenes that are drawn from them."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(good), (RESAMPLES // 4, len(good)), generator=generator)
    low, high = torch.tensor([auc(good[n], bad[n]) for n in drawn]).quantile(torch.tensor([0.025, 0.975])).tolist()
    return f"{auc(good, bad):.2f} [{low:.2f}, {high:.2f}]"


# What the tables hold against each other


def changes_of_the_picture(study: Study) -> dict[str, Tensor]:
    """What the picture changes by at each position, between whole runs: ``[n, cells]``."""
    plain = study.measured()["image"]
    other_noise = [study.pictures(Trial(removed=x, noise=OTHER_NOISE)) for x in (None, study.without.removed)]
    return {
        "without the reference": study.change(study.pictures(study.without), plain),
        "the same, from other noise": study.change(*other_noise),
        "a blank one in its place": study.change(study.measured("blank")["image"], plain),
        "another one in its place": study.change(study.measured("other")["image"], plain),
    }


def maps_on_the_picture(study: Study) -> dict[str, Tensor]:
    """Of one run each, ``[n, cells]``. Without share, where it has no map."""
    own = study.measured()
    steps = own["steps"][0].tolist()
    result = {
        f"Effect, steps {', '.join(map(str, steps))} of {study.steps}": own["effect"].mean(1),
        f"Effect, step {steps[0]} alone": own["effect"][:, 0],
        f"Effect, step {steps[-1]} alone": own["effect"][:, -1],
        "R2G of the paper": own["r2g_paper"].flatten(1),
    }
    return result if study.alone else result | {"share": own["r2g_share"].flatten(1)}


def maps_on_the_reference(study: Study, cuts: Sequence[Cut] = CUTS) -> dict[str, Tensor]:
    """The same of each region of the reference, ``[n, regions]``."""
    own = study.measured()
    result = {f"Effect, {cut}": study.in_mask_of(own[cut]) for cut in cuts}
    result["G2R of the paper"] = by_region(own["g2r_paper"])
    return result if study.alone else result | {"G2R by share": by_region(own["g2r_share"])}


def measured_references(study: Study) -> dict[str, dict[str, Tensor]]:
    """What a run gave with the right reference, and with those that have little or the wrong thing to give."""
    return {
        RIGHT: study.measured(),
        "blank": study.measured("blank"),
        "noise": study.measured("noise"),
        f"{RIGHT}, muted to {MUTED:g}": study.measured(strength=MUTED),
        WRONG: study.measured("other"),
    }


def by_region(values: Tensor) -> Tensor:
    """The mean in each region, of values on the reference ``[n, h, w]``: ``[n, regions]``."""
    return F.adaptive_avg_pool2d(values[:, None], PER_SIDE).flatten(1)


# The tables


def where_the_picture_changes(study: Study) -> str:
    """Maps on the picture against what whole runs change, over the positions in the mask."""
    changes, inside = changes_of_the_picture(study), study.in_mask[study.order]
    cover = F.avg_pool2d(study.scenes.object_mask, data.PATCH).flatten(1)[study.order]
    candidates = maps_on_the_picture(study) | {"where the object is, in the truth": cover}
    rows = [
        [name, *(bracketed(spearman(values, x, inside), 2) for x in changes.values())]
        for name, values in candidates.items()
    ]
    return "\n\n".join(
        [
            "### Where the picture changes: positions in the mask, Spearman",
            table(["map on the picture", *changes], rows),
            f"{len(study.order)} scenes." + f" {NO_SHARE.capitalize()}" * study.alone,
        ]
    )


def what_of_the_reference_counts(study: Study) -> str:
    """Maps on the reference, by region, against what whole runs without the region change in the mask."""
    cover = by_region(study.scenes.reference_object_mask[study.order, 0])
    changes = {
        "without the region": study.change_by_region("taken away"),
        "only it, against none": study.change_by_region("only this left"),
        "background over it": study.change_by_region("background"),
        "its mean colour over it": study.change_by_region("mean"),
    }
    candidates = maps_on_the_reference(study) | {"the object's part of it": cover}
    holds = cover > HOLDS
    written = ["### What of the reference counts: 16 regions, Spearman"]
    for where, title in ((None, "All 16:"), (holds, "Among those that hold the object:")):
        rows = [
            [name, *(bracketed(spearman(values, x, where), 2) for x in changes.values())]
            for name, values in candidates.items()
        ]
        written += [title, table(["of each region", *changes], rows)]
    written.append(
        f"{len(study.order)} scenes. Effect was measured in step 0 alone, "
        f"the runs were changed in all {study.steps} steps. "
        f"{holds.sum(1).float().mean():.1f} regions hold the object: a tenth of the region or more."
    )
    return "\n\n".join(written)


def strength_of_references(study: Study) -> str:
    """The strength of an effect in the mask: of the right reference, and of references that have little to give."""
    results = measured_references(study)
    scores = {name: study.in_mask_of(x["effect"]) for name, x in results.items()}
    good, good_imacs = scores[RIGHT], results[RIGHT]["imacs"]
    heads = ["reference", "strength in the mask", "right one above, same scene", "AUC, any scenes", "AUC, step 0 alone",
             "IMACS of R2G", "AUC of it"]  # fmt: skip
    rows = [[name, bracketed(x.mean(1), 2), "", "", "", bracketed(results[name]["imacs"], 2), ""]
            for name, x in scores.items()]  # fmt: skip
    for row in rows[1:]:
        x, other_imacs = scores[row[0]], results[row[0]]["imacs"]
        row[2] = steer.percent(good.mean(1) > x.mean(1))
        row[3], row[4] = bracketed_auc(good.mean(1), x.mean(1)), bracketed_auc(good[:, 0], x[:, 0])
        row[6] = bracketed_auc(good_imacs, other_imacs)
    return "\n\n".join(
        [
            "### Does the strength tell a good reference from one that says nothing?",
            table(heads, rows),
            f"{len(study.order)} scenes.",
        ]
    )


TABLES = [where_the_picture_changes, strength_of_references, what_of_the_reference_counts]


# The picture


def draw(study: Study, path: Path, scene: int) -> None:
    """One scene: what goes in, what comes out, what would without the reference, and both maps of the effect."""
    samples, attribution = study.attribution("own", 1.0, torch.tensor([scene]), WITH_REGIONS)
    scenes, result, effects = study.scenes, data.to_image(samples)[0], attribution.effects
    owner = study.subject.object
    assert effects is not None
    with_, without = (data.to_image(effects.predictions[0, x])[0] for x in (None, owner))
    on_picture, on_reference = (
        effect_maps(attribution, direction, selection=Selection(reference=owner)).values[0]
        for direction in ("r2g", "g2r")
    )
    reference = scenes.reference[scene]
    pictures = {
        "scene": scenes.masked_image[scene],
        "reference": reference,
        "painted": result,
        "as seen from step 0": with_,
        "the same, without it": without,
        "Effect on the picture": _overlaid(result, on_picture),
        "Effect of its regions": _overlaid(reference, on_reference, blocks=True),
    }
    images = [Image.fromarray((x.movedim(0, -1) * 255).round().byte().numpy()) for x in pictures.values()]
    images = [x.resize((4 * data.IMAGE, 4 * data.IMAGE), Image.Resampling.NEAREST) for x in images]
    contact_sheet([Row("What the reference caused", images, list(pictures))], path)


def _overlaid(image: Tensor, values: Tensor, blocks: bool = False) -> Tensor:
    colors = colorize(heat(values[None], (data.IMAGE, data.IMAGE), blocks=blocks))
    return overlay(image.movedim(0, -1)[None], colors)[0].movedim(-1, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--first", type=int, help="make the tables of the first of them alone, in an order by chance")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--cache", type=Path, help="a folder from which an interrupted run goes on")
    parser.add_argument("--picture", type=Path, help="draw this file instead")
    parser.add_argument("--scene", type=int, default=50, help="that is drawn")
    a = parser.parse_args()
    study = Study(a.scenes, a.steps, cache=a.cache, subject=of_weights(a.weights), first=a.first)
    if a.picture is not None:
        draw(study, a.picture, a.scene)
        return
    for make in TABLES:
        sys.stdout.write(make(study) + "\n\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
