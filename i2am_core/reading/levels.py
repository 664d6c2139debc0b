"""The levels of I2AM: unified, time, head and layer maps of an attribution, by selection.

How maps are averaged is said in ``aggregate``. A map of a video is the mean of its frames, unless they are asked for
one by one.
"""

import dataclasses
from collections import defaultdict
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ..attribution import Attribution
from ..errors import BadCount, NoFrames, NoLayout, NothingCaptured, OnlyOnPicture, UnknownChoice, UnresolvedAxis
from ..kinds import MapKind
from ..selection import Selected, Selection, numbers_text
from ..tokens import TokenGrid
from .aggregate import MeanOfLayers, clamped, grid_of, largest_of, layer_values, over_steps, resampled

Level = Literal["unified", "time", "head", "layer", "reference", "frame"]
LEVELS: tuple[Level, ...] = get_args(Level)
EVERYTHING = Selection()


@dataclass(frozen=True)
class Maps:
    """Maps ``[n, h, w]`` of one level, a label for each, and the scope that G2R was asked in."""

    values: Tensor
    labels: list[str]
    scope: str


def maps(
    attribution: Attribution,
    kind: MapKind,
    level: Level = "unified",
    selection: Selection = EVERYTHING,
    time_groups: int = 5,
) -> Maps:
    """The maps of ``level``, in the units of the kind's normalization (see ``attention``).

    The scope is that of the ``selection``; ``kind.scoped`` is not looked at. ``time_groups`` splits the selected steps
    for the time level; 0 keeps each apart. Level 'reference' has a map of each reference in place of
    ``selection.reference``, the strongest first; level 'frame' one of each frame of a video's latent. Raises an
    ``errors.AttributionError`` where the selection is bad or nothing was captured for it.
    """
    found = unclamped(attribution, kind, level, selection, time_groups)
    return dataclasses.replace(found, values=clamped(found.values))


def unclamped(
    attribution: Attribution,
    kind: MapKind,
    level: Level = "unified",
    selection: Selection = EVERYTHING,
    time_groups: int = 5,
) -> Maps:
    """``maps`` before the clamp at its end: of these, the means of one level are exactly those of another."""
    if level not in LEVELS:
        raise UnknownChoice("level", level, LEVELS)
    if level == "reference":
        return _reference_maps(attribution, kind, selection)
    reading = _Reading.of(attribution, kind, selection, level == "frame")
    if level == "time":
        values, labels = reading.time_maps(time_groups)
    elif level == "head":
        values, labels = reading.head_maps()
    elif level == "layer":
        values, labels = reading.layer_maps()
    elif level == "frame":
        values, labels = reading.frame_maps()
    else:
        values, labels = reading.unified(), ["unified"]
    return Maps(values, labels, reading.selected.scope)


