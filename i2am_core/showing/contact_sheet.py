"""Contact sheets: rows of pictures with captions on one page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MissingPackage
from ..printing import printable

TILE = 1.7  # inches of one picture
LETTER = 0.095  # inches of a heading's letter, about
CAPTION = 40  # letters, at most


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

    columns = max(max(len(row.pictures), round(LETTER * len(_heading(row)) / TILE)) for row in rows)
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
        figure.text(*place, _heading(row), fontsize=10, weight="bold", parse_math=False)
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


def _heading(row: Row) -> str:
    return _plain(row.heading, 2 * CAPTION)


def _plain(text: str, longest: int = CAPTION) -> str:
    """A name as it may be drawn: matplotlib would lay out one without end, and stop at a control character."""
    return printable(text, longest)
