"""Runs of the demo models with faults that are made on purpose, and healthy ones, as attributions to be judged."""

# ComfyUI's own nodes have no types.
# mypy: allow-untyped-calls

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from . import cpu  # noqa: F401  (must come before ComfyUI's other modules)

from comfy.model_patcher import ModelPatcher  # isort: skip

from ..i2am_core import SUFFIX, Attribution, load, save
from ..nodes.comfy import handle
from ..nodes.comfy.captured import capture_with
from ..nodes.comfy.measured import effect_with
from ..nodes.comfy.removals import Settings
from ..nodes.steer import I2AMSteer
from . import effect
from .subject import CrossAttention, Subject

BATCH = 8  # scenes that are sampled together


@dataclass(frozen=True)
class Fault:
    """How a run is made: from which references, steered how, with values multiplied by what.

    ``reference`` is one of ``effect.reference_images``, or two of them as 'own + other'. ``regions`` is what I2AM
    Effect is set to. ``steered`` has inputs of I2AM Steer; one that ends in '_region' names a mask of
    ``steer.regions``, which differs in each scene, so that these are sampled one by one. ``painted``: whether the
    sampler gets the mask. ``mask`` names what is marked on the picture when the run is examined: a mask of
    ``steer.regions``, or the 'square' to be painted. ``finds`` are the findings of which one must be made, by their
    keys: none where the run is healthy.
    """

    reference: str = "own"
    steered: Mapping[str, Any] = field(default_factory=dict)
    values: float = 1.0
    regions: int = 0
    painted: bool = True
    mask: str = ""
    finds: tuple[str, ...] = ()

    @property
    def batch(self) -> int:
        """How many scenes are sampled together."""
        return 1 if any(name.endswith("_region") for name in self.steered) else BATCH

    @property
    def run(self) -> "Fault":
        """What the run depends on: several are examined in more than one way."""
        return replace(self, mask="", finds=())


FORMLESS = ("strength: weak", "form: weak", "form: none")
ELSEWHERE = ("place: bleeds", "place: not there")
TRIALS: dict[str, Fault] = {
    "healthy": Fault(regions=4),
    "healthy, and the painted area marked by hand": Fault(regions=4, mask="square"),
    "healthy, with another object": Fault("other"),
    "healthy, two references": Fault("own + other"),
    "a blank reference": Fault("blank", finds=FORMLESS),
    "a reference of noise": Fault("noise", finds=FORMLESS),
    "muted to 0.05": Fault(steered={"strength": 0.05}, finds=FORMLESS),
    "muted": Fault(steered={"strength": 0.0}, finds=("strength: none",)),
    "values times 0, by another node": Fault(values=0.0, finds=("looked: in vain",)),
    "no mask for the sampler": Fault(painted=False, mask="square", finds=ELSEWHERE),
    "a mask of half of what is painted": Fault(painted=False, mask="left half", finds=ELSEWHERE),
    "in the first two steps alone": Fault(
        steered={"strength": 0.0, "steps": "2-9"}, finds=("steps: partly on", "steps: fades")
    ),
    "not in the first four steps": Fault(steered={"strength": 0.0, "steps": "0-3"}, finds=("steps: partly on",)),
    "one of two references muted": Fault(
        "own + other", {"strength": 0.0, "reference": 1}, finds=("strength: none", "rivals: drowned")
    ),
    "one of two references muted to 0.02": Fault(
        "own + other", {"strength": 0.02, "reference": 1}, finds=("strength: weak", "rivals: drowned")
    ),
    "the object of the reference muted": Fault(
        steered={"strength": 0.0, "reference_region": "object"}, regions=4, finds=("parts: background", *FORMLESS)
    ),
}
# Of the joint model, which was never given two objects, whose values no node multiplies, and which needs no mask.
JOINT_TRIALS = {
    name: fault
    for name, fault in TRIALS.items()
    if "+" not in fault.reference and fault.values == 1 and name != "no mask for the sampler"
} | {
    "healthy, no mask for the sampler": Fault(painted=False, mask="square"),
    # Parts are told of the first reference alone, which is the scene.
    "the object of the reference muted": replace(TRIALS["the object of the reference muted"], finds=FORMLESS),
}


def trials(subject: Subject) -> Mapping[str, Fault]:
    """The runs that are made with a demo model, by name."""
    return TRIALS if isinstance(subject, CrossAttention) else JOINT_TRIALS


class Runs:
    """Attributions of held-out scenes, kept as files in a ``cache``, which is to be emptied where the code changed."""

    def __init__(self, count: int, steps: int, seed: int, cache: Path, subject: Subject | None = None) -> None:
        self.study = effect.Study(count, steps, seed, subject=subject)
        self.trials = trials(self.study.subject)
        self.cache = cache / f"{count} scenes, {steps} steps, seed {seed}" / self.study.subject.key

    def of(self, fault: Fault) -> list[tuple[Tensor, Attribution]]:
        """Which scenes, and their attribution, in parts."""
        run = fault.run
        name = next(name for name, other in self.trials.items() if other.run == run)
        parts = self.study.order.split(fault.batch)
        return [(part, self._stored(f"{name} {n}", run, part)) for n, part in enumerate(parts)]

    def marked(self, fault: Fault, scene: int) -> dict[str, Tensor]:
        """What is marked when a scene is examined: on the picture, and on the reference where regions are measured.

        A mark is on the first reference, which is the object where that is all there is to look at.
        """
        regions = self.study.regions | {"square": self.study.scenes.mask[:, 0]}
        marks = {"mask": fault.mask, "object_mask": "object" if fault.regions and self.study.subject.alone else ""}
        return {name: regions[which][scene] for name, which in marks.items() if which}

    def _stored(self, name: str, fault: Fault, part: Tensor) -> Attribution:
        path = self.cache / (name + SUFFIX)
        if not path.exists():
            self.cache.mkdir(parents=True, exist_ok=True)
            save(self._run(fault, part), path)
        return load(path)

    def _run(self, fault: Fault, part: Tensor) -> Attribution:
        study, capture = self.study, handle.Capture(handle.Settings("auto", "positive", "off", 2**32))
        model = study.model
        if fault.values != 1:
            model = scaled_values(model, fault.values)
        if fault.steered:
            regions = {k: study.regions[v][part] for k, v in fault.steered.items() if k.endswith("_region")}
            (model,) = I2AMSteer.execute(model, **(study.unsteered | dict(fault.steered) | regions)).args
        model = effect_with(capture_with(model, capture), Settings(regions=fault.regions))
        return capture.find(study.run(model, fault.reference, part, painted=fault.painted))


def scaled_values(model: ModelPatcher, factor: float) -> ModelPatcher:
    """The same model with another node's patch on it, which multiplies what is read from the reference."""
    model = model.clone()
    model.set_model_attn2_patch(lambda queries, keys, values, options: (queries, keys, values * factor))
    return model