@dataclass(frozen=True)
class _Reading:
    """The layers of a selection that were captured in its steps."""

    attribution: Attribution
    kind: MapKind
    selected: Selected
    largest: TokenGrid  # of the layers that were selected
    layers: dict[int, Tensor]  # by number: [bins, heads, frames, h, w] on their own grids

    @classmethod
    def of(cls, attribution: Attribution, kind: MapKind, selection: Selection, by_frame: bool) -> "_Reading":
        selected = selection.of(attribution)
        kind, shown = selected.kind(kind), attribution.references[selected.reference]
        if kind.on_reference and shown.grid is None:
            raise NoLayout(selected.reference, shown.name, shown.tokens)
        if not selected.layers:
            raise NothingCaptured("layers", selection.layers, selected.reference, shown.name)
        largest = largest_of(grid_of(attribution, kind, selected.reference, n) for n in selected.layers)
        bins = list(selected.bins)
        seen = [n for n in selected.layers if attribution.entries[selected.reference, n].seen[bins].any()]
        if not seen:
            raise NothingCaptured("steps", selection.steps)
        layers = {n: layer_values(attribution, kind, selected, n, by_frame) for n in seen}
        return cls(attribution, kind, selected, largest, layers)

    def of_layer(self, layer: int, groups: list[list[int]]) -> Tensor:
        """Means over each group of bins, of each head, on the grid of all: ``[groups, heads, frames, h, w]``."""
        seen = self.attribution.entries[self.selected.reference, layer].seen
        return resampled(over_steps(self.layers[layer], seen, groups), self.largest.height, self.largest.width)

    def mean(self, groups: list[list[int]]) -> Tensor:
        """Means over each group of bins, over heads, then over layers: ``[groups, frames, h, w]``."""
        mean = MeanOfLayers()
        for layer in self.layers:
            mean.add("all", self.of_layer(layer, groups).mean(1))
        return mean.means()["all"]

    @property
    def together(self) -> list[list[int]]:
        return [list(self.selected.bins)]

    def unified(self) -> Tensor:
        return self.mean(self.together)[:, 0]

    def layer_maps(self) -> tuple[Tensor, list[str]]:
        values = [self.of_layer(layer, self.together).mean(1)[:, 0] for layer in self.layers]
        return torch.cat(values), [f"layer {n}: {self.attribution.layers[n].name}" for n in self.layers]

    def time_maps(self, groups: int) -> tuple[Tensor, list[str]]:
        if groups < 0:
            raise BadCount("time_groups", groups, "each step apart")
        count = min(groups, len(self.selected.bins)) or len(self.selected.bins)
        parts = [part.tolist() for part in np.array_split(self.selected.bins, count)]
        values = self.mean(parts)[:, 0]
        labels = []
        for bins, there in zip(parts, ~values.isnan().flatten(1).any(1), strict=True):
            held = [step for b in bins for step in self.attribution.bins[b]]
            name = f"{'step' if len(held) == 1 else 'steps'} {numbers_text(held)}"
            missing = "" if there else " (not captured)"
            labels.append(f"{name}, sigma {self.attribution.sigmas[held[0]]:.3g}{missing}")
        return values.nan_to_num(0), labels

    def head_maps(self) -> tuple[Tensor, list[str]]:
        """Heads are numbered within the layers that share a head count: head 3 of 10 is not head 3 of 20."""
        if not self.attribution.heads_kept:
            raise UnresolvedAxis("heads")
        groups: dict[int, list[int]] = defaultdict(list)
        mean = MeanOfLayers()
        for layer in self.layers:
            count = self.attribution.layers[layer].heads
            groups[count].append(layer)
            mean.add(count, self.of_layer(layer, self.together)[0, :, 0])
        labels = []
        for count, members in groups.items():
            where = "1 layer" if len(members) == 1 else f"{len(members)} layers"
            labels += [f"head {head} of {count} ({where})" for head in self.selected.heads[members[0]]]
        return torch.cat(list(mean.means().values())), labels

    def frame_maps(self) -> tuple[Tensor, list[str]]:
        """Frames are those of the latent, of which a video has one for several of its pictures."""
        counts = sorted({values.shape[2] for values in self.layers.values()})
        if counts == [1] or len(counts) > 1:
            raise NoFrames(self.kind.direction, counts)
        values = self.mean(self.together)[0]
        return values, [f"frame {n}" for n in range(len(values))]


def _reference_maps(attribution: Attribution, kind: MapKind, selection: Selection) -> Maps:
    """Which reference wins where: who has the largest share of the attention, in how many cells."""
    if kind.on_reference:
        raise OnlyOnPicture()
    chosen = selection.layer_numbers([layer.name for layer in attribution.layers])
    numbers = sorted({reference for reference, layer in attribution.entries if layer in chosen})
    if not numbers:
        raise NothingCaptured("layers", selection.layers)
    selections = [dataclasses.replace(selection, reference=n) for n in numbers]
    shares, shown = (
        [unclamped(attribution, MapKind("r2g", which), "unified", one) for one in selections]
        for which in ("share", kind.normalization)
    )
    height, width = max((x.values.shape[-2:] for x in shares), key=lambda shape: shape[0] * shape[1])
    share, asked = (torch.cat([resampled(x.values, height, width) for x in found]) for found in (shares, shown))
    winner, strength = share.argmax(0), clamped(share).mean((1, 2))
    order = strength.argsort(descending=True).tolist()
    labels = [
        f"reference {numbers[n]}: {attribution.references[numbers[n]].name}, share {100 * strength[n]:.2g}%, "
        f"the strongest in {100 * (winner == n).float().mean():.0f}% of the picture"
        for n in order
    ]
    return Maps(asked[order], labels, shares[0].scope)
