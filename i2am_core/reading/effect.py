"""Maps of what references caused: on the picture, and on a reference in regions.

They are in units of the latent, and none of them is compared with the noise floor in vain: what is not ten times as
large has no map. See ``i2am_core/effect.py`` for what was measured.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..attribution import Attribution
from ..effect import (
    CUTS,
    ROUTES,
    WAYS,
    WORDS,
    Certainty,
    Cut,
    Effects,
    Owner,
    RegionEffects,
    Removal,
    Route,
    certainty_of,
    means_over_regions,
)
from ..errors import (
    EffectTooSmall,
    EmptyRegion,
    NoEffectInSteps,
    NoEffectLevel,
    NoEffects,
    NoFrames,
    NoLayout,
    NoRegions,
    NotMeasured,
    OnlyOnPicture,
    UnknownChoice,
)
from ..kinds import DIRECTIONS, Direction
from ..regions import cells_of, cover_of, means_over
from ..selection import Selection, is_all, resolve_scope
from ..tokens import TokenGrid
from .levels import EVERYTHING, LEVELS, Level, Maps
from .specific import SpecificMap

NO_EFFECT = "no effect: not a digit changes"


@dataclass(frozen=True)
class EffectInside:
    """How much of an effect is inside a mask.

    ``part`` is that of the sum over the picture, in [0, 1], and ``area`` the mask's own part of the picture, which an
    effect without any aim has as its part. ``strength`` is the root mean square inside, in units of the latent.
    """

    part: float
    area: float
    strength: float
    certainty: Certainty


def effect_maps(
    attribution: Attribution,
    direction: Direction,
    level: Level = "unified",
    selection: Selection = EVERYTHING,
    owner: Owner | None = None,
    route: Route = "everything",
) -> Maps:
    """The effects of an ``owner``, None for the selected reference, or where there are none for 'conditioning'.

    For 'r2g', maps are on the latent's grid. Level 'unified' is the mean over the selected steps in which anything was
    measured, 'time' has each of these, 'reference' each owner that was measured, the strongest first, and 'frame' each
    frame of a video, of which the others are the mean. For 'g2r' there is level 'unified': of each region of the
    reference the root mean square of its effect over the positions in scope, ``[1, g_h, g_w]``.

    A map is a mean of root mean squares, at least 0. One that is below ten times the noise floor in the scope is 0, and
    its label says so; an effect of exactly 0 has the label NO_EFFECT. Raises EffectTooSmall where all are too small,
    NoEffects, NotMeasured, NoEffectInSteps, NoRegions and NoEffectLevel for what was not measured, and another
    AttributionError where the selection is bad.
    """
    _check(level=level, direction=direction, route=route)
    reading = _Reading.of(attribution, selection)
    if direction == "g2r":
        return _on_reference(reading, level, reading.owner(owner), route)
    if level in ("head", "layer"):
        raise NoEffectLevel(level)
    if level == "reference":
        return _of_each_owner(reading, route)
    owner = reading.owner(owner)
    steps = reading.steps(owner, route)
    if level == "time":
        maps = [(_step_label(attribution, step), owner, reading.effect(owner, route, [step])) for step in steps]
        return reading.judged(maps, [f"sigma {attribution.sigmas[step]:.4g}" for step in steps])
    effect = reading.effect(owner, route, steps)
    if level == "unified":
        return reading.judged([("unified", owner, effect)], ["unified"])
    if attribution.grid.frames == 1:
        raise NoFrames("r2g", [1])
    return reading.of_frames(owner, effect)


def specific_effect(
    attribution: Attribution,
    region: Tensor,
    direction: Direction,
    selection: Selection = EVERYTHING,
    cut: Cut = "taken away",
) -> SpecificMap:
    """The effects between a ``region [H, W]`` in [0, 1] and regions of the selected reference, measured by a ``cut``.

    For 'g2r' the region is on the picture, and the map ``[g_h, g_w]`` says which regions of the reference changed it:
    the root mean square in it of the effect of each. For 'r2g' the region is on the reference, and the map ``[h, w]``
    on the latent's grid: the root of the sum of the squares of the effects of all regions, each weighted by how much of
    it is in the region that was marked, whose values are weights, too. Of a video, the region is the same in all
    frames, and the map is the mean over frames. Raises what ``effect_maps`` does, EmptyRegion and NoLayout.
    """
    _check(direction=direction, cut=cut)
    reading = _Reading.of(attribution, selection)
    reference = attribution.check_reference(selection.reference)
    if not (region > 0).any():
        raise EmptyRegion()
    measured = reading.regions(selection.reference, cut)
    effects, name = measured.values[selection.item], reading.names[selection.reference]
    note = f"effect of {measured.grid} regions of {name}, {cut}{WAYS[measured.route]}, in step {measured.step}"
    if direction == "g2r":
        inside = cells_of(region, attribution.grid)
        values = _rms(effects[:, inside], 1)
        reading.check_size(selection.reference, float(values.max()), inside)
        return SpecificMap(values.view(measured.grid.height, measured.grid.width), _noted(note, values))
    if reference.grid is None:
        raise NoLayout(selection.reference, reference.name, reference.tokens, part=True)
    plane = TokenGrid(reference.grid.height, reference.grid.width)
    weights = means_over_regions(means_over(region.float().clamp(0, 1), plane), plane, measured.grid)
    values = (weights[:, None] * effects.square()).sum(0).sqrt()
    reading.check_size(selection.reference, float(_rms(values, 0)), torch.ones_like(values, dtype=torch.bool))
    return SpecificMap(_frames(values, attribution.grid).mean(0), _noted(note, values))


def effect_inside(attribution: Attribution, owner: Owner, route: Route, mask: Tensor, item: int = 0) -> EffectInside:
    """How much of an owner's effect is inside a ``mask [H, W]`` in [0, 1], as means over all measured steps.

    A cell of the latent counts as much as is inside the mask of it (``regions``). Of an effect of exactly 0, no part is
    inside. Raises EmptyRegion, UnknownItem, and NoEffects or NotMeasured.
    """
    _check(route=route)
    reading = _Reading.of(attribution, Selection(item=item))
    owner = reading.owner(owner)
    steps = reading.steps(owner, route)
    cover = cover_of(mask, attribution.grid).repeat(attribution.grid.frames).double()
    if not cover.any():
        raise EmptyRegion()

    def strength(values: Tensor) -> float:
        return float(((cover * values.square()).sum() / cover.sum()).sqrt())

    maps = [reading.effect(owner, route, [step]).double() for step in steps]
    parts = [float((cover * x).sum() / x.sum()) if x.any() else 0.0 for x in maps]
    strengths = [strength(x) for x in maps]
    inside = sum(strengths) / len(maps)
    certainty = certainty_of(inside, strength(reading.effects.floor[item].double()))
    return EffectInside(sum(parts) / len(maps), float(cover.mean()), inside, certainty)


def _check(**choices: str) -> None:
    known: dict[str, Sequence[str]] = {"level": LEVELS, "direction": DIRECTIONS, "route": ROUTES, "cut": CUTS}
    for what, got in choices.items():
        if got not in known[what]:
            raise UnknownChoice(what, got, known[what])


@dataclass(frozen=True)
class _Reading:
    """The effects of one item, in the scope and steps of a selection."""

    attribution: Attribution
    effects: Effects
    selection: Selection
    scope: str
    inside: Tensor  # [cells], the positions in scope
    names: dict[Owner, str]

    @classmethod
    def of(cls, attribution: Attribution, selection: Selection) -> "_Reading":
        attribution.check_item(selection.item)
        for level, text in (("layer", selection.layers), ("head", selection.heads)):
            if not is_all(text):
                raise NoEffectLevel(level)
        effects = attribution.effects
        if effects is None or not effects.maps:
            raise NoEffects(() if effects is None else effects.reasons)
        scope = resolve_scope(attribution, selection.scope, selection.item)
        mask = attribution.mask_on_latent() if scope == "inpainting mask" else None
        everywhere = torch.ones(attribution.grid.cells, dtype=torch.bool)
        inside = everywhere if mask is None else mask[selection.item]
        return cls(attribution, effects, selection, scope, inside, attribution.owner_names)

    def owner(self, owner: Owner | None) -> Owner:
        """Whose effect is requested; a reference must exist."""
        if owner is None:
            owner = self.selection.reference if self.attribution.references else "conditioning"
        if isinstance(owner, int):
            self.attribution.check_reference(owner)
        elif owner not in self.names:
            raise UnknownChoice("owner", owner, [str(name) for name in self.names if isinstance(name, str)])
        return owner

    def steps(self, owner: Owner, route: Route) -> list[int]:
        """The selected steps in which an owner was taken away."""
        measured = self.effects.steps(owner, route)
        if not measured:
            known = [self.names[x] + WAYS[way] for x in self.effects.owners for way in self.effects.routes(x)]
            raise NotMeasured(
                owner, self.names[owner], route, self.effects.unmeasured.get(self.names[owner], ""), known
            )
        selected = set(self.selection.step_numbers(self.attribution.steps))
        steps = [step for step in measured if step in selected]
        if not steps:
            raise NoEffectInSteps(self.selection.steps, self.names[owner] + WAYS[route], measured)
        return steps

    def effect(self, owner: Owner, route: Route, steps: Sequence[int]) -> Tensor:
        """The mean over steps of an owner's effect: ``[cells]``."""
        return torch.stack([self.effects.maps[Removal(n, owner, route)][self.selection.item] for n in steps]).mean(0)

    def regions(self, owner: Owner, cut: Cut | None, route: Route | None = None) -> RegionEffects:
        """The effects of a reference's regions, in a selected step; None for what does not matter."""
        cuts = {c: x for (reference, c), x in self.effects.regions.items() if reference == owner}
        fitting = [x for c, x in cuts.items() if cut in (None, c) and route in (None, x.route)]
        if not fitting:
            requested = (cut or "") + ("" if route is None else WAYS[route].removeprefix(", ") or "by any way")
            raise NoRegions(owner, self.names[owner], requested, [c + WAYS[x.route] for c, x in cuts.items()])
        if fitting[0].step not in self.selection.step_numbers(self.attribution.steps):
            raise NoEffectInSteps(self.selection.steps, f"regions of {self.names[owner]}", [fitting[0].step])
        return fitting[0]

    def floor(self, inside: Tensor) -> float:
        return float(_rms(self.effects.floor[self.selection.item][inside], 0))

    def certainty(self, strength: float) -> Certainty:
        return certainty_of(strength, self.floor(self.inside))

    def check_size(self, owner: Owner, strength: float, inside: Tensor) -> None:
        """Raises EffectTooSmall where a strength is not exactly 0, but below ten times the floor there."""
        floor = self.floor(inside)
        if certainty_of(strength, floor) not in ("measured", "none"):
            raise EffectTooSmall(owner, self.names[owner], strength, floor)

    def judged(self, maps: Sequence[tuple[str, Owner, Tensor]], keys: Sequence[Hashable]) -> Maps:
        """Maps of labels, owners and effects ``[cells]``: without those that are too small, which must not be all."""
        strengths = [float(_rms(effect[self.inside], 0)) for _, _, effect in maps]
        certain = [self.certainty(strength) for strength in strengths]
        if not {"measured", "none"} & set(certain):
            strongest = max(range(len(maps)), key=lambda n: strengths[n])
            self.check_size(maps[strongest][1], strengths[strongest], self.inside)
        values, labels = [], []
        for (label, _, effect), certainty in zip(maps, certain, strict=True):
            values.append(_frames(effect, self.attribution.grid).mean(0))
            if certainty != "measured":
                values[-1] = values[-1] * 0
                label += ", " + (NO_EFFECT if certainty == "none" else WORDS[certainty])
            labels.append(label)
        return Maps(torch.stack(values), labels, self.scope, tuple(certain), tuple(keys))

    def of_frames(self, owner: Owner, effect: Tensor) -> Maps:
        """Each frame of an effect ``[cells]``, which is judged as a whole."""
        strength = float(_rms(effect[self.inside], 0))
        self.check_size(owner, strength, self.inside)
        values = _frames(effect, self.attribution.grid)
        ending = f", {NO_EFFECT}" if strength == 0 else ""
        labels = [f"frame {n}{ending}" for n in range(len(values))]
        certainties = (self.certainty(strength),) * len(values)
        return Maps(values, labels, self.scope, certainties, tuple(range(len(values))))


