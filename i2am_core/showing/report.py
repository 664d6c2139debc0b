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
from ..reading.levels import Level, maps
from ..selection import Selection
from .render import colorize, heat, overlay

TILE = 1.7  # inches of one picture
COLUMNS = 6
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
        figure.text(0.5, 1 - 0.6 * band / height, title, ha="center", va="center", fontsize=12, weight="bold")
    for row in rows:
        top -= band
        figure.text(0.2 / figure.get_figwidth(), (top + 0.08) / height, row.heading, fontsize=10, weight="bold")
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
            axes.set_title(caption, fontsize=7, y=-0.14, va="bottom")
        top -= TILE + band
    figure.savefig(path)


def attribution_sheet(attribution: Attribution, path: Path, item: int = 0, reference: int | None = None) -> None:
    """Write a one-page PNG of every level in ``LEVELS`` in both directions, over the pictures that the attribution has.

    It is of one ``item`` and one ``reference``, by default the first that any call has read. Raises UnknownItem or
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
            pictures = list(_overlays(of_level.values, None if level == "frame" else picture))
            for start in range(0, len(pictures), COLUMNS):
                part = slice(start, start + COLUMNS)
                rows.append(Row(f"{title}: {level}", pictures[part], of_level.labels[part]))
    contact_sheet(rows, path, attribution.references[reference].name)


def _frames(attribution: Attribution, direction: Direction, reference: int) -> int:
    """How many frames maps have; 1 where it is no video, or where layers have different numbers of frames."""
    grid = attribution.references[reference].grid
    if direction == "g2r" and grid is not None:
        return grid.frames
    counts = {attribution.layers[layer].grid.frames for r, layer in attribution.entries if r == reference}
    return counts.pop() if len(counts) == 1 else 1


def _overlays(values: Tensor, picture: Tensor | None) -> Tensor:
    if picture is None:
        scale = 256 / max(values.shape[-2:])
        return colorize(heat(values, (round(values.shape[-2] * scale), round(values.shape[-1] * scale))))
    height, width = picture.shape[:2]
    return overlay(picture[None].float() / 255, colorize(heat(values, (height, width))), 0.5)
