"""Does a reference change the picture more, or less?"""

from collections.abc import Iterator, Sequence

from ...effect import Owner, certainty_of
from ..facts import steps_text
from ..finding import Evidence, Finding, Rule, Values
from .two import TwoRuns, case_of, sentences_of

LEAST = 0.005  # of the larger: less is not seen in two digits


def find(two: TwoRuns) -> Iterator[Finding]:
    """By effect, over the mask of each run or the picture, in the measured steps of both."""
    a, b = two.facts
    for owner, other in two.measured:
        evidence = Evidence("effect", a.selection(two.steps(owner, other)[0], owner), owner=owner)
        if a.without(owner) == b.without(other):
            yield _of(two, owner, other, evidence)
            continue
        ways: Values = {"name": a.names[owner], "of_a": a.without(owner), "of_b": b.without(other)}
        yield Finding("strength", "by unlike ways", "fact", ways, evidence)


def _of(two: TwoRuns, owner: Owner, other: Owner, evidence: Evidence) -> Finding:
    (a, b), (steps, others) = two.facts, two.steps(owner, other)
    of_a, of_b = a.strength(owner, steps), b.strength(other, others)
    about: Values = {"name": a.names[owner], "where": a.where, "without": a.without(owner)}
    acts = [certainty_of(*x) in ("measured", "rough") for x in ((of_a, a.floor), (of_b, b.floor))]
    if not all(acts):
        case = "in A alone" if acts[0] else "in B alone" if acts[1] else "in neither"
        return Finding("strength", case, "fact", about | {"a": of_a, "b": of_b}, evidence)
    seeds = two.seeds(lambda x: x.strength(owner, steps), lambda x: x.strength(other, others))
    case, values = case_of(of_a, of_b, seeds, max(LEAST * max(of_a, of_b), a.floor, b.floor))
    return Finding("strength", case, "fact", about | values | {"steps": _words(steps, others)}, evidence)


def _words(steps: Sequence[int], others: Sequence[int]) -> str:
    of_a, of_b = steps_text(steps), steps_text(others)
    return f"steps {of_a}" if of_a == of_b else f"steps {of_a} of A, {of_b} of B"


SENTENCES = sentences_of(
    "{name} changes more in B",
    "{name} changes less in B",
    "{name} changes as much in B as in A",
    "{without}, {where} changes by {b:.2g} latent units in B, by {a:.2g} in A ({steps})",
    "{seeds:.2g}",
) | {
    "in A alone": "{name} changes something in A alone: {without}, {where} changes by {a:.2g} latent units there, and "
    "in B by {b:.2g}, which is nothing or rounding.",
    "in B alone": "{name} changes something in B alone: {without}, {where} changes by {b:.2g} latent units there, and "
    "in A by {a:.2g}, which is nothing or rounding.",
    "in neither": "{name} changes nothing in A ({a:.2g} latent units), and nothing in B ({b:.2g}), but for rounding.",
    "by unlike ways": "How much {name} changes is not compared: it was measured {of_a} in A, {of_b} in B.",
}
RULE = Rule("strength", find, SENTENCES)
