"""Which faults are gone, which are new, and which are still there?"""

from collections.abc import Iterator

from ...effect import Owner
from ..examine import SENTENCES as OF_ONE
from ..examine import Examined, examine
from ..finding import RUN, Finding, Rule, Values
from .two import TwoRuns

Subject = tuple[str, Owner | str]
"""What is said, and of whom: the number of an owner as B has it, or what a finding of the whole run names."""


def find(two: TwoRuns) -> Iterator[Finding]:
    """By what the rules find in each, of the same owner; of the other run a rule may not be able to tell."""
    of_a, of_b = examine(two.a, two.item), examine(two.b, two.item)
    in_a = {_subject(fault, two): fault for fault in _faults(of_a)}
    in_b = {_subject(fault): fault for fault in _faults(of_b)}
    for subject, fault in in_a.items():
        if subject not in in_b:
            yield _said(fault, "gone", "A", of_b)
    for subject, fault in in_b.items():
        yield _said(fault, "still there" if subject in in_a else "new", "B", of_a)
    if not in_a and not in_b:
        yield Finding("faults", "none", "fine", {}, RUN)


def _faults(examined: Examined) -> list[Finding]:
    return [finding for finding in examined.findings if finding.weight == "fault"]


def _subject(fault: Finding, two: TwoRuns | None = None) -> Subject:
    """Of a fault of A, ``two`` says which of B's owners it is about."""
    owner = fault.evidence.owner
    if owner is None:
        return fault.key, str(fault.values.get("what", fault.values.get("name", "")))
    return fault.key, owner if two is None else two.in_b(owner)


def _said(fault: Finding, case: str, run: str, of_other: Examined) -> Finding:
    """Of a fault that is said of one ``run`` alone, the other may lack what its rule needs: that proves nothing."""
    said = fault.worded(OF_ONE)
    reason = of_other.lacking.get(fault.rule)
    if case != "still there" and reason is not None:
        values: Values = {"said": said, "reason": reason}
        return Finding("faults", f"in {run}, and not known in the other", "fact", values, fault.evidence)
    if case == "gone":
        return Finding("faults", case, "fine", {"said": said}, fault.evidence)
    return Finding("faults", case, "fault", {"said": said}, fault.evidence, fault.suggestion)


SENTENCES = {
    "gone": "A has this fault, and B has not: {said}",
    "new": "B has this fault, and A has not: {said}",
    "still there": "Both have this fault, here as B has it: {said}",
    "in A, and not known in the other": "A has this fault, and of B it is not known, since {reason}: {said}",
    "in B, and not known in the other": "B has this fault, and of A it is not known, since {reason}: {said}",
    "none": "No rule finds a fault in A or in B.",
}
RULE = Rule("faults", find, SENTENCES)
