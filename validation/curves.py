"""Figures of curves, one beside the other, in colours that the colour-blind tell apart (Okabe and Ito)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from ..demo.steer import interval

COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = "osD^vPX*"
NAMED = ("G2R of the paper", "G2R by share", "Effect of 16 regions", "random", "centre", "edges", "geometry", "object")


@dataclass(frozen=True)
class Plot:
    """``curves`` have by their name, of each scene, a number at each place of ``x``: ``[n, places]``."""

    title: str
    x: Sequence[float] | Sequence[str]
    curves: Mapping[str, Tensor]


def drawn(plots: Sequence[Plot], across: str, along: str, dashed: Sequence[str] = ()) -> Figure:
    """Means over the scenes; ``dashed`` are those to compare with, the others have the interval of their mean.

    A name of ``NAMED`` has the same colour in every figure; others have one that is left over. Raises ValueError for
    more curves than there are colours.
    """
    figure = Figure(figsize=(5 * len(plots), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    names = list(dict.fromkeys([*NAMED, *(name for plot in plots for name in plot.curves)]))
    if any(len({names.index(name) % len(COLOURS) for name in plot.curves}) < len(plot.curves) for plot in plots):
        raise ValueError("two curves of one plot would have one colour")
    for axes, plot in zip(figure.subplots(1, len(plots), squeeze=False)[0], plots, strict=True):
        for name, values in plot.curves.items():
            number = names.index(name)
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
            axes.plot(plot.x, values.mean(0).tolist(), label=name, color=colour, marker=marker, markersize=3,
                      linestyle="--" if name in dashed else "-", linewidth=1.2)  # fmt: skip
            if name not in dashed:
                low, high = zip(*map(interval, values.T), strict=True)
                axes.fill_between(plot.x, low, high, color=colour, alpha=0.1, linewidth=0)
        _word(axes, plot, across, along)
    return figure


def _word(axes: Axes, plot: Plot, across: str, along: str) -> None:
    axes.set_title(plot.title, fontsize=9)
    axes.set_xlabel(across, fontsize=8)
    axes.set_ylabel(along, fontsize=8)
    axes.tick_params(labelsize=7)
    if isinstance(plot.x[0], str):
        axes.tick_params(axis="x", labelrotation=25)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
