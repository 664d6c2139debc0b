"""Pages: sections of text, pictures and curves, one below the other, 1600 px wide."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import MissingPackage
from ..printing import printable

WIDTH, DPI = 16.0, 100  # inches, 1600 px
MARGIN = 0.4  # inches
LETTERS = 165  # of a line of a finding
TILES = 6  # pictures in a row
STYLES = ("o-", "s--", "^:", "D-.", "v-", "P--")  # that differ without colours, too


@dataclass(frozen=True)
class Section:
    """A part of the page over its whole width, so many inches high."""

    height: float
    draw: Callable[[Any, float, float], None]  # of the figure, from this top down, in parts of a page that is so high


def drawn_page(sections: Sequence[Section], what: str) -> Tensor:
    """The sections as a page ``[H, 1600, 3]`` in [0, 1]. Raises MissingPackage without matplotlib, for ``what``."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPackage("matplotlib", "sheets", what) from None
    height = sum(section.height for section in sections) + 2 * MARGIN
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    canvas: Any = FigureCanvasAgg(figure)
    top = height - MARGIN
    for section in sections:
        section.draw(figure, top, height)
        top -= section.height
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    return torch.from_numpy(pixels.copy()).float() / 255


# Text


Line = tuple[str, str, float, bool]
"""A line: what it says, its colour, its size in points, whether it is bold."""


def text_section(lines: Sequence[Line], gap: float = 0.12) -> Section:
    heights = [1.75 * size / 72 for _, _, size, _ in lines]

    def draw(figure: Any, top: float, height: float) -> None:
        for (said, color, size, bold), own in zip(lines, heights, strict=True):
            top -= own
            figure.text(
                MARGIN / WIDTH, (top + 0.25 * own) / height, said, color=color, fontsize=size,
                weight="bold" if bold else "normal", parse_math=False, family="DejaVu Sans",
            )  # fmt: skip

    return Section(sum(heights) + gap, draw)


def wrapped(text: str, letters: int, color: str, size: float, indent: str = "      ") -> list[Line]:
    lines = textwrap.wrap(printable(text, 2000), letters, subsequent_indent=indent) or [""]
    return [(line, color, size, False) for line in lines]


# Pictures


Tile = tuple[str, Tensor]
"""A caption, and a picture ``[H, W, 3]`` in [0, 1]."""


def picture_section(tiles: Sequence[Tile]) -> Section:
    side = (WIDTH - 2 * MARGIN) / TILES
    tallest = max(min(2.0, picture.shape[0] / picture.shape[1]) for _, picture in tiles)

    def draw(figure: Any, top: float, height: float) -> None:
        for n, (caption, picture) in enumerate(tiles):
            own = 0.94 * side
            box = (MARGIN + n * side) / WIDTH, (top - tallest * own) / height, own / WIDTH, tallest * own / height
            axes = figure.add_axes(box)
            axes.imshow(picture.numpy(), interpolation="nearest" if max(picture.shape[:2]) < 400 else "antialiased")
            axes.set_axis_off()
            axes.set_anchor("N")
            left = (MARGIN + n * side) / WIDTH
            figure.text(left, (top - tallest * own - 0.22) / height, caption, fontsize=11, parse_math=False)

    return Section(tallest * 0.94 * side + 0.55, draw)


# Curves


@dataclass(frozen=True)
class Plot:
    """Curves in one system of axes: by their names, what they are drawn over, and their values."""

    title: str
    across: str
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    names: Sequence[str] = ()  # of what it is drawn over, where that is not steps


def plot_section(plots: Sequence[Plot]) -> Section:
    tall, gap = 2.2, 0.65
    wide = (WIDTH - 2 * MARGIN - gap * len(plots)) / max(2, len(plots))

    def draw(figure: Any, top: float, height: float) -> None:
        for n, plot in enumerate(plots):
            left = MARGIN + gap * 0.7 + n * (wide + gap)
            axes = figure.add_axes((left / WIDTH, (top - tall - 0.35) / height, wide / WIDTH, tall / height))
            for (name, (x, y)), style in zip(plot.curves.items(), STYLES, strict=False):
                axes.plot(x, y, style, label=name, markersize=4, linewidth=1.4)
            axes.set_title(plot.title, fontsize=10, loc="left")
            axes.set_ylim(bottom=0)
            axes.tick_params(labelsize=8)
            if plot.names:
                _name_axis(axes, plot.names)
            else:
                axes.set_xlabel(plot.across, fontsize=9)
                axes.xaxis.get_major_locator().set_params(integer=True)
            if len(plot.curves) > 1 or n == 0:
                legend = axes.legend(fontsize=8, frameon=False)
                for text in legend.get_texts():
                    text.set_parse_math(False)
            axes.spines[["top", "right"]].set_visible(False)

    return Section(tall + 1.15, draw)


def _name_axis(axes: Any, names: Sequence[str]) -> None:
    """Every so many layers by name: all of them, where there are few."""
    each = -(-len(names) // 12)
    axes.set_xticks(
        range(0, len(names), each), [printable(name, 18) for name in names[::each]], rotation=35, ha="right"
    )
    for label in axes.get_xticklabels():
        label.set_parse_math(False)
        label.set_fontsize(7)
