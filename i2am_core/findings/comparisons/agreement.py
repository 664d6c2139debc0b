"""Does a reference act in the same places?"""

from collections.abc import Iterator

from torch import Tensor

from ...attribution import Attribution
from ...errors import AttributionError, Incomparable, Lacking
from ...kinds import MapKind
from ...reading.difference import Read, on_one_grid, same_reference
from ...reading.effect import effect_maps
from ...reading.levels import maps
from ...reading.metrics import is_flat
from ...selection import Selection
from ..finding import Evidence, Finding, Rule, Shows, Values
from .two import MOST, Two, mean_of_pairs

NOTHING = "no reference has a map in both runs that is not the same everywhere, on grids of one form"


def find(two: Two) -> Iterator[Finding]:
    """By the correlation of both maps: of what it changes where both have that, else of where it is looked at."""
    findings = [finding for number in range(len(two.a.references)) if (finding := _of(two, number))]
    if not findings:
        raise Lacking(NOTHING)
    yield from findings


def _of(two: Two, number: int) -> Finding | None:
    other = same_reference(two.a, two.b, number)
    for shows, read in READ.items():
        of_a, of_b = _by_item(read, two.a, number), _by_item(read, two.b, other)
        if two.item not in of_a or two.item not in of_b:
            continue
        try:
            values: Values = {"name": two.facts[0].names[number], "agree": correlation(of_a[two.item], of_b[two.item])}
        except Incomparable:
            continue
        seeds = mean_of_pairs(list(of_a.values()), list(of_b.values()), correlation)
        case = CASES[shows] + ("" if seeds is None else ", beside seeds")
        values |= {} if seeds is None else {"seeds": seeds}
        evidence = Evidence(shows, two.facts[0].selection(reference=number), owner=number)
        return Finding("changed places", case, "fact", values, evidence)
    return None


def _by_item(read: Read, run: Attribution, number: int) -> dict[int, Tensor]:
    """The maps ``[1, h, w]`` of the pictures of a run, where there are such and they are not the same everywhere."""
    results = {}
    for item in range(min(run.items, MOST)):
        try:
            values = read(run, Selection(reference=number, item=item)).values
        except AttributionError:
            continue
        if not is_flat(values).any():
            results[item] = values
    return results


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's, of two maps ``[1, h, w]`` of which none is flat. Raises Incomparable for grids of another form."""
    a, b, _ = on_one_grid(a, b)
    x, y = (values.double().flatten() - values.double().mean() for values in (a, b))
    return float(x @ y / (x.norm() * y.norm()))


READ: dict[Shows, Read] = {
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
RULE = Rule("changed places", find, SENTENCES)
