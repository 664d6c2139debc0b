"""Both demo models, as the studies use them: a model, and how references go into it."""

# ComfyUI's own nodes have no types.
# mypy: allow-untyped-calls

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from safetensors import safe_open
from torch import Tensor

from . import cpu  # noqa: F401  (must come before ComfyUI's other modules)

import nodes as comfyui_nodes  # isort: skip
from comfy.model_patcher import ModelPatcher

from ..nodes.comfy.tags import KEY, tag
from . import data, joint_model, joint_network, model, network
from .nodes import DemoReference
from .weights import JOINT_WEIGHTS, WEIGHTS

Conditioning: TypeAlias = list[list[Any]]


class Subject(Protocol):
    """A demo model. ``object`` is the number, among the references that I2AM captures, of the first object.

    ``alone`` says that objects are all there is to look at: then the share of a single one is 1, and has no map.
    """

    key: str  # a name of its weights, for files
    model: ModelPatcher
    object: int
    alone: bool

    def conditioning(self, scene: Tensor, objects: Sequence[Tensor], left: float = 1.0) -> Conditioning:
        """For scenes with the square in grey, and images of objects ``[B, 3, IMAGE, IMAGE]``.

        ``left`` is how far the first object's tokens still are from their mean: less than 1 weakens it.
        """

    def without_references(self, count: int) -> Conditioning:
        """The negative, of which guidance 1 makes nothing."""


class CrossAttention:
    """A U-Net that looks at tokens of the object; the scene comes by channels."""

    object, alone = 0, True

    def __init__(self, *weights: Path) -> None:
        """Of one file of weights, or of the mean of several; of a file that is there twice, twice as much."""
        self.key = _key(weights or (WEIGHTS,))
        self.model, _, self.encoder = model.load(*weights)

    def conditioning(self, scene: Tensor, objects: Sequence[Tensor], left: float = 1.0) -> Conditioning:
        first, *second = (DemoReference.execute(self.encoder, x.movedim(1, -1)).args[0] for x in objects)
        if left != 1:
            first = _drawn_to_mean(first, left)
        return _joined(first, second[0]) if second else first

    def without_references(self, count: int) -> Conditioning:
        return [[network.no_tokens().expand(count, -1, -1), {}]]


class JointAttention:
    """A Flux whose picture, scene, object and text look at each other; no loss was ever on its attention."""

    object, alone = 1, False  # after the scene

    def __init__(self, *weights: Path) -> None:
        self.key = _key(weights or (JOINT_WEIGHTS,))
        self.model, _ = joint_model.load(*weights)

    def conditioning(self, scene: Tensor, objects: Sequence[Tensor], left: float = 1.0) -> Conditioning:
        first, *others = (data.to_latent(image) for image in objects)
        mean = first.mean((2, 3), keepdim=True)
        latents = [data.to_latent(scene), mean + left * (first - mean), *others]
        text = joint_network.text().repeat(len(scene), 1, 1)
        return [[text, {"reference_latents": latents}]]

    def without_references(self, count: int) -> Conditioning:
        return [[joint_network.text().repeat(count, 1, 1), {}]]


def of_weights(weights: Path) -> Subject:
    """The model that a file of weights is of, by the names in it."""
    with safe_open(weights, "pt") as file:
        is_joint = any(name.startswith("double_blocks.") for name in file.keys())  # noqa: SIM118  (it is no dict)
    return JointAttention(weights) if is_joint else CrossAttention(weights)


def _key(weights: Sequence[Path]) -> str:
    return " + ".join(
        path.stem if path.parent == WEIGHTS.parent else f"{path.parent.name} {path.stem}" for path in weights
    )


def part_of(conditioning: Conditioning, part: Tensor) -> Conditioning:
    """That of some of its scenes."""
    ((tokens, about),) = conditioning
    if "reference_latents" in about:
        about = about | {"reference_latents": [latents[part] for latents in about["reference_latents"]]}
    return [[tokens[part], about]]


def _joined(first: Conditioning, second: Conditioning) -> Conditioning:
    """Two references in one context. ComfyUI's node keeps the marks of the first; those of the second move along."""
    (((tokens, about),),) = comfyui_nodes.ConditioningConcat().concat(first, second)
    start = first[0][0].shape[1]
    moved = [mark | {"start": start + mark["start"]} for mark in second[0][1][KEY]]
    return [[tokens, about | {KEY: [*about[KEY], *moved]}]]


def _drawn_to_mean(conditioning: Conditioning, left: float) -> Conditioning:
    ((tokens, _),) = conditioning
    mean = tokens.mean(1, keepdim=True)
    weaker = mean + left * (tokens - mean)
    return [[weaker, {KEY: [tag("weakened reference", 0, weaker, (data.GRID, data.GRID))]}]]
