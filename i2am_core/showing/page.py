"""One page about one picture of a run: what was found, what proves it, and what there is to know of the run."""

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..attribution import Attribution
from ..effect import Owner
from ..errors import AttributionError, MissingPackage
from ..findings.examine import OF_THUMB, SENTENCES, Examined
from ..findings.facts import Facts
from ..findings.finding import MARKS, Weight
from ..kinds import MapKind
from ..printing import printable
from ..reading.effect import effect_maps
from ..reading.levels import Maps, maps
from ..selection import Selection
from .render import colorize, heat, overlay

WIDTH, DPI = 16.0, 100  # inches, 1600 px
MARGIN = 0.4  # inches
TILES = 6  # pictures in a row
LETTERS = 185  # of a line of small text
MOST_LINES = 14  # of the account of a run
MOST_CURVES = 6
STYLES = ("o-", "s--", "^:", "D-.", "v-", "P--")  # that differ without colours, too
COLORS: dict[Weight, str] = {"fault": "#b00020", "fact": "#333333", "fine": "#1b6e3a"}


@dataclass(frozen=True)
class Page:
    """What a page is of: an ``item`` of a run, what was found, and lines that are written below the findings."""

    attribution: Attribution
    examined: Examined
    item: int = 0
    image: Tensor | None = None  # [H, W, 3] in [0, 1]: the picture; else what the attribution has of it
    reference_image: Tensor | None = None  # [H, W, 3]: of the first reference
    advice: Sequence[str] = ()
    mask: Tensor | None = None  # [H, W]: what was marked on the picture, where the findings are of that

    @property
    def facts(self) -> Facts:
        """What curves are drawn from: of the positions that the findings are of."""
        return Facts(self.attribution, self.item, self.mask)

    def curves(self) -> dict[str, Any]:
        """What is drawn as curves, as numbers: by title, over what, and by name both coordinates."""
        plots = _curves(self, self.facts)
        return {
            plot.title: {
                "over": plot.across,
                "curves": {name: [list(x), list(y)] for name, (x, y) in plot.curves.items()},
            }
            for plot in plots
        }


@dataclass(frozen=True)
class Section:
    """A part of the page over its whole width, so many inches high."""

    height: float
    draw: Callable[[Any, float, float], None]  # of the figure, from this top down, in parts of a page that is so high


