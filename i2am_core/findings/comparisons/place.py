"""Does what a reference changes lie inside the mask more, or less?"""

from collections.abc import Iterator
from functools import partial

from ...effect import Owner, rms
from ...errors import Lacking
from ..facts import Facts
from ..finding import Evidence, Finding, Rule, Values
from ..rules.strength import WEAK
from .two import TwoRuns, case_of, sentences_of

NO_MASKS = "not both runs had a mask that leaves out a part of the picture"
NOTHING = "no reference changes enough in both runs to have a place"
LEAST = 0.005  # of the effect: less is not seen in percents


def find(two: TwoRuns) -> Iterator[Finding]:
    """By what part of the effect is inside the mask of each run, against that mask's part of the picture."""
    a, b = two.facts
    if a.cover is None or b.cover is None:
        raise Lacking(NO_MASKS)
    numbers = [(x, y, _part(a, x), _part(b, y)) for x, y in two.measured if x in a.owners]
    if all(of_a is None or of_b is None for _, _, of_a, of_b in numbers):
        raise Lacking(NOTHING)
    for owner, other, of_a, of_b in numbers:
        if of_a is not None and of_b is not None:
            seeds = two.seeds(partial(_part, owner=owner), partial(_part, owner=other))
            case, values = case_of(of_a, of_b, seeds, LEAST)
            areas: Values = {"area_a": float(a.cover.mean()), "area_b": float(b.cover.mean())}
            evidence = Evidence("effect", a.selection(reference=owner), owner=owner)
            yield Finding("place", case, "fact", {"name": a.names[owner], **values, **areas}, evidence)


def _part(facts: Facts, owner: Owner) -> float | None:
    """None where there is no mask, or of what is so weak that its place is that of the rounding."""
    effect, cover = facts.effect(owner), facts.cover
    return None if cover is None or rms(effect) < WEAK / 2 else float((cover * effect).sum() / effect.sum())


SENTENCES = sentences_of(
    "More of what {name} changes lies inside the mask in B",
    "Less of what {name} changes lies inside the mask in B",
    "As much of what {name} changes lies inside the mask in B as in A",
    "{b:.0%} in B, where the mask is {area_b:.0%} of the picture, {a:.0%} in A, where it is {area_a:.0%}",
    "{seeds:.1%}",
)
RULE = Rule("place", find, SENTENCES)
