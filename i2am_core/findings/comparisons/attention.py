"""Is a reference looked at more, or less?"""

from collections.abc import Iterator
from functools import partial

from ...errors import Lacking
from ...kinds import MapKind
from ...reading.levels import maps
from ..facts import Facts
from ..finding import Evidence, Finding, Rule
from .two import TwoRuns, case_of, sentences_of

ALL_OF_IT = "each reference has all of the attention in both runs, as nothing else is in its softmax"
LEAST = 5e-5  # of the attention: less is not seen in hundredths of a percent


def find(two: TwoRuns) -> Iterator[Finding]:
    """By the mean of its share over all positions, steps and layers, where it shares the attention with others."""
    a, b = two.facts
    shared = [(x, y) for x, y in two.read if not (a.has_all_of_it(x) and b.has_all_of_it(y))]
    if not shared:
        raise Lacking(ALL_OF_IT)
    for number, other in shared:
        seeds = two.seeds(partial(_share, number=number), partial(_share, number=other))
        case, values = case_of(_share(a, number), _share(b, other), seeds, LEAST)
        evidence = Evidence("attention", a.selection(reference=number), owner=number)
        yield Finding("attention", case, "fact", {"name": a.names[number], **values}, evidence)


def _share(facts: Facts, number: int) -> float:
    selection = facts.selection(reference=number)
    return float(maps(facts.attribution, MapKind("r2g", "share"), "unified", selection).values.mean())


SENTENCES = sentences_of(
    "{name} is looked at more in B",
    "{name} is looked at less in B",
    "{name} is looked at as much in B as in A",
    "{b:.2%} of the attention in B, {a:.2%} in A",
    "{seeds:.2%}",
)
RULE = Rule("attention", find, SENTENCES)
