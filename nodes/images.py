"""Which entry of ComfyUI's IMAGE or MASK batches belongs to an attribution, and whether its shape fits."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..i2am_core import Attribution, TokenGrid
from .load_image import is_inverted_placeholder, placeholder_words

LONGEST_SIDE = 512  # px: of a heatmap where no image is connected, and at most of the pictures saved with maps


@dataclass(frozen=True)
class Subject:
    """What a picture must show: one entry of a batch, of a shape that fits ``grid``. Of a video, all its pictures."""

    name: str  # "generated picture" or "reference"
    grid: TokenGrid
    entries: tuple[tuple[int, int], ...]  # (number, of how many): the entry that is meant in a batch of that many


def generated_picture(attribution: Attribution, item: int) -> Subject:
    """Picture ``item`` of the batch. Raises errors.UnknownItem."""
    attribution.check_item(item)
    return Subject("generated picture", attribution.grid, ((item, attribution.items),))


def reference_image(attribution: Attribution, number: int, item: int) -> Subject:
    """Reference ``number``. Where it is the only one, each item of the batch may have an image of its own.

    Raises ValueError where its tokens have no grid, errors.UnknownReference or errors.UnknownItem where there is none.
    """
    attribution.check_item(item)
    reference = attribution.check_reference(number)
    if reference.grid is None:
        raise ValueError(f"reference {number} ('{reference.name}') has no spatial layout, so no image fits its tokens.")
    count = len(attribution.references)
    entries = ((number, count),) if count > 1 else ((number, count), (item, attribution.items))
    return Subject("reference", reference.grid, entries)


def choose(batch: Tensor, subject: Subject) -> Tensor:
    """The picture ``[H, W, 3]`` or mask ``[H, W]`` of ``subject``, from an IMAGE or MASK batch of one or of all.

    A video is many entries of an IMAGE batch: then the first of its pictures. Raises ValueError for a batch of another
    size, or an entry of another shape.
    """
    if batch.ndim == 2:
        batch = batch[None]
    if subject.grid.frames > 1:
        batch = _of_video(batch, subject)[:1]
        subject = Subject(subject.name, subject.grid, ((0, 1),))
    kind = "image" if batch.ndim == 4 else "mask"
    number = next((n for n, count in subject.entries if batch.shape[0] == count), 0 if batch.shape[0] == 1 else None)
    if number is None:
        counts = " or ".join(sorted({str(count) for _, count in subject.entries}))
        raise ValueError(
            f"got a batch of {batch.shape[0]} {kind}s for {counts} {subject.name}(s): give one, or one for each."
        )
    chosen = batch[number][..., :3] if kind == "image" else batch[number]
    name = f"the {subject.name}'s {kind}"
    if (
        kind == "mask"
        and is_inverted_placeholder(chosen)
        and not has_shape_of(chosen.shape[0], chosen.shape[1], subject.grid)
    ):
        raise ValueError(f"{name} is {placeholder_words(inverted=True)}.")
    check_aspect(chosen.shape[0], chosen.shape[1], subject.grid, name)
    return chosen


def choose_frames(batch: Tensor, subject: Subject, frames: int) -> Tensor:
    """A picture ``[frames, H, W, 3]`` for each frame of the latent, evenly from the pictures of a video."""
    video = _of_video(batch, subject)
    numbers = torch.linspace(0, len(video) - 1, frames).round().long()
    check_aspect(video.shape[1], video.shape[2], subject.grid, f"the {subject.name}'s image")
    return video[numbers][..., :3].float()


def choose_video(batch: Tensor, subject: Subject) -> Tensor:
    """All pictures ``[frames, H, W, 3]`` of one video, or the single picture that stands for it."""
    video = _of_video(batch, subject)
    check_aspect(video.shape[1], video.shape[2], subject.grid, f"the {subject.name}'s image")
    return video[..., :3]


def _of_video(batch: Tensor, subject: Subject) -> Tensor:
    """The pictures of one video of a batch: all, or the part of its item where there are several videos."""
    number, count = subject.entries[-1]
    if batch.shape[0] > 1 and batch.shape[0] % count:
        raise ValueError(
            f"got a batch of {batch.shape[0]} pictures for {count} {subject.name}(s) of several frames: give all the "
            "pictures of every video, one video after the other, or a single picture."
        )
    return batch if batch.shape[0] == 1 else batch.unflatten(0, (count, -1))[number]


def check_aspect(height: int, width: int, grid: TokenGrid, name: str) -> None:
    """A picture may have any size, but the shape of the grid to within a cell: else ValueError."""
    if not has_shape_of(height, width, grid):
        raise ValueError(
            f"{name} is {width}x{height}, but its attention lies on a grid of {grid}, which has another shape: "
            "give the image that the model saw, cropped as the model saw it (any size will do)."
        )


def has_shape_of(height: int, width: int, grid: TokenGrid) -> bool:
    """Whether a picture of any size has the shape of the grid, to within a cell."""
    expected = width * grid.height / grid.width
    return abs(height - expected) <= max(1.0, 1.01 * height / grid.height, 1.01 * expected / grid.height)


def size_of(picture: Tensor) -> tuple[int, int]:
    """Height and width in px of a picture ``[H, W, 3]``."""
    return picture.shape[0], picture.shape[1]


def size_for(grid: TokenGrid) -> tuple[int, int]:
    """Height and width of a heatmap in px, where no image gives them."""
    scale = LONGEST_SIDE / max(grid.height, grid.width)
    return max(1, round(grid.height * scale)), max(1, round(grid.width * scale))


def enlarge(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A coarse mask ``[h, w]`` at ``size`` (height, width), its cells as squares with sharp edges."""
    return F.interpolate(mask[None, None].float(), size=size, mode="nearest-exact")[0, 0]


def as_batch(picture: Tensor, count: int) -> Tensor:
    """``[H, W, 3]`` as an IMAGE ``[count, H, W, 3]`` of the same picture."""
    return picture[None].expand(count, *picture.shape).to(torch.float32)


def small(picture: Tensor, longest: int = LONGEST_SIDE) -> Tensor:
    """``[H, W, 3]`` in [0, 1] to uint8, at most ``longest`` px a side: to be saved with maps."""
    height, width = picture.shape[:2]
    scale = min(1.0, longest / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    resized = F.interpolate(picture.movedim(-1, 0)[None].float(), size, mode="bilinear", antialias=scale < 1)
    return (resized[0].movedim(0, -1).clamp(0, 1) * 255).round().to(torch.uint8).contiguous()
