"""Does a reference act in the same places?"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import AttributionError, Incomparable, Lacking
from ...kinds import MapKind
from ...reading.difference import MapsOf, counterpart, on_one_grid
from ...reading.effect import effect_maps
from ...reading.levels import maps
from ...reading.metrics import FLAT
from ..facts import Facts
from ..finding import Evidence, Finding, Rule, Shows, Values
from .two import TwoRuns, mean_of_pairs

NOTHING = "no reference has a map in both runs that is not the same everywhere, on grids of one form"


def find(two: TwoRuns) -> Iterator[Finding]:
    """By the correlation of both maps in the mask: of what it changes, else of where it is looked at."""
    findings = [finding for number in range(len(two.a.references)) if (finding := _of(two, number))]
    if not findings:
        raise Lacking(NOTHING)
    yield from findings


def _of(two: TwoRuns, number: int) -> Finding | None:
    other = counterpart(two.a, two.b, number)
    if other is None:
        return None
    for shows, maps_of in MAPS.items():
        a, b = _map(maps_of, two.facts[0], number), _map(maps_of, two.facts[1], other)
        agree = None if a is None or b is None else correlation(a, b)
        if agree is None:
            continue
        values: Values = {"name": two.facts[0].names[number], "where": two.facts[0].where, "agree": agree}
        batch_a, batch_b = (
            [one for facts in two.batch(run) if (one := _map(maps_of, facts, n)) is not None]
            for run, n in ((two.a, number), (two.b, other))
        )
        seeds = mean_of_pairs(batch_a, batch_b, lambda x, y: correlation(x, y) or 0.0)
        values |= {} if seeds is None else {"seeds": seeds}
        case = CASES[shows] + ("" if seeds is None else ", beside seeds")
        evidence = Evidence(shows, two.facts[0].selection(reference=number), owner=number)
        return Finding("agreement", case, "fact", values, evidence)
    return None


def _map(maps_of: MapsOf, facts: Facts, number: int) -> Tensor | None:
    """The map ``[1, h, w]`` of a picture, not a number outside the mask; None where there is none."""
    try:
        values = maps_of(facts.attribution, facts.selection(reference=number)).values
    except AttributionError:
        return None
    grid = facts.attribution.grid
    inside = facts.inside.view(grid.frames, 1, grid.height, grid.width).any(0).float()
    covered = F.interpolate(inside[None], values.shape[-2:], mode="nearest-exact")[0] > 0
    return torch.where(covered, values, math.nan)


def correlation(a: Tensor, b: Tensor) -> float | None:
    """Pearson's, over the places where both maps ``[1, h, w]`` are numbers; None where one of them is flat there.

    None also for grids of another form, of which no place is one of the other.
    """
    try:
        a, b, _ = on_one_grid(a, b)
    except Incomparable:
        return None
    x, y = a.double().flatten(), b.double().flatten()
    both = ~(x.isnan() | y.isnan())
    if not both.any():
        return None
    x, y = (values[both] - values[both].mean() for values in (x, y))
    size, least = x.norm() * y.norm(), FLAT * a.nan_to_num(0).abs().max() * b.nan_to_num(0).abs().max()
    return float(x @ y / size) if size > least else None


MAPS: dict[Shows, MapsOf] = {
    "effect": lambda run, selection: effect_maps(run, "r2g", "unified", selection),
    "attention": lambda run, selection: maps(run, MapKind("r2g", "share"), "unified", selection),
}
CASES = {"effect": "acts", "attention": "looked at"}
_ACTS = (
    "Where {name} acts in {where} agrees by {agree:.2f} in A and B (1 is the same places, 0 is places "
    "that have nothing to do with each other)"
)
_LOOKED = (
    "Where {name} is looked at in {where} agrees by {agree:.2f} in A and B (1 is the same places, 0 is "
    "places that have nothing to do with each other)"
)
_SEEDS = "; two pictures of one batch agree by {seeds:.2f}"
SENTENCES = {
    "acts": _ACTS + ".",
    "acts, beside seeds": _ACTS + _SEEDS + ".",
    "looked at": _LOOKED + ".",
    "looked at, beside seeds": _LOOKED + _SEEDS + ".",
}
RULE = Rule("agreement", find, SENTENCES)
