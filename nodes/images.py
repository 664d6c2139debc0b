"""ComfyUI's IMAGE and MASK batches against an attribution: which one is meant, and does its shape fit?"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..i2am_core.attribution import Attribution
from ..i2am_core.regions import cells_of
from ..i2am_core.tokens import TokenGrid

LONGEST_SIDE = 512  # px of a heatmap that no image gives a size, and of pictures kept beside maps


@dataclass(frozen=True)
class Subject:
    """What a picture must show: one entry of a batch, of a shape that fits ``grid``. Of a video, all its pictures."""

    role: str  # "generated picture" or "reference"
    grid: TokenGrid
    places: tuple[
        tuple[int, int], ...
    ]  # (number, of how many): the batches that may be given, and which entry is meant


def generated(attribution: Attribution, item: int) -> Subject:
    attribution.check_item(item)
    return Subject("generated picture", attribution.grid, ((item, attribution.items),))


def referred(attribution: Attribution, reference: int, item: int) -> Subject:
    """A reference that has a grid. Where there is one reference, each item of the batch may have its own image."""
    attribution.check_item(item)
    shown = attribution.check_reference(reference)
    if shown.grid is None:
        raise ValueError(f"reference {reference} ('{shown.name}') has no spatial layout, so no image fits its tokens.")
    count = len(attribution.references)
    places = ((reference, count),) if count > 1 else ((reference, count), (item, attribution.items))
    return Subject("reference", shown.grid, places)


def choose(batch: Tensor, subject: Subject) -> Tensor:
    """The picture ``[H, W, 3]`` or mask ``[H, W]`` of ``subject``, from an IMAGE or MASK batch of one or of all.

    Of a video, whose batch holds many pictures for each, the first.
    """
    if batch.ndim == 2:
        batch = batch[None]
    if subject.grid.frames > 1:
        batch = _of_video(batch, subject)[:1]
        subject = Subject(subject.role, subject.grid, ((0, 1),))
    kind = "image" if batch.ndim == 4 else "mask"
    number = next((n for n, count in subject.places if batch.shape[0] == count), 0 if batch.shape[0] == 1 else None)
    if number is None:
        counts = " or ".join(sorted({str(count) for _, count in subject.places}))
        raise ValueError(
            f"got a batch of {batch.shape[0]} {kind}s for {counts} {subject.role}(s): give one, or one for each."
        )
    chosen = batch[number][..., :3] if kind == "image" else batch[number]
    check_aspect(chosen.shape[0], chosen.shape[1], subject.grid, f"the {subject.role}'s {kind}")
    return chosen


def painted_mask(attribution: Attribution, mask: Tensor | None, item: int) -> tuple[Tensor, str]:
    """The mask of the picture, and whose it is."""
    attribution.check_item(item)
    if mask is not None:
        return choose(mask, generated(attribution, item)), "inpainting_mask"
    if attribution.denoise_mask is None:
        raise ValueError(
            "this run had no inpainting mask, so there is nothing to score against: connect inpainting_mask, the part "
            "of the picture where the reference should act."
        )
    cells = cells_of(attribution.denoise_mask[item], attribution.grid)
    return cells.view(attribution.grid.height, attribution.grid.width).float(), "the sampler's"


def choose_frames(batch: Tensor, subject: Subject, frames: int) -> Tensor:
    """A picture ``[frames, H, W, 3]`` for each frame of the latent, evenly from the pictures of a video."""
    video = _of_video(batch, subject)
    picked = torch.linspace(0, len(video) - 1, frames).round().long()
    check_aspect(*video.shape[1:3], subject.grid, f"the {subject.role}'s image")
    return video[picked][..., :3].float()


def _of_video(batch: Tensor, subject: Subject) -> Tensor:
    """The pictures of one video of a batch: all, or the part of its item where there are several videos."""
    number, count = subject.places[-1]
    if batch.shape[0] > 1 and batch.shape[0] % count:
        raise ValueError(
            f"got a batch of {batch.shape[0]} pictures for {count} {subject.role}(s) of several frames: give all the "
            "pictures of every video, one video after the other, or a single picture."
        )
    return batch if batch.shape[0] == 1 else batch.unflatten(0, (count, -1))[number]


def check_aspect(height: int, width: int, grid: TokenGrid, what: str) -> None:
    """A picture may have any size, if its shape is that of the grid to within a cell."""
    expected = width * grid.height / grid.width
    if abs(height - expected) > max(1.0, 1.01 * height / grid.height, 1.01 * expected / grid.height):
        raise ValueError(
            f"{what} is {width}x{height}, but its attention lies on a grid of {grid}, which has another shape: "
            "give the image that the model saw, cropped as the model saw it (any size will do)."
        )


def size_for(grid: TokenGrid) -> tuple[int, int]:
    """Height and width of a heatmap of its own, when there is no image to take them from."""
    scale = LONGEST_SIDE / max(grid.height, grid.width)
    return round(grid.height * scale), round(grid.width * scale)


def enlarge(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A coarse mask ``[h, w]`` with its cells as they are, at ``size``."""
    return F.interpolate(mask[None, None].float(), size=size, mode="nearest-exact")[0, 0]


def as_batch(picture: Tensor, count: int) -> Tensor:
    return picture[None].expand(count, *picture.shape).to(torch.float32)


def small(picture: Tensor, longest: int = LONGEST_SIDE) -> Tensor:
    """``[H, W, 3]`` in [0, 1] to uint8, at most ``longest`` px a side: to keep with maps."""
    height, width = picture.shape[:2]
    scale = min(1.0, longest / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    resized = F.interpolate(picture.movedim(-1, 0)[None].float(), size, mode="bilinear", antialias=scale < 1)
    return (resized[0].movedim(0, -1).clamp(0, 1) * 255).round().to(torch.uint8).contiguous()