def _of_each_owner(reading: _Reading, route: Route) -> Maps:
    """A map of each owner that was measured in the selected steps, the strongest first."""
    selected = set(reading.selection.step_numbers(reading.attribution.steps))
    measured = reading.effects.owners
    owners = [owner for owner in measured if selected & set(reading.effects.steps(owner, route))]
    if not owners:  # which is said of one that was measured by this route, if there is any
        reading.steps(max(measured, key=lambda owner: len(reading.effects.steps(owner, route))), route)
    maps = []
    for owner in owners:
        effect = reading.effect(owner, route, reading.steps(owner, route))
        maps.append((float(_rms(effect[reading.inside], 0)), owner, effect))
    maps.sort(key=lambda each: -each[0])
    names, references = reading.names, {n: x.name for n, x in enumerate(reading.attribution.references)}
    labelled = [(f"{names[owner]}, effect {size:.3g}", owner, effect) for size, owner, effect in maps]
    return reading.judged(labelled, [references[owner] if isinstance(owner, int) else owner for _, owner, _ in maps])


def _on_reference(reading: _Reading, level: Level, owner: Owner, route: Route) -> Maps:
    """The effect of each region of a reference: by taking it away, or if only that was measured by leaving it alone."""
    if level == "reference":
        raise OnlyOnPicture()
    if level != "unified":
        raise NoEffectLevel(level, regions=True)
    cuts = [cut for cut in CUTS if (owner, cut) in reading.effects.regions]
    measured = reading.regions(owner, cuts[0] if cuts else None, route)
    values = _rms(measured.values[reading.selection.item][:, reading.inside], 1)
    strongest = float(values.max())
    reading.check_size(owner, strongest, reading.inside)
    label = f"regions, {cuts[0]}, {_step_label(reading.attribution, measured.step)}"
    on_reference = values.view(1, measured.grid.height, measured.grid.width)
    return Maps(on_reference, [_noted(label, values)], reading.scope, (reading.certainty(strongest),), ("regions",))


def _step_label(attribution: Attribution, step: int) -> str:
    return f"step {step}, sigma {attribution.sigmas[step]:.3g}"


def _noted(label: str, values: Tensor) -> str:
    return label if values.any() else f"{label}, {NO_EFFECT}"


def _rms(values: Tensor, over: int) -> Tensor:
    """The root mean square over one axis."""
    return values.double().square().mean(over).sqrt().float()


def _frames(values: Tensor, grid: TokenGrid) -> Tensor:
    """Cells of a grid as ``[frames, h, w]``."""
    return values.unflatten(-1, (grid.frames, grid.height, grid.width))
