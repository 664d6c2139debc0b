"""One page about two runs: what changed, their maps side by side and what B has more, and the curves of both."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..attribution import Attribution
from ..effect import Owner
from ..errors import AttributionError
from ..findings.compare import COMPARED_SENTENCES, Compared
from ..findings.facts import Facts
from ..printing import printable
from ..reading.difference import MapsOfBoth, counterpart
from .render import DIVERGING, colorize, largest_of_both, resized
from .sections import (
    COLORMAP,
    GREY,
    LETTERS,
    MARGIN,
    SMALL_LETTERS,
    WIDTH,
    Line,
    Plot,
    Section,
    Tile,
    drawn_page,
    picture_section,
    plot_section,
    said,
    text_section,
    wrapped,
)

MOST_MAPS = 8  # rows of maps: the others are in the pictures of the difference
SMALLEST = 256  # px of the longer side of a drawn map
CAPTION = 60  # letters
TALLEST = 6.0  # inches of a map


@dataclass(frozen=True)
class ComparedPage:
    """What a page is of: two ``runs``, what changed, and ``maps`` of both, of which ``title`` says what they are.

    Where there are none that can be compared, ``title`` says why. ``pictures`` are ``[H, W, 3]`` of A and of B, where
    they are known. ``blocks``: maps are of regions. Curves are of the effect of ``owner``, as A numbers it, and of the
    attention to it, where it is a reference.
    """

    runs: tuple[Attribution, Attribution]
    compared: Compared
    maps: MapsOfBoth | None
    title: str
    item: int = 0
    owner: Owner = 0
    blocks: bool = False
    pictures: tuple[Tensor | None, Tensor | None] = (None, None)


def compared_page(page: ComparedPage) -> Tensor:
    """The page ``[H, 1600, 3]`` in [0, 1]. Raises MissingPackage without matplotlib."""
    return drawn_page(list(_sections(page)), "a comparison")


def notice(words: str) -> Tensor:
    """A picture ``[1, H, W, 3]`` that says in words why there is none. Raises MissingPackage without matplotlib."""
    return drawn_page([text_section(wrapped(words, 90, "#b00020", 18, ""))], "a comparison")[None]


def _sections(page: ComparedPage) -> Iterator[Section]:
    yield text_section([("What changed from A to B", "black", 15, True)])
    notes = [line for note in page.compared.notes() for line in wrapped(note, LETTERS, GREY, 10)]
    yield text_section([*said(page.compared.findings, COMPARED_SENTENCES), *notes], 0.25)
    if tiles := list(_tiles(page)):
        yield picture_section(tiles)
    yield text_section(wrapped(page.title, LETTERS, "black", 12, ""), 0.08)
    if page.maps is not None:
        for number in range(min(len(page.maps.a), MOST_MAPS)):
            yield _row(page, page.maps, number)
        yield from _left_out(page.maps)
    if plots := list(_curves(page)):
        yield plot_section(plots)


def _left_out(maps: MapsOfBoth) -> Iterator[Section]:
    words = [*maps.left_out[:MOST_MAPS], maps.grids]
    if len(maps.a) > MOST_MAPS:
        words.append(f"and {len(maps.a) - MOST_MAPS} more maps, which are not drawn here")
    if len(maps.left_out) > MOST_MAPS:
        words.append(f"and {len(maps.left_out) - MOST_MAPS} more that one run has alone")
    lines: list[Line] = [line for one in filter(None, words) for line in wrapped(one, SMALL_LETTERS, GREY, 9)]
    if lines:
        yield text_section(lines)


# Pictures


def _tiles(page: ComparedPage) -> Iterator[Tile]:
    for called, picture in zip("AB", page.pictures, strict=True):
        if picture is not None:
            yield Tile(f"the picture of {called}", picture)
    a, b = page.pictures
    if a is not None and b is not None and a.shape == b.shape:
        difference = (a - b).abs().mean(-1)
        most = float(difference.max())
        drawn = colorize((difference / (most or 1.0))[None], COLORMAP)[0]
        yield Tile("where they differ", drawn, COLORMAP, ("0%", f"{most:.0%}"))


def _row(page: ComparedPage, maps: MapsOfBoth, number: int) -> Section:
    """A, B and B - A: the first two in one scale, the third in that of all differences."""
    largest = max(float(maps.a.max()), float(maps.b.max())) or 1.0
    most = largest_of_both(maps.difference) or 1.0
    drawn = [(maps.a, COLORMAP, 0.0, largest), (maps.b, COLORMAP, 0.0, largest)]
    drawn.append((maps.difference, DIVERGING, -most, most))
    captions = [_caption(called, label) for called, label in zip("AB", maps.labels[number], strict=True)]
    size = _size(maps)
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


def _size(maps: MapsOfBoth) -> tuple[int, int]:
    height, width = maps.a.shape[-2:]
    times = max(1, -(-SMALLEST // max(height, width)))
    return times * height, times * width


# Curves


Curve = tuple[list[float], list[float]]
"""Steps, and values."""


def _curves(page: ComparedPage) -> Iterator[Plot]:
    """Over the part of the steps, so that runs of unlike numbers of steps can be compared."""
    a, b = page.runs
    owners = page.owner, counterpart(a, b, page.owner) if isinstance(page.owner, int) else page.owner
    name = a.owner_names.get(page.owner, "it")
    for title, curve_of in CURVES.items():
        curves = {}
        for called, run, owner in zip("AB", page.runs, owners, strict=True):
            steps, values = ([], []) if owner is None else _or_nothing(curve_of, Facts(run, page.item), owner)
            if steps:
                curves[f"{called}, of {run.steps} steps"] = [step / run.steps for step in steps], values
        if curves:
            yield Plot(printable(title.format(name), 90), "part of the steps", curves)


def _or_nothing(curve_of: Callable[[Facts, Owner], Curve], facts: Facts, owner: Owner) -> Curve:
    try:
        return curve_of(facts, owner)
    except AttributionError:  # of which the findings say what one run lacks
        return [], []


def _effect_by_step(facts: Facts, owner: Owner) -> Curve:
    steps = facts.measured_steps(owner) if owner in facts.effects.owners else []
    return [float(step) for step in steps], [facts.strength(owner, [step]) for step in steps]


def _share_by_step(facts: Facts, owner: Owner) -> Curve:
    if not isinstance(owner, int) or owner not in facts.read or facts.has_all_of_it(owner):
        return [], []
    return facts.shares_by_step(owner)


CURVES: dict[str, Callable[[Facts, Owner], Curve]] = {
    "what the picture changes by without {} (latent units)": _effect_by_step,
    "part of the attention that goes to {}": _share_by_step,
}
