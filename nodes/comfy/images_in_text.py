"""Tokens that a language model with eyes makes of images, among those of its text: where they are, proved by encoding.

Nothing in a conditioning says where they are. But such a model reads from left to right: what it makes of all up to the
last image does not depend on the prompt, which comes behind. So ComfyUI's own node makes these tokens again, of the
same images and no prompt; meanwhile the model says where each image is, and the conditioning must begin alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import comfy_extras.nodes_qwen as nodes_qwen
import torch
from torch import Tensor

from .blocks import ForeignModule

NODES = {  # class of a node that hands images to the language model -> its inputs for them
    "TextEncodeQwenImageEditPlus": ("image1", "image2", "image3"),
    "TextEncodeQwenImageEdit": ("image",),
}
ROUNDING = 0.02  # what tokens may differ by, relative to their size: ComfyUI's text encoders compute in 32 bits
NO_EYES = (
    "this clip takes no images, or takes them in a way that I2AM does not know: connect that of the text encode node, "
    "such as TextEncodeQwenImageEditPlus"
)
OTHERS = (
    "I2AM cannot prove where the image is in this conditioning: {}. Connect the same clip and images, to inputs of the "
    "same number, as the text encode node has, and its conditioning before anything changes it. Images that a pack's "
    "node encodes can be measured with I2AM Effect, with `without` connected to the text without them."
)
DIFFER = "{} makes other tokens of it, which differ by {:.0%}, where rounding explains {:.0%} at most"
SHORTER = "{} makes {} tokens up to the last image, and the conditioning has {} in all"
WIDTH = "{} makes tokens of {} values, and the conditioning has tokens of {}"
UNSEEN = "{} hands no image to this clip"
LAYOUT = "tokens of images in an order that I2AM does not know"


@dataclass(frozen=True)
class ImageInText:
    """The tokens of image ``number`` (from 1), from ``start`` on, on ``grid`` (height, width).

    ``cells [count]`` are their places on it, where they do not come row by row.
    """

    number: int
    start: int
    grid: tuple[int, int]
    cells: Tensor | None = None

    @property
    def place(self) -> slice:
        """The tokens of the conditioning."""
        return slice(self.start, self.start + self.grid[0] * self.grid[1])


def images_in_text(clip: Any, images: Mapping[int, Tensor], tokens: Tensor) -> list[ImageInText]:
    """Where the ``images [n, H, W, C]``, by the number of their input, are in a conditioning's ``tokens [B, N, C]``.

    Of each the first is meant, as it is in ComfyUI's nodes. Raises ValueError where that cannot be proved.
    """
    encoder = _encoder(clip)
    why = []
    for name, inputs in NODES.items():
        if max(images) > len(inputs):
            continue
        made, places = _encoded(name, clip, encoder, {inputs[n - 1]: image for n, image in images.items()})
        end = max((image.place.stop for image in places), default=0)
        if not places or tokens.shape[2] != made.shape[2]:
            why.append((WIDTH if places else UNSEEN).format(name, made.shape[2], tokens.shape[2]))
            continue
        if tokens.shape[1] < end:
            why.append(SHORTER.format(name, end, tokens.shape[1]))
            continue
        parts = [slice(0, end), *(image.place for image in places)]  # what is before an image is the same as well
        difference = max(_difference(made[:, part], tokens[:, part]) for part in parts)
        if difference <= ROUNDING:
            numbers = sorted(images)
            return [ImageInText(numbers[n], x.start, x.grid, x.cells) for n, x in enumerate(places)]
        why.append(DIFFER.format(name, difference, ROUNDING))
    raise ValueError(OTHERS.format("; ".join(why)))


def _difference(made: Tensor, given: Tensor) -> float:
    """How far tokens ``[.., M, C]`` are apart, on average, relative to the size of those that were ``given``."""
    made, given = made.to(given.device, torch.float32), given.float()
    return float(((made - given).norm(dim=-1) / given.norm(dim=-1).clamp(min=1e-12)).mean())


@dataclass
class _Seen:
    """What the language model was given and made, while it encoded."""

    inputs: list[dict[str, Any]] = field(default_factory=list)  # what is no text: its kind, place and size
    states: list[Tensor] = field(default_factory=list)  # of all tokens, those of the template too
    patches: list[Tensor] = field(default_factory=list)  # of each image, as its eyes see them
    images: list[Tensor] = field(default_factory=list)  # of each image, as they hand it on


def _encoder(clip: Any) -> ForeignModule:
    """The language model of a CLIP, in which images meet the text. Raises ValueError where it takes none."""
    model = getattr(clip, "cond_stage_model", None)
    encoder: ForeignModule | None = getattr(model, str(getattr(model, "clip", "")), None)
    if not hasattr(getattr(getattr(encoder, "transformer", None), "visual", None), "get_window_index"):
        raise ValueError(NO_EYES + ".")
    assert encoder is not None
    return encoder


def _encoded(
    name: str, clip: Any, encoder: ForeignModule, images: Mapping[str, Tensor]
) -> tuple[Tensor, list[ImageInText]]:
    """The tokens that the node makes of the images and no prompt, and where each image is in them, from 1 on."""
    seen, eyes = _Seen(), encoder.transformer.visual
    hooks = [
        encoder.transformer.register_forward_pre_hook(
            lambda _, __, named: seen.inputs.extend(named.get("embeds_info", ())), with_kwargs=True
        ),
        encoder.register_forward_hook(lambda _, __, output: seen.states.append(output[0])),
        eyes.merger.register_forward_hook(lambda _, __, output: seen.patches.append(output)),
        eyes.register_forward_hook(lambda _, __, output: seen.images.append(output)),
    ]
    try:
        made = _run(getattr(nodes_qwen, name), clip, images)
    finally:
        for hook in hooks:
            hook.remove()
    begin = _begin_of(made, seen.states[0])
    places = []
    of_images = [x for x in seen.inputs if x.get("type") == "image"]
    if not len(of_images) == len(seen.patches) == len(seen.images):
        raise ValueError(OTHERS.format(LAYOUT))
    for number, (image, patches, handed_on) in enumerate(zip(of_images, seen.patches, seen.images, strict=True), 1):
        cells, grid = _cells(eyes, image["extra"], patches, handed_on)
        places.append(ImageInText(number, image["index"] - begin, grid, cells))
    return made, places


def _run(node: Any, clip: Any, images: Mapping[str, Tensor]) -> Tensor:
    """What a node of ComfyUI makes of an empty prompt: of older cores, too, whose nodes name their function."""
    execute = getattr(node, "execute", None) or getattr(node(), node.FUNCTION)
    output = execute(clip, "", **images)
    tokens: Tensor = getattr(output, "args", output)[0][0][0]
    return tokens


def _begin_of(made: Tensor, states: Tensor) -> int:
    """How many of the model's first tokens, those of its template, are left out of the conditioning."""
    states = states.to(made)
    last = states.shape[1] - made.shape[1]
    begin = next((n for n in range(last + 1) if states[:, n : n + made.shape[1]].equal(made)), None)
    if begin is None:
        raise ValueError(OTHERS.format("it is made of the language model's tokens in a way that I2AM does not know"))
    return begin


def _cells(
    eyes: ForeignModule, patches: Tensor, merged: Tensor, image: Tensor
) -> tuple[Tensor | None, tuple[int, int]]:
    """The cells of an image's tokens, None where they come row by row, and their grid.

    The eyes of Qwen2.5-VL look through windows, and hand on what is in one window after the other (ComfyUI up to 0.3.75
    at least), or put it back into rows.
    """
    height, width = (int(side) // eyes.spatial_merge_size for side in patches[0][1:])
    order = eyes.get_window_index(patches)[0].to(merged.device)
    if image.equal(merged[order.argsort()]):
        return None, (height, width)
    if not image.equal(merged):
        raise ValueError(OTHERS.format(LAYOUT))
    return order.cpu(), (height, width)
