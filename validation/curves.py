"""One figure of curves, one beside the other, in colours that the colour-blind tell apart (Okabe and Ito)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = "osD^vPX*"
NAMED = ("G2R of the paper", "G2R by share", "Effect of 16 regions", "random", "centre", "edges", "geometry", "object")


def curves(
    drawn: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]], across: str, dashed: Sequence[str] = ()
) -> Figure:
    """By the title of each plot and the name of each curve its x and y; ``dashed`` are those to compare with.

    A name of ``NAMED`` has the same colour in every figure.
    """
    figure = Figure(figsize=(5 * len(drawn), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    names = list(dict.fromkeys([*NAMED, *(name for of in drawn.values() for name in of)]))
    for axes, (title, of) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn.items(), strict=True):
        for name, (x, y) in of.items():
            number = names.index(name)
            axes.plot(x, y, label=name, color=COLOURS[number % len(COLOURS)], marker=MARKERS[number % len(MARKERS)],
                      markersize=3, linestyle="--" if name in dashed else "-", linewidth=1.2)  # fmt: skip
        _worded(axes, title, across)
    return figure


def _worded(axes: Axes, title: str, across: str) -> None:
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(across, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
