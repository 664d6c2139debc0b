"""The effects of a run as a viewer reads them: maps and measures of each owner and route, and of regions.

Tensors, for ``<place>`` = ``<item>/<owner>/<route>``, whose rows are the mean of all measured steps and each of them:

* ``effects/<place>`` uint8 ``[1 + steps, h, w]`` and ``effect_range/<place>`` float32 ``[1 + steps, 2]``: see ``view``;
* ``effect_measures/<place>`` float32 ``[4, 1 + steps]``: the strength in the scope of the item and everywhere, the part
  of the map inside the mask (not a number without one), and the noise floor in the scope.

``effect_floor/<item>`` float32 ``[h, w]`` is the noise floor at each position. And for ``<place>`` =
``<item>/<reference>/<cut>``, of regions of a grid of ``[rows, columns]``:

* ``region_strengths/<place>`` float32 ``[rows, columns]``, of each in the scope;
* ``regions/<place>`` uint8 ``[rows columns, h, w]`` and ``region_range/<place>``: where each changed the picture.

Of videos, maps are means over their frames, and the floor is a root mean square over them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..attribution import Attribution
from ..effect import Certainty, Effects, Owner, Removal, Route, certainty_of, rms
from ..reading.metrics import share_inside
from ..regions import cover_of
from ..tokens import TokenGrid
from .header import EffectMeasure, HeaderEffect, HeaderEffects, HeaderRegions
from .quantized import nbytes, quantize

EFFECT_MEASURES: tuple[EffectMeasure, ...] = ("strength", "everywhere", "inside", "floor")


def add_effects(
    tensors: dict[str, Tensor],
    attribution: Attribution,
    effects: Effects,
    masks: Sequence[Tensor | None],
    region_bytes: int,
) -> HeaderEffects:
    """Add all maps of effects, and those of regions as far as they fit into ``region_bytes``; what they are of."""
    scopes = [attribution.scope_on_latent(item) for item in range(attribution.items)]
    about: list[HeaderEffect] = []
    for owner in effects.owners:
        for route in effects.routes(owner):
            one = _Effect(attribution, effects, owner, route)
            for item, inside in enumerate(scopes):
                place, rows = f"{item}/{owner}/{route}", one.rows(item)
                tensors[f"effects/{place}"], tensors[f"effect_range/{place}"] = quantize(rows)
                tensors[f"effect_measures/{place}"] = one.measures(inside, rows, masks[item] if masks else None)
            certainty = [one.certainty(inside) for inside in scopes]
            about.append({"owner": owner, "route": route, "steps": one.steps, "certainty": certainty})
    for item in range(attribution.items):
        tensors[f"effect_floor/{item}"] = _over_frames(attribution, effects.floor[item].square()).sqrt()
    regions = list(_add_regions(tensors, attribution, effects, scopes, region_bytes))
    unmeasured = dict(effects.unmeasured)
    return {"maps": about, "regions": regions, "measures": list(EFFECT_MEASURES), "unmeasured": unmeasured}


@dataclass(frozen=True)
class _Effect:
    """What one owner caused, by one route."""

    attribution: Attribution
    effects: Effects
    owner: Owner
    route: Route

    @property
    def steps(self) -> list[int]:
        return self.effects.steps(self.owner, self.route)

    @property
    def maps(self) -> list[Tensor]:
        """Of each measured step: ``[items, cells]``."""
        return [self.effects.maps[Removal(step, self.owner, self.route)] for step in self.steps]

    def rows(self, item: int) -> Tensor:
        """The mean over the measured steps, and the map of each of them: ``[1 + steps, h, w]``."""
        by_step = _over_frames(self.attribution, torch.stack([x[item] for x in self.maps]))
        return torch.cat([by_step.mean(0, keepdim=True), by_step])

    def measures(self, inside: Tensor, rows: Tensor, mask: Tensor | None) -> Tensor:
        """``[EFFECT_MEASURES, 1 + steps]``: the first of each is the mean of the others."""
        item = inside.any(1, keepdim=True).expand_as(inside)
        parts = [math.nan] * len(self.steps)
        if mask is not None:
            cover = cover_of(mask, TokenGrid(*rows.shape[1:])).view(rows.shape[1:])
            parts = [share_inside(row, cover) for row in rows[1:]]
        strengths = [[rms(x, where) for x in self.maps] for where in (inside, item)]
        values = torch.tensor([*strengths, parts, [rms(self.effects.floor, inside)] * len(parts)])
        return torch.cat([values.mean(1, keepdim=True), values], 1)

    def certainty(self, inside: Tensor) -> list[Certainty]:
        """That of the mean, and of each step."""
        floor = rms(self.effects.floor, inside)
        by_step = [certainty_of(rms(x, inside), floor) for x in self.maps]
        return [self.effects.certainty(self.owner, self.route, inside), *by_step]


def _over_frames(attribution: Attribution, values: Tensor) -> Tensor:
    """Values ``[..., cells]`` on the latent's grid as ``[..., h, w]``: the mean over the frames of a video."""
    grid = attribution.grid
    return values.float().unflatten(-1, (grid.frames, grid.height, grid.width)).mean(-3)


def _add_regions(
    tensors: dict[str, Tensor], attribution: Attribution, effects: Effects, scopes: Sequence[Tensor], free_bytes: int
) -> Iterator[HeaderRegions]:
    for (reference, cut), regions in effects.regions.items():
        grid = (regions.grid.height, regions.grid.width)
        maps: dict[str, Tensor] = {}
        for item, inside in enumerate(scopes):
            place = f"{item}/{reference}/{cut}"
            chosen = regions.values[item][:, inside[item]].double()  # [regions, positions in scope]
            tensors[f"region_strengths/{place}"] = chosen.square().mean(1).sqrt().view(grid).float()
            on_picture = _over_frames(attribution, regions.values[item])
            maps[f"regions/{place}"], maps[f"region_range/{place}"] = quantize(on_picture)
        if fits := nbytes(maps) <= free_bytes:
            free_bytes -= nbytes(maps)
            tensors |= maps
        yield HeaderRegions(
            reference=reference, cut=cut, route=regions.route, step=regions.step, grid=grid, in_file=fits
        )
