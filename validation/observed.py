"""Models of different quality, and what one run of each gives: pictures, maps of attention, effects."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ..demo import data, effect
from ..demo.subject import CrossAttention, JointAttention, Subject
from ..demo.weights import CHECKPOINTS, JOINT_WEIGHTS, WEIGHTS
from ..i2am_core import Attribution, MapKind, Selection, effect_inside, maps
from ..nodes.comfy import handle
from ..nodes.comfy.captured import capture_with
from ..nodes.comfy.measured import effect_with
from ..nodes.comfy.removals import Settings
from .lab import Lab, digest

SCOPES = {"mask": "inpainting mask", "whole": "whole image"}  # positions of the picture whose attention counts in G2R


@dataclass(frozen=True)
class Model:
    """A demo model: one file of weights, or the mean of several, in which one may be several times."""

    name: str
    weights: tuple[Path, ...]
    training: Training

    def observed(self, lab: Lab, noise: int = 0) -> dict[str, Tensor]:
        """What a run of all scenes gave, see ``_of_part``, from another noise if ``noise`` is not 0."""
        digests = ", ".join(digest(path) for path in dict.fromkeys(self.weights))
        return lab.stored(f"observed, {self.name}, {digests}, noise {noise}", partial(self._observed, lab, noise))

    def _observed(self, lab: Lab, noise: int) -> dict[str, Tensor]:
        finished = self.weights == (self.training.files[-1],)
        study = lab.studies[self.training.name] if finished else lab.study(self.training.subject(*self.weights))
        parts = [_of_part(study, part, noise) for part in study.order.split(effect.BATCH)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@dataclass(frozen=True)
class Training:
    """Files of weights of one training, in its order; the last is the finished one."""

    name: str  # in Lab.studies, which has the finished one
    subject: Callable[..., Subject]
    files: Sequence[Path]

    @property
    def lacking(self) -> list[str]:
        """Names of files that are not here."""
        return [path.name for path in self.files if not path.is_file()]

    @property
    def here(self) -> list[Path]:
        """The files that are here."""
        return [path for path in self.files if path.is_file()]

    @property
    def differing(self) -> dict[str, list[str]]:
        """Settings that the files here say differently, of each what each file says; but for the step.

        Raises ValueError where they began from different seeds, for then they are no one training.
        """
        said = [_settings(path) for path in self.here]
        names = dict.fromkeys(name for of in said for name in of if name != "step")
        values = {name: [str(of.get(name, "not said")) for of in said] for name in names}
        differing = {name: of for name, of in values.items() if len(set(of)) > 1}
        if "seed" in differing:
            raise ValueError(f"The files of {self.name} have seeds {', '.join(differing['seed'])}: give those of one.")
        return differing

    def models(self, between: int) -> list[Model]:
        """One of each file that is here, and ``between`` two that follow each other as many averages, evenly weighted.

        Over one that is not here nothing is averaged: what lay between was another way.
        """
        parts = between + 1
        result: list[tuple[Path, ...]] = []
        for first, second in zip_longest(self.files, self.files[1:]):
            both = second is not None and first.is_file() and second.is_file()
            if first.is_file():
                result.append((first,))
            result += [(first,) * (parts - n) + (second,) * n for n in range(1, parts)] if both else []
        return [self._model(paths) for paths in result]

    def _model(self, paths: tuple[Path, ...]) -> Model:
        count = {path: paths.count(path) for path in paths}
        if len(count) == 1:
            return Model(paths[0].stem, paths[:1], self)
        name = " + ".join(f"{n / len(paths):.0%} {path.stem}" for path, n in count.items())
        return Model(name, paths, self)


CROSS = ("step_00500.safetensors", "step_02000.safetensors")
JOINT = ("joint_00500.safetensors", "joint_01500.safetensors")
TRAININGS: Mapping[str, Training] = {
    training.name: training
    for training in (
        Training("cross-attention", CrossAttention, [*(CHECKPOINTS / name for name in CROSS), WEIGHTS]),
        Training("joint attention", JointAttention, [*(CHECKPOINTS / name for name in JOINT), JOINT_WEIGHTS]),
    )
}


def _settings(path: Path) -> dict[str, Any]:
    """With which a file of weights was trained, as it says itself."""
    with safe_open(path, "pt") as file:
        said: dict[str, Any] = json.loads((file.metadata() or {}).get("training", "{}"))
    return said


def _of_part(study: effect.Study, part: Tensor, noise: int) -> dict[str, Tensor]:
    """Of scenes: pictures, unified maps of attention ``[B, GRID, GRID]``, and of the effect in the mask its strength
    and the part that is inside, as *I2AM IMACS* says them.
    """
    capture = handle.Capture(handle.Settings("auto", "positive", "off", 2**32))
    samples = study.run(effect_with(capture_with(study.model, capture), Settings()), "own", part, noise)
    attribution = capture.find(samples)
    owner, items = study.subject.object, range(len(part))
    inside = [effect_inside(attribution, owner, "everything", study.scenes.mask[part][n, 0], n) for n in items]
    of_effect = {
        "effect strength": torch.tensor([x.strength for x in inside]),
        "effect inside": torch.tensor([x.part for x in inside]),
    }
    of_attention = {
        "r2g_paper": _maps(attribution, "r2g_paper", owner),
        "r2g_share": _maps(attribution, "r2g_share", owner),
        **{f"g2r_paper {name}": _maps(attribution, "g2r_paper", owner, scope) for name, scope in SCOPES.items()},
        **{f"g2r_share {name}": _maps(attribution, "g2r_share", owner, scope) for name, scope in SCOPES.items()},
    }
    return {"image": data.to_image(samples)} | of_attention | of_effect


def _maps(attribution: Attribution, key: str, reference: int, scope: str = "auto") -> Tensor:
    selections = [Selection(item=n, reference=reference, scope=scope) for n in range(attribution.items)]
    return torch.stack([maps(attribution, MapKind.parse(key), selection=x).values[0] for x in selections]).float()
