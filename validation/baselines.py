"""What a map has to be better than: maps made without any model, of the picture and of the reference.

All are ``[n, GRID, GRID]``, one for each scene of a study in its order, and higher where more is expected. 'object' is
the truth, how much of a cell the object covers: no user has that. 'geometry' sees nothing of the scene that it is for
but where the square is: it is the object's cover in all other scenes, at the same place.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..demo import data, effect

SQUARE = 12  # cells on a side of the largest square, in which squares are laid onto each other
BASELINES = ("random", "centre", "edges", "geometry", "object")


def on_picture(study: effect.Study, painted: Tensor | None = None) -> dict[str, Tensor]:
    """By name, on the picture; edges are those of the ``painted`` one, by default that of the study's own run."""
    scenes, order = study.scenes, study.order
    return {
        "random": random(len(order), seed=0),
        "centre": centre(len(order)),
        "edges": edges(study.measured()["image"] if painted is None else painted),
        "geometry": by_place_in_square(cover(scenes.object_mask), squares(scenes.mask))[order],
        "object": cover(scenes.object_mask)[order],
    }


def on_reference(study: effect.Study) -> dict[str, Tensor]:
    """By name, on the reference of the object; its place is the place in that image."""
    scenes, order = study.scenes, study.order
    covered = cover(scenes.reference_object_mask)
    return {
        "random": random(len(order), seed=1),
        "centre": centre(len(order)),
        "edges": edges(scenes.reference[order]),
        "geometry": of_others(covered)[order],
        "object": covered[order],
    }


def random(count: int, seed: int) -> Tensor:
    """Numbers by chance, between 0 and 1."""
    return torch.rand(count, data.GRID, data.GRID, generator=torch.Generator().manual_seed(seed))


def centre(count: int) -> Tensor:
    """How near a cell is to the middle of the image: 1 there, 0 in the corners."""
    place = (torch.arange(data.GRID) + 0.5) / data.GRID - 0.5
    away = (place[:, None].square() + place.square()).sqrt()
    return (1 - away / 0.5**0.5).expand(count, -1, -1)


def edges(images: Tensor) -> Tensor:
    """How steep images ``[n, 3, IMAGE, IMAGE]`` are: the length of the gradient over both axes and all colours."""
    down, right = torch.gradient(images, dim=(2, 3))
    return cover((down.square() + right.square()).sum(1, keepdim=True).sqrt())


def cover(masks: Tensor) -> Tensor:
    """The mean in each cell, of masks ``[n, 1, IMAGE, IMAGE]``."""
    return F.avg_pool2d(masks, data.PATCH)[:, 0]


def of_others(maps: Tensor) -> Tensor:
    """Of maps ``[n, h, w]``, for each the mean of all others. Raises ValueError where there is one alone."""
    if len(maps) < 2:
        raise ValueError("one scene has no others to expect anything by: draw two or more.")
    return (maps.sum(0) - maps) / (len(maps) - 1)


def squares(masks: Tensor) -> list[tuple[slice, slice]]:
    """Of masks ``[n, 1, IMAGE, IMAGE]`` the rows and columns of cells that the painted square has."""
    return [(_span(mask.any(1)), _span(mask.any(0))) for mask in cover(masks) > 0.5]


def by_place_in_square(maps: Tensor, places: list[tuple[slice, slice]]) -> Tensor:
    """For each map ``[n, GRID, GRID]`` the mean of all others with their squares laid onto its own; 0 outside."""
    inside = [_resized(x[rows, columns], SQUARE, SQUARE) for x, (rows, columns) in zip(maps, places, strict=True)]
    result = torch.zeros_like(maps)
    for one, expected, (rows, columns) in zip(result, of_others(torch.stack(inside)), places, strict=True):
        one[rows, columns] = _resized(expected, rows.stop - rows.start, columns.stop - columns.start)
    return result


def _span(covered: Tensor) -> slice:
    cells = covered.nonzero().flatten()
    return slice(int(cells[0]), int(cells[-1]) + 1)


def _resized(values: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(values[None, None], (height, width), mode="bilinear")[0, 0]
