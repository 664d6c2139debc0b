"""Which faults are gone, which are new, and which are still there?"""

from collections.abc import Iterator

from ...effect import Owner
from ..examine import SENTENCES as OF_ONE
from ..examine import Examined, examine
from ..facts import Facts
from ..finding import RUN, Finding, Rule, Values, Weight
from .two import TwoRuns

Subject = tuple[str, Owner | str]
"""Which rule, and of whom it speaks: the number of an owner as B has it, or what a finding of the whole run names."""

QUIET = ("looked", "steps", "unseen", "display")
"""Rules that say nothing where all is well: of others, which say that it is, to say nothing proves nothing."""


def find(two: TwoRuns) -> Iterator[Finding]:
    """By what the rules find in each of the same owner. Where a rule cannot tell of one, no fault there is no cure."""
    a, b = examine(two.a, two.item), examine(two.b, two.item)
    of_a = {_subject(finding, two): finding for finding in a.findings if finding.weight == "fault"}
    of_b = {_subject(finding): finding for finding in b.findings if finding.weight == "fault"}
    for subject, fault in of_a.items():
        if subject not in of_b:
            yield _of_one(fault, "A", two.facts[1], [x for x in b.findings if _subject(x) == subject], b, subject)
    for subject, fault in of_b.items():
        if subject in of_a:
            values: Values = {"said": fault.worded(OF_ONE)}
            yield Finding("faults", "still there", "fault", values, fault.evidence, fault.suggestion, fault.of_thumb)
        else:
            others = [x for x in a.findings if _subject(x, two) == subject]
            yield _of_one(fault, "B", two.facts[0], others, a, subject)
    if not of_a and not of_b:
        yield Finding("faults", "none", "fine", {}, RUN)


def _subject(finding: Finding, two: TwoRuns | None = None) -> Subject:
    """Of a finding of A, ``two`` says which of B's owners it is about."""
    owner = finding.evidence.owner
    if owner is None:
        return finding.rule, str(finding.values.get("what", finding.values.get("name", finding.case)))
    if two is None:
        return finding.rule, owner
    other = two.in_b(owner)
    return finding.rule, f"{finding.values.get('name')} of A alone" if other is None else other


def _of_one(
    fault: Finding, run: str, other: Facts, said_of_other: list[Finding], examined: Examined, subject: Subject
) -> Finding:
    """A fault of one run: what the same rule says of the other, or why it says nothing."""
    said = fault.worded(OF_ONE)
    if said_of_other:
        one = said_of_other[0]
        weight: Weight = "fact" if one.weight == "fact" else "fine" if run == "A" else "fault"
        values: Values = {"said": said, "other": one.worded(OF_ONE)}
        case = f"in {run}, beside what is said of the other"
        return Finding("faults", case, weight, values, fault.evidence, "", fault.of_thumb)
    reason = examined.lacking.get(fault.rule) or _not_known(other, subject)
    if reason:
        values = {"said": said, "reason": reason}
        case = f"in {run}, and not known of the other"
        return Finding("faults", case, "fact", values, fault.evidence, "", fault.of_thumb)
    case, weight = ("gone", "fine") if run == "A" else ("new", "fault")
    suggestion = fault.suggestion if run == "B" else ""
    return Finding("faults", case, weight, {"said": said}, fault.evidence, suggestion, fault.of_thumb)


def _not_known(other: Facts, subject: Subject) -> str:
    """Why a rule that is silent of the other run may be so for another reason than that all is well; "" for none."""
    rule, owner = subject
    if rule not in QUIET:
        return "its rule says nothing of it there"
    if rule == "looked" and not (other.has_effects_of_steps and isinstance(owner, int) and other.measured(owner)):
        return "what it changes was not measured there"
    if rule == "steps" and owner not in other.read:
        return "no attention to it was captured there"
    return ""


SENTENCES = {
    "gone": "A has this fault, and B has not: {said}",
    "new": "B has this fault, and A has not: {said}",
    "still there": "Both have this fault, here as B has it: {said}",
    "in A, beside what is said of the other": "A has this fault: {said} Of B is said: {other}",
    "in B, beside what is said of the other": "B has this fault: {said} Of A is said: {other}",
    "in A, and not known of the other": "A has this fault, and of B it is not known, since {reason}: {said}",
    "in B, and not known of the other": "B has this fault, and of A it is not known, since {reason}: {said}",
    "none": "No rule finds a fault in A or in B.",
}
RULE = Rule("faults", find, SENTENCES)