def report_page(page: Page) -> Tensor:
    """The page ``[H, 1600, 3]`` in [0, 1]. Raises MissingPackage without matplotlib, and UnknownItem."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPackage("matplotlib", "sheets", "a report") from None
    page.attribution.check_item(page.item)
    sections = list(_sections(page))
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


def _sections(page: Page) -> Iterator[Section]:
    facts = page.facts
    yield _text([(_title(page), "black", 15, True)])
    yield _findings(page)
    if tiles := _tiles(page, facts):
        yield _pictures(tiles)
    if curves := _curves(page, facts):
        yield _plots(curves)
    yield _account(page)


# Text


Line = tuple[str, str, float, bool]
"""A line: what it says, its colour, its size in points, whether it is bold."""


def _text(lines: Sequence[Line], gap: float = 0.12) -> Section:
    heights = [1.75 * size / 72 for _, _, size, _ in lines]

    def draw(figure: Any, top: float, height: float) -> None:
        for (said, color, size, bold), own in zip(lines, heights, strict=True):
            top -= own
            figure.text(
                MARGIN / WIDTH, (top + 0.25 * own) / height, said, color=color, fontsize=size,
                weight="bold" if bold else "normal", parse_math=False, family="DejaVu Sans",
            )  # fmt: skip

    return Section(sum(heights) + gap, draw)


def _wrapped(text: str, letters: int, color: str, size: float, indent: str = "      ") -> list[Line]:
    lines = textwrap.wrap(printable(text, 2000), letters, subsequent_indent=indent) or [""]
    return [(line, color, size, False) for line in lines]


def _title(page: Page) -> str:
    a = page.attribution
    names = ", ".join(reference.name for reference in a.references) or "what the conditioning holds"
    of_item = f", picture {page.item} of {a.items}" if a.items > 1 else ""
    return printable(f"What the reference did: {names}{of_item}", 100)


def _findings(page: Page) -> Section:
    lines: list[Line] = []
    for finding in page.examined.findings:
        said = f"{MARKS[finding.weight]} {finding.worded(SENTENCES)}"
        lines += _wrapped(said, 140, COLORS[finding.weight], 12)
    if not page.examined.findings:
        lines.append(("No rule could be applied: the reasons are below.", "black", 12, False))
    if any(finding.of_thumb for finding in page.examined.findings):
        lines.append((OF_THUMB, "#333333", 10, False))
    for advice in page.advice:
        lines += _wrapped(advice, 140, "black", 12)
    return _text(lines, 0.25)


def _account(page: Page) -> Section:
    summary = page.attribution.summary().splitlines()
    said = summary[:MOST_LINES]
    if len(summary) > MOST_LINES:
        said.append(f"and {len(summary) - MOST_LINES} more lines in the summary of the run")
    said += [f"not examined: {rule}, since {reason}" for rule, reason in page.examined.lacking.items()]
    lines: list[Line] = [("The run", "black", 12, True)]
    for line in said:
        lines += _wrapped(printable(line, 2 * LETTERS), LETTERS, "#333333", 9)
    return _text(lines)


# Pictures


Tile = tuple[str, Tensor]
"""A caption, and a picture ``[H, W, 3]`` in [0, 1]."""


def _tiles(page: Page, facts: Facts) -> list[Tile]:
    picture = page.image if page.image is not None else _stored(page.attribution, "r2g", 0, page.item)
    reference = page.reference_image
    if reference is None:
        reference = _stored(page.attribution, "g2r", 0, page.item)
    tiles: list[Tile] = []
    if picture is not None:
        tiles.append(("the picture", picture))
    if reference is not None:
        tiles.append(("the reference", reference))
    a, selection = page.attribution, Selection(item=page.item)
    if a.effects is not None and a.effects.maps:
        tiles += _drawn("what it changed", picture, partial(effect_maps, a, "r2g", "unified", selection))
    if a.effects is not None and a.effects.regions:
        read = partial(effect_maps, a, "g2r", "unified", selection)
        tiles += _drawn("what its regions changed", reference, read, blocks=True)
    tiles += _drawn("where it is looked at", picture, partial(maps, a, MapKind("r2g"), "unified", selection))
    tiles += _drawn("what of it is looked at", reference, partial(maps, a, MapKind("g2r"), "unified", selection))
    return tiles[:TILES]


def _stored(attribution: Attribution, direction: Any, reference: int, item: int) -> Tensor | None:
    picture = attribution.picture(direction, reference, item)
    return None if picture is None else picture.float() / 255


def _drawn(caption: str, picture: Tensor | None, read: Callable[[], Maps], blocks: bool = False) -> list[Tile]:
    """A map over its picture; none where there is no such map, of which findings and account say why."""
    try:
        values = read().values
    except AttributionError:
        return []
    if picture is None:
        times = max(1, 256 // max(values.shape[-2:]))
        height, width = (times * side for side in values.shape[-2:])
        return [(caption, colorize(heat(values, (height, width), blocks=blocks))[0])]
    colors = colorize(heat(values, (picture.shape[0], picture.shape[1]), blocks=blocks))
    return [(caption, overlay(picture[None], colors)[0])]


def _pictures(tiles: Sequence[Tile]) -> Section:
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


def _curves(page: Page, facts: Facts) -> list[Plot]:
    a = page.attribution
    plots = []
    if facts.has_effects_of_steps:
        by_owner = {_short(a, owner): _by_step(facts, owner) for owner in facts.effects.owners[:MOST_CURVES]}
        curves = {name: curve for name, curve in by_owner.items() if curve[0]}
        if curves:
            plots.append(Plot("what the picture changes by without it (latent units), by step", "step", curves))
    if facts.read:
        shares = {_short(a, number): facts.shares_by_step(number) for number in facts.read[:MOST_CURVES]}
        plots.append(Plot("part of the attention that goes to it, by step", "step", shares))
        layers = {_short(a, number): facts.shares_by_layer(number) for number in facts.read[:MOST_CURVES]}
        plots.append(Plot("the same, by layer", "layer", layers, [layer.name for layer in a.layers]))
    return plots


def _by_step(facts: Facts, owner: Owner) -> tuple[list[float], list[float]]:
    steps = facts.measured_steps(owner)
    return [float(step) for step in steps], [facts.strength(owner, [step]) for step in steps]


def _short(a: Attribution, owner: Owner) -> str:
    return printable(str(a.owner_names.get(owner, owner)), 32)


def _plots(plots: Sequence[Plot]) -> Section:
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
