"""Is a reference looked at more, or less?"""

from collections.abc import Iterator
from functools import partial

from ...errors import Lacking
from ...kinds import MapKind
from ...reading.levels import maps
from ..facts import Facts
from ..finding import Evidence, Finding, Rule, Values
from .two import Two, case_of

ALL_OF_IT = "each reference has all of the attention in both runs, as nothing else is in its softmax"


def find(two: Two) -> Iterator[Finding]:
    """By the mean of its share over all positions, steps and layers, where it shares the attention with others."""
    one, second = two.facts
    compared = False
    for number, other in two.read:
        a, b = _share(one, number), _share(second, other)
        if min(a, b) > 1 - 1e-4:
            continue
        compared = True
        seeds = two.seeds(partial(_share, number=number), partial(_share, number=other))
        values: Values = {"name": one.names[number], "a": a, "b": b}
        if seeds is not None:
            values |= {"seeds": seeds}
        evidence = Evidence("attention", one.selection(reference=number))
        yield Finding("changed attention", case_of(a, b, seeds), "fact", values, evidence)
    if not compared:
        raise Lacking(ALL_OF_IT)


def _share(facts: Facts, number: int) -> float:
    selection = facts.selection(reference=number)
    return float(maps(facts.attribution, MapKind("r2g", "share"), "unified", selection).values.mean())


_NUMBERS = ": {b:.2%} of the attention in B, {a:.2%} in A"
_SEEDS = "; two pictures of one batch differ by {seeds:.2%}"
SENTENCES = {
    "more": "{name} is looked at more in B" + _NUMBERS + ".",
    "less": "{name} is looked at less in B" + _NUMBERS + ".",
    "more, beside seeds": "{name} is looked at more in B" + _NUMBERS + _SEEDS + ".",
    "less, beside seeds": "{name} is looked at less in B" + _NUMBERS + _SEEDS + ".",
    "within seeds": "{name} is looked at as much in B as in A, but for what two seeds differ by"
    + _NUMBERS
    + _SEEDS
    + ".",
    "same": "{name} is looked at exactly as much in B as in A" + _NUMBERS + ".",
}
RULE = Rule("changed attention", find, SENTENCES)
