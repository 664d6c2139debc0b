"""One page about two runs: what changed, their maps side by side and what B has more, and the curves of both."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..attribution import Attribution
from ..errors import AttributionError
from ..findings.compare import Compared, compared_lines
from ..findings.facts import Facts
from ..printing import printable
from ..reading.difference import MapPairs
from .page import ALL_OF_IT
from .render import DIVERGING, colorize, largest_of_both, resized
from .sections import (
    LETTERS,
    MARGIN,
    WIDTH,
    Line,
    Plot,
    Section,
    Tile,
    drawn_page,
    picture_section,
    plot_section,
    text_section,
    wrapped,
)

MOST_MAPS = 8  # rows of maps: the others are in the pictures of the difference
SMALLEST = 256  # px of the longer side of a drawn map
SEQUENTIAL = "inferno"
COLORS = {"[!]": "#b00020", "[ok": "#1b6e3a"}
CAPTION = 60  # letters
TALLEST = 6.0  # inches of a map


@dataclass(frozen=True)
class ComparedPage:
    """What a page is of: two runs, what changed, and maps of both; ``title`` says which maps, and their unit.

    ``pictures`` are ``[H, W, 3]`` of A and of B, where they are known. ``blocks``: maps are of regions.
    """

    runs: tuple[Attribution, Attribution]
    compared: Compared
    pairs: MapPairs | None  # None where there are none that can be compared, of which ``title`` says why
    title: str
    item: int = 0
    blocks: bool = False
    pictures: tuple[Tensor | None, Tensor | None] = (None, None)


def compared_page(page: ComparedPage) -> Tensor:
    """The page ``[H, 1600, 3]`` in [0, 1]. Raises MissingPackage without matplotlib."""
    return drawn_page(list(_sections(page)), "a comparison")


def _sections(page: ComparedPage) -> Iterator[Section]:
    yield text_section([("What changed from A to B", "black", 15, True)])
    lines: list[Line] = []
    for line in compared_lines(page.compared):
        lines += wrapped(line, LETTERS, COLORS.get(line[:3], "#333333"), 12 if line.startswith("[") else 10)
    yield text_section(lines, 0.25)
    if tiles := list(_tiles(page)):
        yield picture_section(tiles)
    yield text_section([(printable(page.title, 150), "black", 12, True)], 0.08)
    if page.pairs is not None:
        for number in range(min(len(page.pairs.a), MOST_MAPS)):
            yield _maps(page, page.pairs, number)
        yield from _left_out(page.pairs)
    if plots := _curves(page):
        yield plot_section(plots)


def _left_out(pairs: MapPairs) -> Iterator[Section]:
    said = [*pairs.left_out[:MOST_MAPS], pairs.grids] if pairs.grids else list(pairs.left_out[:MOST_MAPS])
    if len(pairs.a) > MOST_MAPS:
        said.append(f"and {len(pairs.a) - MOST_MAPS} more maps, which are not drawn here")
    if len(pairs.left_out) > MOST_MAPS:
        said.append(f"and {len(pairs.left_out) - MOST_MAPS} more that one run has alone")
    lines: list[Line] = [line for one in said for line in wrapped(one, 185, "#333333", 9)]
    if lines:
        yield text_section(lines)


# Pictures


def _tiles(page: ComparedPage) -> Iterator[Tile]:
    a, b = page.pictures
    for called, picture in zip("AB", page.pictures, strict=True):
        if picture is not None:
            yield Tile(f"the picture of {called}", picture)
    if a is not None and b is not None and a.shape == b.shape:
        difference = (a - b).abs().mean(-1)
        most = float(difference.max())
        drawn = colorize((difference / (most or 1.0))[None], SEQUENTIAL)[0]
        yield Tile("where they differ", drawn, SEQUENTIAL, ("0%", f"{most:.0%}"))


def _maps(page: ComparedPage, pairs: MapPairs, number: int) -> Section:
    """A, B and B - A: the first two in one scale, the third in that of all differences."""
    largest = max(float(pairs.a.max()), float(pairs.b.max())) or 1.0
    most = largest_of_both(pairs.values) or 1.0
    size = _size(pairs)
    drawn = [(pairs.a, SEQUENTIAL, 0.0, largest), (pairs.b, SEQUENTIAL, 0.0, largest)]
    drawn.append((pairs.values, DIVERGING, -most, most))
    captions = [_caption(called, label) for called, label in zip("AB", pairs.labels[number], strict=True)]
    column = (WIDTH - 2 * MARGIN) / len(drawn)
    tall = min(0.8 * column * size[0] / size[1], TALLEST)
    wide = tall * size[1] / size[0]

    def draw(figure: Any, top: float, height: float) -> None:
        for n, ((values, colormap, low, high), caption) in enumerate(zip(drawn, [*captions, "B - A"], strict=True)):
            left = MARGIN + n * column
            axes = figure.add_axes((left / WIDTH, (top - tall) / height, wide / WIDTH, tall / height))
            pixels = resized(values[number : number + 1], size, page.blocks)[0].numpy()
            image = axes.imshow(pixels, cmap=colormap, vmin=low, vmax=high, interpolation="nearest")
            if low < 0:
                _outline(axes, pixels, most / 2)
            axes.set_axis_off()
            bar = figure.add_axes(((left + wide + 0.08) / WIDTH, (top - tall) / height, 0.14 / WIDTH, tall / height))
            figure.colorbar(image, cax=bar).ax.tick_params(labelsize=8)
            place = left / WIDTH, (top - tall - 0.22) / height
            figure.text(*place, printable(caption, CAPTION), fontsize=10, parse_math=False)

    return Section(tall + 0.5, draw)


def _caption(called: str, label: str) -> str:
    return called if label == "unified" else f"{called}: {label}"


def _outline(axes: Any, pixels: Any, level: float) -> None:
    """Around what is more (solid) and less (dashed), so that they differ without colours, too."""
    levels = [x for x in (-level, level) if pixels.min() < x < pixels.max()]
    if levels:
        styles = ["dashed" if x < 0 else "solid" for x in levels]
        axes.contour(pixels, levels, colors="black", linewidths=1, linestyles=styles)


def _size(pairs: MapPairs) -> tuple[int, int]:
    times = max(1, -(-SMALLEST // max(pairs.a.shape[-2:])))
    height, width = pairs.a.shape[-2:]
    return times * height, times * width


# Curves


def _curves(page: ComparedPage) -> list[Plot]:
    """Of the first reference, or what another conditioning lacks: its effect and its share by step, in both runs."""
    plots = []
    for title, read in CURVES.items():
        curves = {}
        for called, run in zip("AB", page.runs, strict=True):
            facts = Facts(run, page.item)
            try:
                steps, values = read(facts)
            except AttributionError:
                continue
            if steps:
                curves[f"{called}, of {run.steps} steps"] = ([step / run.steps for step in steps], values)
        if curves:
            plots.append(Plot(title, "part of the steps", curves))
    return plots


def _effect_by_step(facts: Facts) -> tuple[list[float], list[float]]:
    steps = facts.steps_of(facts.owners[0]) if facts.owners else []
    return [float(step) for step in steps], [facts.strength(facts.owners[0], [step]) for step in steps]


def _share_by_step(facts: Facts) -> tuple[list[float], list[float]]:
    if not facts.read:
        return [], []
    steps, shares = facts.shares_by_step(facts.read[0])
    return ([], []) if min(shares, default=1) >= ALL_OF_IT else (steps, shares)  # of one that has all of it, always


CURVES: Mapping[str, Callable[[Facts], tuple[list[float], list[float]]]] = {
    "what the picture changes by without the first reference (latent units)": _effect_by_step,
    "part of the attention that goes to it": _share_by_step,
}


def notice(said: str) -> Tensor:
    """A picture ``[1, H, W, 3]`` that says in words why there is none. Raises MissingPackage without matplotlib."""
    return drawn_page([text_section(wrapped(said, 90, "#b00020", 18, ""))], "a comparison")[None]
