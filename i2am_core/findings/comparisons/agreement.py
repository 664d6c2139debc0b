"""Does a reference act in the same places?"""

from collections.abc import Iterator

from torch import Tensor

from ...errors import AttributionError, Incomparable, Lacking
from ...kinds import MapKind
from ...reading.difference import MapsOf, on_one_grid, same_reference
from ...reading.effect import effect_maps
from ...reading.levels import maps
from ...reading.metrics import is_flat
from ..facts import Facts
from ..finding import Evidence, Finding, Rule, Shows, Values
from .two import TwoRuns, mean_of_pairs

NOTHING = "no reference has a map in both runs that is not the same everywhere, on grids of one form"


def find(two: TwoRuns) -> Iterator[Finding]:
    """By the correlation of both maps: of what it changes where both have that, else of where it is looked at."""
    findings = [finding for number in range(len(two.a.references)) if (finding := _of(two, number))]
    if not findings:
        raise Lacking(NOTHING)
    yield from findings


def _of(two: TwoRuns, number: int) -> Finding | None:
    other = same_reference(two.a, two.b, number)
    for shows, maps_of in MAPS.items():
        a, b = _map(maps_of, two.facts[0], number), _map(maps_of, two.facts[1], other)
        if a is None or b is None:
            continue
        try:
            values: Values = {"name": two.facts[0].names[number], "agree": correlation(a, b)}
        except Incomparable:
            continue
        batch_a, batch_b = (
            [one for facts in two.batch(run) if (one := _map(maps_of, facts, n)) is not None]
            for run, n in ((two.a, number), (two.b, other))
        )
        seeds = mean_of_pairs(batch_a, batch_b, correlation)
        values |= {} if seeds is None else {"seeds": seeds}
        case = CASES[shows] + ("" if seeds is None else ", beside seeds")
        evidence = Evidence(shows, two.facts[0].selection(reference=number), owner=number)
        return Finding("agreement", case, "fact", values, evidence)
    return None


def _map(maps_of: MapsOf, facts: Facts, number: int) -> Tensor | None:
    """The map ``[1, h, w]`` of a picture; None where there is none, or one that is the same everywhere."""
    try:
        values = maps_of(facts.attribution, facts.selection(reference=number)).values
    except AttributionError:
        return None
    return None if is_flat(values).any() else values


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's, of two maps ``[1, h, w]`` of which none is flat. Raises Incomparable for grids of another form."""
    a, b, _ = on_one_grid(a, b)
    x, y = (values.double().flatten() - values.double().mean() for values in (a, b))
    size = x.norm() * y.norm()  # 0 where the common grid is one cell
    return float(x @ y / size) if size > 0 else 1.0


MAPS: dict[Shows, MapsOf] = {
    "effect": lambda run, selection: effect_maps(run, "r2g", "unified", selection),
    "attention": lambda run, selection: maps(run, MapKind("r2g", "share"), "unified", selection),
}
CASES = {"effect": "acts", "attention": "looked at"}
_ACTS = "Where {name} acts in B and where it acts in A agree by {agree:.2f} (1 is the same places, 0 is chance)"
_LOOKED = "Where {name} is looked at in B and in A agrees by {agree:.2f} (1 is the same places, 0 is chance)"
_SEEDS = "; two pictures of one batch agree by {seeds:.2f}"
SENTENCES = {
    "acts": _ACTS + ".",
    "acts, beside seeds": _ACTS + _SEEDS + ".",
    "looked at": _LOOKED + ".",
    "looked at, beside seeds": _LOOKED + _SEEDS + ".",
}
RULE = Rule("agreement", find, SENTENCES)
