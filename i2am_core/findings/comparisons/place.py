"""Does what a reference changes lie inside the mask more, or less?"""

from collections.abc import Iterator
from functools import partial

from ...effect import Owner, rms
from ...errors import Lacking
from ..facts import Facts
from ..finding import Evidence, Finding, Rule, Values
from .two import Two, case_of

NO_MASKS = "not both runs had a mask"
NOTHING = "no reference changes anything in both runs"


def find(two: Two) -> Iterator[Finding]:
    """By what part of the effect is inside the mask, against the mask's part of the picture."""
    one, second = two.facts
    if one.cover is None or second.cover is None:
        raise Lacking(NO_MASKS)
    both = [pair for pair in two.measured if isinstance(pair[0], int) or pair[0] == "conditioning"]
    both = [(x, y) for x, y in both if rms(one.effect(x)) and rms(second.effect(y))]
    if not both:
        raise Lacking(NOTHING)
    for owner, other in both:
        a, b = _part(one, owner), _part(second, other)
        values: Values = {"name": one.names[owner], "a": a, "b": b, "area": float(second.cover.mean())}
        seeds = two.seeds(partial(_part, owner=owner), partial(_part, owner=other))
        if seeds is not None:
            values |= {"seeds": seeds}
        evidence = Evidence("effect", one.selection(reference=owner), owner=owner)
        yield Finding("changed place", case_of(a, b, seeds), "fact", values, evidence)


def _part(facts: Facts, owner: Owner) -> float:
    effect, cover = facts.effect(owner), facts.cover
    total = float(effect.sum())
    return 0.0 if cover is None or total == 0 else float((cover * effect).sum()) / total


_NUMBERS = ": {b:.0%} in B, {a:.0%} in A, where the mask is {area:.0%} of the picture"
_SEEDS = "; two pictures of one batch differ by {seeds:.1%}"
SENTENCES = {
    "more": "More of what {name} changes lies inside the mask in B" + _NUMBERS + ".",
    "less": "Less of what {name} changes lies inside the mask in B" + _NUMBERS + ".",
    "more, beside seeds": "More of what {name} changes lies inside the mask in B" + _NUMBERS + _SEEDS + ".",
    "less, beside seeds": "Less of what {name} changes lies inside the mask in B" + _NUMBERS + _SEEDS + ".",
    "within seeds": "As much of what {name} changes lies inside the mask in B as in A, but for what two seeds differ by"
    + _NUMBERS
    + _SEEDS
    + ".",
    "same": "Exactly as much of what {name} changes lies inside the mask in B as in A" + _NUMBERS + ".",
}
RULE = Rule("changed place", find, SENTENCES)
