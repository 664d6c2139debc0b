"""All levels of a run's maps, and its effects, on one page."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..attribution import Attribution
from ..effect import CUTS, WAYS, WORDS, Effects, Owner, Route
from ..errors import EffectTooSmall
from ..kinds import Direction, MapKind
from ..reading.aggregate import grid_of
from ..reading.effect import NO_EFFECT, effect_maps, specific_effect
from ..reading.levels import Level, Maps, maps
from ..selection import Selection
from .contact_sheet import Row, contact_sheet
from .render import Scale, colorize, heat, overlay

COLUMNS = 6
PICTURES = 60  # of one level, at most
PICTURE_SIDE = 1024  # px, at most: a tile has fewer
TITLES: dict[Direction, str] = {
    "r2g": "Where the reference acts in the picture",
    "g2r": "Which parts of the reference the picture used",
}
LEVELS: tuple[Level, ...] = ("unified", "time", "layer", "head", "frame")
OWNERS = 8  # whose effects are drawn, at most, each by each route
STEPS = 2 * COLUMNS - 1  # of an effect, at most: with the unified map in two rows
EFFECT_LEVELS: tuple[Level, ...] = ("unified", "time")


def attribution_sheet(attribution: Attribution, path: Path, item: int = 0, reference: int | None = None) -> None:
    """Write a one-page PNG of effects, where they were measured, and of every level of attention in both directions.

    Maps lie over the pictures that the attribution has. Effects are of all owners, at most ``OWNERS``. Attention is of
    the levels in ``LEVELS``, of one ``item`` and one ``reference``, by default the first that any call has read, and
    has the first ``PICTURES`` maps of a level. Raises UnknownItem or UnknownReference where there is no such, and
    MissingPackage without matplotlib.
    """
    effects = attribution.effects
    caused = [] if effects is None or not effects.maps else _effects(attribution, effects, item)
    if reference is None:
        reference = min((number for number, _ in attribution.entries), default=0)
    elif caused:
        attribution.check_reference(reference)
    read = any(number == reference for number, _ in attribution.entries)
    rows = [*caused, *(_attention(attribution, item, reference) if read or not caused else ())]
    title = attribution.references[reference].name if attribution.references else "What was changed"
    contact_sheet(rows, path, title)


def _attention(attribution: Attribution, item: int, reference: int) -> Iterator[Row]:
    for direction, title in TITLES.items():
        if direction == "g2r" and attribution.check_reference(reference).grid is None:
            continue
        frames = _frames(attribution, direction, reference)
        picture = attribution.picture(direction, reference, item)
        for level in LEVELS:
            if (level == "head" and attribution.heads == "merged") or (level == "frame" and frames == 1):
                continue
            of_level = maps(attribution, MapKind(direction), level, Selection(reference=reference, item=item))
            pictures = list(_overlays(of_level.values[:PICTURES], None if level == "frame" else picture))
            heading = f"{title}: {level}"
            if len(of_level.labels) > PICTURES:
                heading += f", the first {PICTURES} of {len(of_level.labels)}"
            yield from _rows(heading, pictures, of_level.labels[:PICTURES])


def _rows(heading: str, pictures: Sequence[Any], labels: Sequence[str]) -> Iterator[Row]:
    """As many as it takes, with ``COLUMNS`` pictures each."""
    for start in range(0, len(pictures), COLUMNS):
        part = slice(start, start + COLUMNS)
        yield Row(heading, pictures[part], labels[part])


def _effects(attribution: Attribution, effects: Effects, item: int) -> list[Row]:
    """What each owner changed, the strongest first; each owner has one scale for all of its maps."""
    attribution.check_item(item)
    names, inside = attribution.owner_names, attribution.mask_on_latent()
    sizes = {
        (owner, route): effects.strength(owner, route, inside)
        for owner in effects.owners
        for route in effects.routes(owner)
    }
    strongest = sorted(sizes, key=lambda key: -sizes[key])
    rows: list[Row] = []
    for owner, route in strongest[:OWNERS]:
        result = _of_owner(attribution, owner, route, item)
        picture = attribution.picture("r2g", 0, item)
        heading = f"What it changed, {sizes[owner, route]:.3g}: {names[owner]}{WAYS[route]}"
        rows += _rows(heading, list(_overlays(result.values, picture, "shared")), result.labels)
    if len(strongest) > OWNERS:
        last = rows[-1]
        rows[-1] = Row(f"{last.heading}, the last of {OWNERS} drawn of {len(strongest)}", last.pictures, last.captions)
    references = dict.fromkeys(reference for reference, _ in effects.regions)
    for reference in list(references)[:OWNERS]:
        rows.append(_of_regions(attribution, effects, reference, item))
    return rows


def _of_owner(attribution: Attribution, owner: Owner, route: Route, item: int) -> Maps:
    """The unified map and those of the first ``STEPS`` steps. What is too small is drawn flat, and says so."""
    values, labels = [], []
    for level in EFFECT_LEVELS:
        try:
            result = effect_maps(attribution, "r2g", level, Selection(item=item), owner, route)
            values.append(result.values[:STEPS])
            labels += [_short(label) for label in result.labels[:STEPS]]
        except EffectTooSmall:
            if level == "unified":  # otherwise it was said already: not all steps are smaller than their mean
                values.append(torch.zeros(1, attribution.grid.height, attribution.grid.width))
                labels.append("too small to measure")
    return Maps(torch.cat(values), labels, "")


def _short(label: str) -> str:
    for certainty, words in WORDS.items():
        label = label.replace(words, certainty)
    return label.replace(NO_EFFECT, "no effect")


def _of_regions(attribution: Attribution, effects: Effects, reference: int, item: int) -> Row:
    """What each region of a reference changed in the picture, or in the mask where there is one."""
    mask = attribution.denoise_mask
    region = torch.ones(1, 1) if mask is None or not (mask[item] > 0).any() else mask[item]
    pictures: list[Tensor] = []
    captions = []
    for cut in (cut for cut in CUTS if (reference, cut) in effects.regions):
        caption = f"{cut}, step {effects.regions[reference, cut].step}"
        try:
            values = specific_effect(attribution, region, "g2r", Selection(item=item, reference=reference), cut).values
        except EffectTooSmall:
            caption, values = f"{cut}: too small to measure", torch.zeros(1, 1)
        pictures += _overlays(values[None], attribution.picture("g2r", reference, item), blocks=True)
        captions.append(caption)
    return Row(f"What its regions changed: {attribution.references[reference].name}", pictures, captions)


def _frames(attribution: Attribution, direction: Direction, reference: int) -> int:
    """How many frames maps have; 1 where it is no video, or where layers have different numbers of frames."""
    layers = [layer for r, layer in attribution.entries if r == reference]
    grids = {grid_of(attribution, MapKind(direction), reference, layer) for layer in layers}
    counts = {grid.frames for grid in grids}
    return counts.pop() if len(counts) == 1 else 1


def _overlays(values: Tensor, picture: Tensor | None, scale: Scale = "each map", blocks: bool = False) -> Tensor:
    if picture is None:
        times = 256 / max(values.shape[-2:])
        height, width = (max(1, round(side * times)) for side in values.shape[-2:])
        return colorize(heat(values, (height, width), scale, blocks))
    step = -(-max(picture.shape[:2]) // PICTURE_SIDE)
    picture = picture[::step, ::step]
    height, width = picture.shape[:2]
    return overlay(picture[None].float() / 255, colorize(heat(values, (height, width), scale, blocks)), 0.5)
