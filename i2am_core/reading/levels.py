"""The levels of I2AM: unified, time, head and layer maps of a selection, and beyond the paper references and frames.

``aggregate`` says how maps are averaged. A map of a video is the mean over its frames, but for level 'frame'.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ..attribution import ALONE, Attribution
from ..effect import Certainty
from ..errors import BadCount, NoFrames, NoLayout, NothingCaptured, OnlyOnPicture, UnknownChoice, UnresolvedAxis
from ..kinds import MapKind, Normalization
from ..selection import Selected, Selection, numbers_text
from ..tokens import TokenGrid
from .aggregate import MeanOfLayers, clamped, grid_of, largest_of, layer_values, over_steps, resampled, seen_by

Level = Literal["unified", "time", "head", "layer", "reference", "frame"]
LEVELS: tuple[Level, ...] = get_args(Level)
EVERYTHING = Selection()


@dataclass(frozen=True)
class Maps:
    """Maps ``[n, h, w]`` (float32), a label for each, and their scope: 'whole image' or 'inpainting mask'.

    Of effects, ``certainties`` has one for each map: those of frames and regions are judged as a whole. ``keys`` are
    what maps are of, by which those of two runs are paired: None is of steps of which nothing was captured.
    """

    values: Tensor
    labels: list[str]
    scope: str
    certainties: tuple[Certainty, ...] = ()
    keys: tuple[Hashable, ...] = ()


def maps(
    attribution: Attribution,
    kind: MapKind,
    level: Level = "unified",
    selection: Selection = EVERYTHING,
    time_groups: int = 5,
) -> Maps:
    """The maps of ``level`` (Park & Jang, section 3), in the unit of the kind's normalization.

    The scope is that of the ``selection``; ``kind.scoped`` does not matter. Level 'time' divides the selected steps
    into ``time_groups``; 0 keeps each step apart. Level 'reference' has a map of each reference in place of
    ``selection.reference``, the strongest first; level 'frame' has one of each frame of a video's latent. Maps are on
    the largest grid of the selected layers, and at least 0. Raises an AttributionError where the selection is bad, or
    nothing was captured for it.
    """
    result = unclamped(attribution, kind, level, selection, time_groups)
    return dataclasses.replace(result, values=clamped(result.values))


def unclamped(
    attribution: Attribution,
    kind: MapKind,
    level: Level = "unified",
    selection: Selection = EVERYTHING,
    time_groups: int = 5,
) -> Maps:
    """``maps`` before they are clamped: the mean of such maps of one level is exactly the map of another level."""
    if level not in LEVELS:
        raise UnknownChoice("level", level, LEVELS)
    if level == "reference":
        return _reference_maps(attribution, kind, selection)
    reading = Reading.of(attribution, kind, selection, by_frame=level == "frame", each_head=level == "head")
    values, labels, keys = MAPS_OF[level](reading, time_groups)
    if attribution.references[reading.selected.reference].alone and not kind.on_reference:
        labels = [f"{label}, {ALONE}" for label in labels]
    return Maps(values, labels, reading.selected.scope, keys=keys)


@dataclass(frozen=True)
class Reading:
    """The layers of a selection that were captured in its steps."""

    attribution: Attribution
    kind: MapKind
    selected: Selected
    largest: TokenGrid  # of the layers that were selected
    layers: dict[int, Tensor]  # by number: [bins, heads, frames, h, w] on their own grids

    @classmethod
    def of(
        cls,
        attribution: Attribution,
        kind: MapKind,
        selection: Selection,
        by_frame: bool = False,
        each_head: bool = False,
    ) -> "Reading":
        selected = selection.of(attribution, each_head)
        if by_frame and selected.over_steps and attribution.heads == "over steps and frames":
            raise UnresolvedAxis("heads", selection.heads, within="frames")
        kind, reference = selected.kind(kind), attribution.references[selected.reference]
        if kind.on_reference and reference.grid is None:
            raise NoLayout(selected.reference, reference.name, reference.tokens)
        if not selected.layers:
            raise NothingCaptured("layers", selection.layers, selected.reference, reference.name)
        largest = largest_of(grid_of(attribution, kind, selected.reference, n) for n in selected.layers)
        bins = list(selected.bins)
        captured = [n for n in selected.layers if attribution.entries[selected.reference, n].seen[bins].any()]
        if not captured:
            raise NothingCaptured("steps", selection.steps)
        layers = {n: layer_values(attribution, kind, selected, n, by_frame) for n in captured}
        return cls(attribution, kind, selected, largest, layers)

    def of_layer(self, layer: int, groups: list[list[int]]) -> Tensor:
        """Means over each group of bins, of each head, on the largest grid: ``[groups, heads, frames, h, w]``."""
        seen = seen_by(self.attribution, self.selected, layer)
        return resampled(over_steps(self.layers[layer], seen, groups), self.largest.height, self.largest.width)

    def mean(self, groups: list[list[int]]) -> Tensor:
        """Means over each group of bins, over heads, then over layers: ``[groups, frames, h, w]``."""
        mean = MeanOfLayers()
        for layer in self.layers:
            mean.add("all", self.of_layer(layer, groups).mean(1))
        return mean.means()["all"]

    @property
    def all_bins(self) -> list[list[int]]:
        """All selected bins as one group."""
        return [[0]] if self.selected.over_steps else [list(self.selected.bins)]


Labelled = tuple[Tensor, list[str], tuple[Hashable, ...]]
"""Maps ``[n, h, w]``, not clamped, a label for each, and its key."""


def _unified(reading: Reading, time_groups: int) -> Labelled:
    return reading.mean(reading.all_bins)[:, 0], ["unified"], ("unified",)


def _layer(reading: Reading, time_groups: int) -> Labelled:
    values = [reading.of_layer(layer, reading.all_bins).mean(1)[:, 0] for layer in reading.layers]
    names = {n: reading.attribution.layers[n].name for n in reading.layers}
    return torch.cat(values), [f"layer {n}: {name}" for n, name in names.items()], tuple(names.values())


def _time(reading: Reading, time_groups: int) -> Labelled:
    if time_groups < 0:
        raise BadCount("time_groups", time_groups, "each step apart")
    count = min(time_groups, len(reading.selected.bins)) or len(reading.selected.bins)
    if reading.selected.over_steps and count > 1:
        raise UnresolvedAxis("heads", reading.selected.selection.heads, within="steps")
    parts = [part.tolist() for part in np.array_split(reading.selected.bins, count)]
    values = reading.mean(parts if count > 1 else reading.all_bins)[:, 0]
    labels = []
    is_captured = (~values.isnan().flatten(1).any(1)).tolist()
    for bins, captured in zip(parts, is_captured, strict=True):
        steps = [step for b in bins for step in reading.attribution.bins[b]]
        name = f"{'step' if len(steps) == 1 else 'steps'} {numbers_text(steps)}"
        state = _off(reading, bins) if captured else _missing(reading.attribution, steps)
        labels.append(f"{name}, sigma {reading.attribution.sigmas[steps[0]]:.3g}{state}")
    return values.nan_to_num(0), labels, tuple(n if captured else None for n, captured in enumerate(is_captured))


def _missing(attribution: Attribution, steps: list[int]) -> str:
    """Why there is no map of these steps."""
    return " (not evaluated)" if set(steps) <= set(attribution.not_evaluated) else " (not captured)"


def _off(reading: Reading, bins: list[int]) -> str:
    """Whether the reference was observed to be off in all that was captured in these time bins.

    Maps of 0 do not say it: one is also 0 in a picture that is the reference itself.
    """
    steps = {step for b in bins for step in reading.attribution.bins[b]}
    entries = [reading.attribution.entries[reading.selected.reference, layer] for layer in reading.layers]
    is_off = all(entry.seen[bins].sum() <= len(steps & set(entry.off)) for entry in entries)
    return " (off)" if is_off else ""


def _head(reading: Reading, time_groups: int) -> Labelled:
    """Heads are averaged over the layers that have the same number of heads: head 3 of 10 is not head 3 of 20."""
    groups: dict[int, list[int]] = defaultdict(list)
    mean = MeanOfLayers()
    for layer in reading.layers:
        count = reading.attribution.layers[layer].heads
        groups[count].append(layer)
        mean.add(count, reading.of_layer(layer, reading.all_bins)[0, :, 0])
    labels, keys = [], []
    for count, members in groups.items():
        where = "1 layer" if len(members) == 1 else f"{len(members)} layers"
        labels += [f"head {head} of {count} ({where})" for head in reading.selected.heads[members[0]]]
        keys += [(head, count) for head in reading.selected.heads[members[0]]]
    return torch.cat(list(mean.means().values())), labels, tuple(keys)


def _frame(reading: Reading, time_groups: int) -> Labelled:
    """Frames are those of the latent: one for several pictures of the video."""
    counts = sorted({values.shape[2] for values in reading.layers.values()})
    if counts == [1] or len(counts) > 1:
        raise NoFrames(reading.kind.direction, counts)
    values = reading.mean(reading.all_bins)[0]
    return values, [f"frame {n}" for n in range(len(values))], tuple(range(len(values)))


MAPS_OF: dict[Level, Callable[[Reading, int], Labelled]] = {
    "unified": _unified,
    "time": _time,
    "head": _head,
    "layer": _layer,
    "frame": _frame,
}
"""What makes the maps of a level of one reading; level 'reference', alone, needs a reading for each reference."""


def _reference_maps(attribution: Attribution, kind: MapKind, selection: Selection) -> Maps:
    """A map of each reference, the strongest first; labels say its share, and in how many cells it is the largest."""
    if kind.on_reference:
        raise OnlyOnPicture()
    chosen = selection.layer_numbers([layer.name for layer in attribution.layers])
    numbers = sorted({reference for reference, layer in attribution.entries if layer in chosen})
    if not numbers:
        raise NothingCaptured("layers", selection.layers)

    def unified(normalization: Normalization) -> Maps:
        """A map of each reference, all on the largest grid."""
        results = [
            unclamped(
                attribution, MapKind("r2g", normalization), "unified", dataclasses.replace(selection, reference=n)
            )
            for n in numbers
        ]
        height, width = max((x.values.shape[-2:] for x in results), key=lambda size: size[0] * size[1])
        return Maps(torch.cat([resampled(x.values, height, width) for x in results]), [], results[0].scope)

    share, requested = unified("share").values, unified(kind.normalization)
    strongest, strength = share.argmax(0), clamped(share).mean((1, 2))
    order = strength.argsort(descending=True).tolist()
    labels = [
        f"reference {numbers[n]}: {attribution.references[numbers[n]].name}, share {100 * strength[n]:.2g}%, "
        f"the strongest in {100 * (strongest == n).float().mean():.0f}% of the picture"
        + (f", {ALONE}" if attribution.references[numbers[n]].alone else "")
        for n in order
    ]
    keys = tuple(attribution.references[numbers[n]].name for n in order)
    return Maps(requested.values[order], labels, requested.scope, keys=keys)
