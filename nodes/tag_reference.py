"""I2AM Tag Reference: says which tokens of a conditioning another node has added for a reference image."""

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from .checked import checked
from .comfy.images_in_text import ImageInText, images_in_text
from .comfy.tags import CELLS, KEY, READ_ON, tag
from .images import small
from .schema import Conditioning, Schema

SIDES = (27, 32)
"""Patches a side that SigLIP-384 and SigLIP-512 make of an image, which Apply Style Model appends as they are.

A whole multiple of their number is so many images. Nothing smaller is proved by a number: packs resize the patches
(AdvancedReflux), and leave out those outside a mask, so that any number may be left, squares among them.
"""
SMALLER = tuple(SIDES[0] // times for times in (2, 3, 4, 5))
"""Patches a side after AdvancedReflux has made them fewer (its ``downsampling_factor``): likely, and no more."""


class I2AMTagReference(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="I2AM_TagReference",
            display_name="I2AM Tag Reference",
            description="Place it after a node that adds tokens of a reference image to the text, such as Apply Style "
            "Model, or that gives images to the text encoder, such as TextEncodeQwenImageEditPlus: it marks them, so "
            "that I2AM Capture knows where they are. Nothing else changes.",
            inputs=[
                io.Conditioning.Input(
                    "conditioning_before",
                    tooltip="What went into the node. With a clip connected: the same as conditioning_after.",
                ),
                io.Conditioning.Input("conditioning_after", tooltip="What came out of it."),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The reference image, to show with the maps; one, or one for each. With a clip connected: "
                    "the first image of the text encode node.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="For images that a text encode node gives to the text encoder: the clip of that node. The "
                    "images are encoded once more, to prove which tokens are theirs.",
                ),
                *(
                    io.Image.Input(
                        f"image{number}",
                        optional=True,
                        tooltip=f"With a clip connected: the image at image{number} of the text encode node.",
                    )
                    for number in (2, 3)
                ),
            ],
            outputs=[io.Conditioning.Output(display_name="conditioning", tooltip="What came out, marked.")],
        )

    @classmethod
    @checked
    def execute(
        cls,
        conditioning_before: Conditioning,
        conditioning_after: Conditioning,
        image: Tensor | None = None,
        clip: Any = None,
        image2: Tensor | None = None,
        image3: Tensor | None = None,
    ) -> io.NodeOutput:
        images = {n: x for n, x in enumerate((image, image2, image3), 1) if x is not None}
        if clip is not None:
            return io.NodeOutput(with_images_tagged(conditioning_after, clip, images))
        if images.keys() - {1}:
            raise ValueError(
                "image2 and image3 are for images in the text: connect the clip of the text encode node, too."
            )
        if len(conditioning_before) != len(conditioning_after):
            raise ValueError(
                f"conditioning_after has {len(conditioning_after)} entries and conditioning_before has "
                f"{len(conditioning_before)}: connect what went into the style node, and what came out of it."
            )
        pairs = zip(conditioning_before, conditioning_after, strict=True)
        tagged = []
        for (before, _), (after, about) in pairs:
            tags = [*about.get(KEY, ()), *tags_of_added(before, after, image)]
            tagged.append([after, about | {KEY: tags}])
        return io.NodeOutput(tagged)


def with_images_tagged(conditioning: Conditioning, clip: Any, images: Mapping[int, Tensor]) -> Conditioning:
    """The conditioning, with a tag for each of the ``images [n, H, W, C]``, by their number, that ``clip`` has read.

    Raises ValueError where it cannot be proved which tokens are theirs.
    """
    if not images:
        raise ValueError("a clip is connected, but no image: connect those of the text encode node.")
    return [
        [tokens, about | {KEY: [*about.get(KEY, ()), *tags_of_images(tokens, clip, images)]}]
        for tokens, about in conditioning
    ]


def tags_of_images(tokens: Tensor, clip: Any, images: Mapping[int, Tensor]) -> list[dict[str, Any]]:
    """A tag for each image whose tokens are in the text ``tokens [B, N, C]``."""

    def tag_of(one: ImageInText) -> dict[str, Any]:
        made = tag(f"image {one.number} in the text", one.start, tokens[:, one.place], one.grid)
        cells = {} if one.cells is None else {CELLS: one.cells}
        return made | cells | {READ_ON: True, "picture": small(images[one.number][0, ..., :3])}

    return [tag_of(one) for one in images_in_text(clip, images, tokens)]


def tags_of_added(before: Tensor, after: Tensor, image: Tensor | None) -> list[dict[str, Any]]:
    """A tag for each image whose tokens ``after [B, M, C]`` has beyond ``before [B, N, C]``; ``image [n, H, W, C]``.

    Raises ValueError where ``after`` is not ``before`` with tokens at its end, or there are not 1 or as many images.
    """
    count = after.shape[1] - before.shape[1]
    if count <= 0 or after.shape[::2] != before.shape[::2] or not after[:, : before.shape[1]].equal(before):
        raise ValueError(
            f"conditioning_after ({tuple(after.shape)}) is not conditioning_before ({tuple(before.shape)}) with tokens "
            "added at its end: connect what went into the style node, and what came out of it."
        )
    known = next((side for side in SIDES if count % side**2 == 0), None)
    guess = next((side for side in SMALLER if count == side**2), None)
    side = known or guess
    size, grid = (count, None) if side is None else (side**2, (side, side))
    starts = range(before.shape[1], after.shape[1], size)
    if image is not None and len(image) not in (1, len(starts)):
        raise ValueError(f"got {len(image)} images for {len(starts)} reference(s): give one, or one for each.")
    tags = []
    for number, start in enumerate(starts):
        tags.append(
            tag("style tokens", start, after[:, start : start + size], grid, guessed=known is None and bool(guess))
        )
        if image is not None:
            tags[-1]["picture"] = small(central_square(image[number % len(image)]) if grid else image[0])
    return tags


def central_square(image: Tensor) -> Tensor:
    """The part of an image ``[H, W, C]`` that CLIP Vision Encode hands to the encoder with its crop 'center'."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side, :3]
