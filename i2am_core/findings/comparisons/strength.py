"""Does a reference change the picture more, or less?"""

from collections.abc import Iterator, Sequence

from ...effect import Owner
from ...selection import numbers_text
from ..finding import Evidence, Finding, Rule, Values
from .two import Two, case_of

CERTAIN = ("measured", "rough")


def find(two: Two) -> Iterator[Finding]:
    """By effect, over the mask of each run or its picture, in the measured steps of both."""
    for owner, other in two.measured:
        yield _of(two, owner, other)


def _of(two: Two, owner: Owner, other: Owner) -> Finding:
    (one, second), (steps, others) = two.facts, two.steps(owner)
    a, b = one.strength(owner, steps), second.strength(other, others)
    values: Values = {"name": one.names[owner], "where": one.where, "without": one.without(owner), "a": a, "b": b}
    evidence = Evidence("effect", one.selection(steps, owner), owner=owner)
    in_a, in_b = (facts.certainty(x) in CERTAIN for facts, x in ((one, owner), (second, other)))
    if not (in_a and in_b):
        case = "in neither" if not (in_a or in_b) else "in A alone" if in_a else "in B alone"
        return Finding("changed strength", case, "fact", values, evidence)
    values |= {"steps": _steps_text(steps, others)}
    seeds = two.seeds(lambda x: x.strength(owner, steps), lambda x: x.strength(other, others))
    if seeds is not None:
        values |= {"seeds": seeds}
    return Finding("changed strength", case_of(a, b, seeds), "fact", values, evidence)


def _steps_text(steps: Sequence[int], others: Sequence[int]) -> str:
    in_a, in_b = numbers_text(steps), numbers_text(others)
    return f"steps {in_a}" if in_a == in_b else f"steps {in_a} of A, {in_b} of B"


_NUMBERS = ": {without}, {where} changes by {b:.2g} latent units in B, by {a:.2g} in A ({steps})"
_SEEDS = "; two pictures of one batch differ by {seeds:.2g}"
SENTENCES = {
    "more": "{name} changes more in B" + _NUMBERS + ".",
    "less": "{name} changes less in B" + _NUMBERS + ".",
    "more, beside seeds": "{name} changes more in B" + _NUMBERS + _SEEDS + ".",
    "less, beside seeds": "{name} changes less in B" + _NUMBERS + _SEEDS + ".",
    "within seeds": "{name} changes as much in B as in A, but for what two seeds differ by" + _NUMBERS + _SEEDS + ".",
    "same": "{name} changes exactly as much in B as in A" + _NUMBERS + ".",
    "in A alone": "{name} changes something in A alone: {without}, {where} changes by {a:.2g} latent units there, and "
    "in B by {b:.2g}, which is nothing or rounding.",
    "in B alone": "{name} changes something in B alone: {without}, {where} changes by {b:.2g} latent units there, and "
    "in A by {a:.2g}, which is nothing or rounding.",
    "in neither": "{name} changes nothing in A ({a:.2g} latent units), and nothing in B ({b:.2g}), but for rounding.",
}
RULE = Rule("changed strength", find, SENTENCES)
