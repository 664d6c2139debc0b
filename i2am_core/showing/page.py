"""One page about one picture of a run: what was found, what proves it, and what there is to know of the run."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from ..attribution import Attribution
from ..effect import Owner
from ..errors import AttributionError
from ..findings.examine import OF_THUMB, SENTENCES, Examined
from ..findings.facts import Facts
from ..kinds import MapKind
from ..printing import printable
from ..reading.effect import effect_maps
from ..reading.levels import Maps, maps
from ..selection import Selection
from .render import blended, colorize, heat, resized
from .sections import (
    COLORMAP,
    GREY,
    LETTERS,
    SMALL_LETTERS,
    TILES,
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

MOST_LINES = 14  # of the account of a run
MOST_CURVES = 6
LEAST_EFFECT = 0.2  # latent units: the end of the colours of an effect, at least. Twice what is called little


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


def report_page(page: Page) -> Tensor:
    """The page ``[H, 1600, 3]`` in [0, 1]. Raises MissingPackage without matplotlib, and UnknownItem."""
    page.attribution.check_item(page.item)
    return drawn_page(list(_sections(page)), "a report")


def _sections(page: Page) -> Iterator[Section]:
    facts = page.facts
    yield text_section([(_title(page), "black", 15, True)])
    yield _findings(page)
    if tiles := _tiles(page, facts):
        yield picture_section(tiles)
    if curves := _curves(page, facts):
        yield plot_section(curves)
    yield _account(page)


# Text


def _title(page: Page) -> str:
    a = page.attribution
    names = ", ".join(reference.name for reference in a.references) or "what the conditioning holds"
    of_item = f", picture {page.item} of {a.items}" if a.items > 1 else ""
    return printable(f"What the reference did: {names}{of_item}", 100)


def _findings(page: Page) -> Section:
    lines = said(page.examined.findings, SENTENCES)
    if not page.examined.findings:
        lines.append(("No rule could be applied: the reasons are below.", "black", 12, False))
    if any(finding.of_thumb for finding in page.examined.findings):
        lines.append((OF_THUMB, GREY, 10, False))
    for advice in page.advice:
        lines += wrapped(advice, LETTERS, "black", 12)
    return text_section(lines, 0.25)


def _account(page: Page) -> Section:
    summary = page.attribution.summary().splitlines()
    account = summary[:MOST_LINES]
    if len(summary) > MOST_LINES:
        account.append(f"and {len(summary) - MOST_LINES} more lines in the summary of the run")
    account += [f"not examined: {rule}, since {reason}" for rule, reason in page.examined.lacking.items()]
    lines: list[Line] = [("The run", "black", 12, True)]
    for line in account:
        lines += wrapped(printable(line, 2 * SMALL_LETTERS), SMALL_LETTERS, GREY, 9)
    return text_section(lines)


# Pictures


def _tiles(page: Page, facts: Facts) -> list[Tile]:
    picture = page.image if page.image is not None else _stored(page.attribution, "r2g", 0, page.item)
    reference = page.reference_image
    if reference is None:
        reference = _stored(page.attribution, "g2r", 0, page.item)
    tiles: list[Tile] = []
    if picture is not None:
        tiles.append(Tile("the picture", picture))
    if reference is not None:
        tiles.append(Tile("the reference" if len(page.attribution.references) < 2 else "reference 0", reference))
    a, selection = page.attribution, Selection(item=page.item)
    it = "it" if len(a.references) < 2 else "reference 0"
    if a.effects is not None and a.effects.maps:
        tiles += _drawn(
            f"what {it} changed", picture, partial(effect_maps, a, "r2g", "unified", selection), LEAST_EFFECT
        )
    if a.effects is not None and a.effects.regions:
        read = partial(effect_maps, a, "g2r", "unified", selection)
        tiles += _drawn(f"what regions of {it} changed", reference, read, LEAST_EFFECT, blocks=True)
    tiles += _drawn(f"where {it} is looked at", picture, partial(maps, a, MapKind("r2g"), "unified", selection))
    tiles += _drawn(f"what of {it} is looked at", reference, partial(maps, a, MapKind("g2r"), "unified", selection))
    return tiles[:TILES]


def _stored(attribution: Attribution, direction: Any, reference: int, item: int) -> Tensor | None:
    picture = attribution.picture(direction, reference, item)
    return None if picture is None else picture.float() / 255


def _drawn(
    caption: str, picture: Tensor | None, read: Callable[[], Maps], least: float = 0.0, blocks: bool = False
) -> list[Tile]:
    """A map over its picture; none where there is no such map, of which findings and account say why.

    Colours go from 0 to the largest value, and to ``least`` where that is more: what is weak is drawn dark. Without it
    they go from the smallest to the largest, as of maps that say where alone.
    """
    try:
        values = read().values
    except AttributionError:
        return []
    times = max(1, 256 // max(values.shape[-2:]))
    size = (times * values.shape[-2], times * values.shape[-1])
    if picture is not None:
        size = (picture.shape[0], picture.shape[1])
    end = max(least, float(values.max()))
    spread = (resized(values, size, blocks) / end).clamp(0, 1) if least else heat(values, size, blocks=blocks)
    colors = colorize(spread, COLORMAP)
    drawn = colors if picture is None else blended(picture[None], colors)
    return [Tile(caption, drawn[0], COLORMAP, ("0", f"{end:.2g}") if least else ("least", "most"))]


# Curves


def _curves(page: Page, facts: Facts) -> list[Plot]:
    a = page.attribution
    plots = []
    if facts.has_effects_of_steps:
        by_owner = {_short(a, owner): _by_step(facts, owner) for owner in facts.effects.owners[:MOST_CURVES]}
        curves = {name: curve for name, curve in by_owner.items() if curve[0]}
        if curves:
            plots.append(Plot(f"what {facts.where} changes by without it (latent units), by step", "step", curves))
    numbers = facts.read[:MOST_CURVES]
    if not all(facts.has_all_of_it(number) for number in numbers):
        shares = {_short(a, number): facts.shares_by_step(number) for number in numbers}
        plots.append(Plot("part of the attention that goes to it, by step", "step", shares))
        layers = {_short(a, number): facts.shares_by_layer(number) for number in numbers}
        plots.append(Plot("the same, by layer", "layer", layers, [layer.name for layer in a.layers]))
    return plots


def _by_step(facts: Facts, owner: Owner) -> tuple[list[float], list[float]]:
    steps = facts.measured_steps(owner)
    return [float(step) for step in steps], [facts.strength(owner, [step]) for step in steps]


def _short(a: Attribution, owner: Owner) -> str:
    return printable(str(a.owner_names.get(owner, owner)), 32)
