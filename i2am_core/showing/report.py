"""Contact sheets: rows of pictures with captions on one page, such as all levels of a run's maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..attribution import Attribution
from ..errors import MissingPackage
from ..kinds import Direction, MapKind
from ..printing import printable
from ..reading.aggregate import grid_of
from ..reading.levels import Level, maps
from ..selection import Selection
from .render import colorize, heat, overlay

TILE = 1.7  # inches of one picture
COLUMNS = 6
CAPTION = 40  # letters, at most
PICTURES = 60  # of one level, at most
PICTURE_SIDE = 1024  # px, at most: a tile has fewer
TITLES: dict[Direction, str] = {
    "r2g": "Where the reference acts in the picture",
    "g2r": "Which parts of the reference the picture used",
}
LEVELS: tuple[Level, ...] = ("unified", "time", "layer", "head", "frame")


@dataclass(frozen=True)
class Row:
    """Pictures ``[h, w, 3]`` in [0, 1] or uint8, with a caption each, under one heading."""

    heading: str
    pictures: Sequence[Any]
    captions: Sequence[str]


def contact_sheet(rows: Sequence[Row], path: Path, title: str = "") -> None:
    """Write all rows, of which there is one at least, as a one-page PNG. Raises MissingPackage without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPackage("matplotlib", "sheets", "a contact sheet") from None

    columns = max(len(row.pictures) for row in rows)
    band = 0.35  # inches of a heading
    height = sum(TILE + 2 * band for _ in rows) + (band if title else 0)
    figure = Figure(figsize=(columns * TILE + 0.4, height), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    top = height
    if title:
        top -= band
        place = (0.5, 1 - 0.6 * band / height)
        figure.text(*place, _plain(title), ha="center", va="center", fontsize=12, weight="bold", parse_math=False)
    for row in rows:
        top -= band
        place = (0.2 / figure.get_figwidth(), (top + 0.08) / height)
        figure.text(*place, _plain(row.heading, 2 * CAPTION), fontsize=10, weight="bold", parse_math=False)
        for column, (picture, caption) in enumerate(zip(row.pictures, row.captions, strict=True)):
            left = 0.2 + column * TILE
            box = (
                left / figure.get_figwidth(),
                (top - TILE) / height,
                0.95 * TILE / figure.get_figwidth(),
                TILE / height,
            )
            axes = figure.add_axes(box)
            axes.imshow(np.asarray(picture), interpolation="nearest")
            axes.set_axis_off()
            axes.set_anchor("N")
            axes.set_title(_plain(caption), fontsize=7, y=-0.14, va="bottom", parse_math=False)
        top -= TILE + band
    figure.savefig(path)


def _plain(text: str, longest: int = CAPTION) -> str:
    """A name as it may be drawn: matplotlib would lay out one without end, and stop at a control character."""
    return printable(text, longest)


def attribution_sheet(attribution: Attribution, path: Path, item: int = 0, reference: int | None = None) -> None:
    """Write a one-page PNG of every level in ``LEVELS`` in both directions, over the pictures that the attribution has.

    It is of one ``item`` and one ``reference``, by default the first that any call has read, and has the first
    ``PICTURES`` maps of a level. Raises UnknownItem or
    UnknownReference where there is no such, and MissingPackage without matplotlib.
    """
    if reference is None:
        reference = min((number for number, _ in attribution.entries), default=0)
    rows = []
    for direction, title in TITLES.items():
        if direction == "g2r" and attribution.check_reference(reference).grid is None:
            continue
        frames = _frames(attribution, direction, reference)
        picture = attribution.picture(direction, reference, item)
        for level in LEVELS:
            if (level == "head" and attribution.heads == "merged") or (level == "frame" and frames == 1):
                continue
            of_level = maps(attribution, MapKind(direction), level, Selection(reference=reference, item=item))
            pictures = list(_overlays(of_level.values[:PICTURES], None if level == "frame" else picture))
            labels = of_level.labels[:PICTURES]
            heading = f"{title}: {level}"
            if len(of_level.labels) > PICTURES:
                heading += f", the first {PICTURES} of {len(of_level.labels)}"
            for start in range(0, len(pictures), COLUMNS):
                part = slice(start, start + COLUMNS)
                rows.append(Row(heading, pictures[part], labels[part]))
    contact_sheet(rows, path, attribution.references[reference].name)


def _frames(attribution: Attribution, direction: Direction, reference: int) -> int:
    """How many frames maps have; 1 where it is no video, or where layers have different numbers of frames."""
    layers = [layer for r, layer in attribution.entries if r == reference]
    grids = {grid_of(attribution, MapKind(direction), reference, layer) for layer in layers}
    counts = {grid.frames for grid in grids}
    return counts.pop() if len(counts) == 1 else 1


def _overlays(values: Tensor, picture: Tensor | None) -> Tensor:
    if picture is None:
        scale = 256 / max(values.shape[-2:])
        return colorize(
            heat(values, (max(1, round(values.shape[-2] * scale)), max(1, round(values.shape[-1] * scale))))
        )
    step = -(-max(picture.shape[:2]) // PICTURE_SIDE)
    picture = picture[::step, ::step]
    height, width = picture.shape[:2]
    return overlay(picture[None].float() / 255, colorize(heat(values, (height, width))), 0.5)
