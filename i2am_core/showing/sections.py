"""Pages: sections of text, pictures and curves, one below the other, 1600 px wide."""

import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import MissingPackage
from ..findings.finding import MARKS, Finding, Weight
from ..printing import printable

WIDTH, DPI = 16.0, 100  # inches, 1600 px
MARGIN = 0.4  # inches
LETTERS, SMALL_LETTERS = 165, 185  # of a line of a finding, and of small text
FONTS = ("Noto Sans CJK SC", "Noto Sans SC", "Microsoft YaHei", "SimHei", "PingFang SC", "WenQuanYi Zen Hei")  # Chinese
GREY = "#333333"
COLORS: dict[Weight, str] = {"fault": "#b00020", "fact": GREY, "fine": "#1b6e3a"}
COLORMAP = "inferno"  # of maps: lighter is more, also without colours
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
        from matplotlib import font_manager, rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPackage("matplotlib", "sheets", what) from None
    installed = set(font_manager.get_font_names())
    fonts = ["DejaVu Sans", *(font for font in FONTS if font in installed)]
    with rc_context({"font.family": fonts}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in letters that no font of this machine has
        return _drawn(sections, Figure, FigureCanvasAgg)


def _drawn(sections: Sequence[Section], new_figure: Any, new_canvas: Any) -> Tensor:
    height = sum(section.height for section in sections) + 2 * MARGIN
    figure = new_figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    canvas: Any = new_canvas(figure)
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
    """Lines one below the other, and so many inches of nothing below them."""
    heights = [1.75 * size / 72 for _, _, size, _ in lines]

    def draw(figure: Any, top: float, height: float) -> None:
        for (said, color, size, bold), own in zip(lines, heights, strict=True):
            top -= own
            figure.text(
                MARGIN / WIDTH, (top + 0.25 * own) / height, said, color=color, fontsize=size,
                weight="bold" if bold else "normal", parse_math=False,
            )  # fmt: skip

    return Section(sum(heights) + gap, draw)


def wrapped(text: str, letters: int, color: str, size: float, indent: str = "      ") -> list[Line]:
    """A text as lines of so many letters, all but the first indented."""
    lines = textwrap.wrap(printable(text, 2000), letters, subsequent_indent=indent) or [""]
    return [(line, color, size, False) for line in lines]


def said(findings: Sequence[Finding], sentences: Mapping[str, str]) -> list[Line]:
    """Findings with their marks, in the colours of their weights."""
    return [
        line
        for finding in findings
        for line in wrapped(f"{MARKS[finding.weight]} {finding.worded(sentences)}", LETTERS, COLORS[finding.weight], 12)
    ]


# Pictures


@dataclass(frozen=True)
class Tile:
    """A picture ``[H, W, 3]`` in [0, 1] with its caption, and what the two ends of its colours stand for."""

    caption: str
    picture: Tensor
    colormap: str = ""
    ends: tuple[str, str] = ("", "")


def picture_section(tiles: Sequence[Tile]) -> Section:
    """Pictures side by side, below each its caption, and a bar of its colours where they stand for something."""
    side = (WIDTH - 2 * MARGIN) / TILES
    tallest = max(min(2.0, tile.picture.shape[0] / tile.picture.shape[1]) for tile in tiles)
    own = 0.94 * side

    def draw(figure: Any, top: float, height: float) -> None:
        bottom = top - tallest * own
        for n, tile in enumerate(tiles):
            left = MARGIN + n * side
            axes = figure.add_axes((left / WIDTH, bottom / height, own / WIDTH, tallest * own / height))
            smooth = "nearest" if max(tile.picture.shape[:2]) < 400 else "antialiased"
            axes.imshow(tile.picture.numpy(), interpolation=smooth)
            axes.set_axis_off()
            axes.set_anchor("N")
            figure.text(left / WIDTH, (bottom - 0.22) / height, tile.caption, fontsize=11, parse_math=False)
            if tile.colormap:
                _bar(figure, tile, (left, bottom - 0.44, own), height)

    return Section(tallest * own + (0.8 if any(tile.colormap for tile in tiles) else 0.55), draw)


def _bar(figure: Any, tile: Tile, place: tuple[float, float, float], height: float) -> None:
    """From the left end of the colours to the right one, as wide as the picture, between two words or numbers."""
    left, bottom, wide = place
    axes = figure.add_axes(((left + 0.2 * wide) / WIDTH, bottom / height, 0.6 * wide / WIDTH, 0.12 / height))
    axes.imshow(np.linspace(0, 1, 256)[None], cmap=tile.colormap, aspect="auto", vmin=0, vmax=1)
    axes.set_axis_off()
    for x, side, said in ((0.18, "right", tile.ends[0]), (0.82, "left", tile.ends[1])):
        figure.text((left + x * wide) / WIDTH, (bottom + 0.01) / height, said, fontsize=8, ha=side, parse_math=False)


# Curves


@dataclass(frozen=True)
class Plot:
    """Curves in one system of axes: by their names, what they are drawn over, and their values."""

    title: str
    across: str
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    names: Sequence[str] = ()  # of what it is drawn over, where that is not steps


def plot_section(plots: Sequence[Plot]) -> Section:
    """Systems of axes side by side, each with as many curves as there are styles."""
    tall, gap = 2.2, 0.65
    wide = (WIDTH - 2 * MARGIN - gap * len(plots)) / max(2, len(plots))

    def draw(figure: Any, top: float, height: float) -> None:
        for n, plot in enumerate(plots):
            left = MARGIN + gap * 0.7 + n * (wide + gap)
            axes = figure.add_axes((left / WIDTH, (top - tall - 0.35) / height, wide / WIDTH, tall / height))
            for (name, (x, y)), style in zip(plot.curves.items(), STYLES, strict=False):
                axes.plot(x, y, style, label=name, markersize=4, linewidth=1.4)
            axes.set_title(plot.title, fontsize=10, loc="left")
            axes.set_ylim(0, 1.08 * max((max(y, default=0.0) for _, y in plot.curves.values()), default=0.0) or 1.0)
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
