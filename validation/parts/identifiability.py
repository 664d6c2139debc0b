"""Are maps determined by what a model computes? A constant vector added to all keys changes nothing of that."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from zlib import crc32

import torch
from torch import Tensor

from ...demo.effect import BATCH, Study, spearman
from ...demo.steer import bracketed, table
from ...i2am_core import imacs
from ...nodes.comfy.consumer_watch import ConsumerWatch
from ...nodes.comfy.consumers.base import Consumer
from ...nodes.comfy.run import watched
from ..lab import Lab
from ..likeness import beside_guesses, ranked_alike
from ..moved_keys import Direction, MovedKeys
from ..runs import ON_PICTURE, joined, keys_of, maps_in, maps_of
from ..section import Section

PROBES = 3
HEADS = ["direction", "map", "Spearman with before", "everywhere", "IMACS before", "IMACS after"]
QUESTION = "Is the map determined by what the model computes?"
STATED = (
    "One vector is added to all keys of every layer that looks at the reference: to the keys of the text and of the "
    "picture as well, behind the rotary embedding. All logits of a row then change by the same number, so that no "
    "probability changes, and no pixel: the model is the same. A map that changes all the same is not determined by "
    "what the model computes. The vector is as long as a mean key of its head. Its direction is random, the same in "
    "all scenes; or it is that from the mean query inside the mask to the mean query outside."
)
MEANT = (
    "Spearman is with the same map before, over the positions in the mask, or on the reference over all of it. IMACS "
    "is with the mask, or with the object in the reference. G2R and share are of softmax over keys, and Effect is of "
    "predictions, so that algebra has them unchanged; R2G of the paper is of softmax over positions, to which the "
    "vector adds another number at each position. How often trained weights have such a vector in them, nobody can "
    "read from a picture: this does not say that R2G is wrong, but that two models which paint the same picture from "
    "the same probabilities may have two of them."
)


@dataclass(frozen=True)
class Tried:
    """Of one model: its maps, and by direction the maps of the same model with moved keys."""

    study: Study
    before: Mapping[str, Tensor]
    after: Mapping[str, Mapping[str, Tensor]]

    @property
    def keys(self) -> dict[str, str]:
        """Of maps by name."""
        return keys_of(self.study)

    def alike(self, key: str, direction: str) -> Tensor:
        """Spearman of a map before with the same after, in each scene."""
        on_picture = key in ON_PICTURE.values()
        return ranked_alike(self.study, self.before[key], self.after[direction][key], on_picture)

    def scores(self, key: str, values: Tensor) -> Tensor:
        """IMACS of maps ``[n, h, w]``, with the mask or with the object in the reference."""
        scenes = self.study.scenes
        masks = scenes.mask if key in ON_PICTURE.values() else (scenes.reference_object_mask > 0.5).float()
        return torch.tensor([imacs(x, mask) for x, mask in zip(values, masks[self.study.order, 0], strict=True)])


def run(lab: Lab) -> Section:
    models = {name: _tried(lab, study) for name, study in lab.studies.items()}
    text = [STATED]
    for name, tried in models.items():
        text += [f"{name}:", table(HEADS, _rows(tried)), " ".join(_unchanged(tried, which) for which in DIRECTIONS)]
        text += [
            "What the maps before have in common with maps that no model makes, Spearman:",
            beside_guesses(tried.study, tried.before, tried.keys),
        ]
    text += [MEANT, f"{lab.scenes} scenes of each model, {lab.steps} steps."]
    verdict = (
        "Spearman with itself when all keys move alike: R2G of the paper "
        f"{'; '.join(map(_verdict, models, models.values()))}; every other map at least "
        f"{math.floor(1e4 * min(map(_least, models.values()))) / 1e4:.4f} in each scene"
    )
    return Section("What the maps are determined by", text, verdicts={QUESTION: verdict})


# Directions


def _random(queries: Tensor, inside: Tensor, layer: str) -> Tensor:
    """The same for all pictures."""
    generator = torch.Generator().manual_seed(crc32(layer.encode()))
    return torch.randn(1, queries.shape[1], queries.shape[3], generator=generator)


def _outwards(queries: Tensor, inside: Tensor, layer: str) -> Tensor:
    """From the mean query inside the mask to the mean query outside, of each picture and head."""
    within, without = (
        (queries * where[:, None, :, None]).sum(2) / where.sum(1)[:, None, None] for where in (inside, ~inside)
    )
    return without - within


DIRECTIONS: dict[str, Direction] = {"random": _random, "out of the mask": _outwards}


# What is computed


def _tried(lab: Lab, study: Study) -> Tried:
    def stored(which: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        return lab.stored(f"identifiability, {which}, {study.subject.key}", make)

    before = stored("before", partial(maps_of, study, study.model, PROBES))
    after = {which: stored(which, partial(_with_moved_keys, study, way)) for which, way in DIRECTIONS.items()}
    return Tried(study, before, after)


def _with_moved_keys(study: Study, direction: Direction) -> dict[str, Tensor]:
    parts = []
    for part in study.order.split(BATCH):
        moved = MovedKeys(direction, study.scenes.mask[part])
        consumers: list[Consumer] = [moved]
        model = watched(study.model, ConsumerWatch(consumers.copy, acts=True))
        result = maps_in(study, model, part, PROBES)
        parts.append(result | {"probabilities": torch.full([len(part)], moved.changed)})
    return joined(parts)


# What is written


def _rows(tried: Tried) -> list[list[str]]:
    rows = []
    for which, after in tried.after.items():
        for name, key in tried.keys.items():
            everywhere = spearman(tried.before[key].flatten(1), after[key].flatten(1))
            numbers = [
                tried.alike(key, which),
                everywhere,
                *(tried.scores(key, of[key]) for of in (tried.before, after)),
            ]
            rows.append([which, name, *(bracketed(x, 2) for x in numbers)])
    return rows


def _unchanged(tried: Tried, which: str) -> str:
    after = tried.after[which]
    pixels = (after["image"] - tried.before["image"]).abs().max()
    return (
        f"Direction {which}: no probability changed by more than {after['probabilities'].max():.1e}, "
        f"no pixel by more than {pixels:.1e}."
    )


def _verdict(name: str, tried: Tried) -> str:
    def scores(maps: Mapping[str, Tensor]) -> float:
        return tried.scores("r2g_paper", maps["r2g_paper"]).mean().item()

    return f"{name} " + ", ".join(
        f"{which} {bracketed(tried.alike('r2g_paper', which), 2)} (its IMACS from {scores(tried.before):.2f} to "
        f"{scores(after):.2f})"
        for which, after in tried.after.items()
    )


def _least(tried: Tried) -> float:
    others = [key for key in tried.keys.values() if key != "r2g_paper"]
    return min(tried.alike(key, which).min().item() for key in others for which in tried.after)
