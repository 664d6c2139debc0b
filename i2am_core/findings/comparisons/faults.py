"""Which faults are gone, which are new, and which are still there?"""

from collections.abc import Iterator

from ...attribution import Attribution
from ...effect import Owner
from ...errors import Lacking
from ..examine import SENTENCES as OF_ONE
from ..examine import examine
from ..finding import Finding, Rule
from .two import Two

NONE = "neither run has a fault that a rule finds"


def find(two: Two) -> Iterator[Finding]:
    """By what the rules find in each, of the same owner."""
    of_a = {(key, two.in_b(owner)): fault for (key, owner), fault in _faults(two.a, two.item).items()}
    of_b = _faults(two.b, two.item)
    if not of_a and not of_b:
        raise Lacking(NONE)
    for key, fault in of_a.items():
        if key not in of_b:
            yield Finding("faults", "gone", "fine", {"said": fault.worded(OF_ONE)}, fault.evidence)
    for key, fault in of_b.items():
        case = "still there" if key in of_a else "new"
        yield Finding("faults", case, "fault", {"said": fault.worded(OF_ONE)}, fault.evidence, fault.suggestion)


def _faults(run: Attribution, item: int) -> dict[tuple[str, Owner], Finding]:
    """By what is said, and of which owner; of the run as a whole, of all references."""
    faults = [finding for finding in examine(run, item).findings if finding.weight == "fault"]
    return {(fault.key, _owner(fault)): fault for fault in faults}


def _owner(fault: Finding) -> Owner:
    return "all references" if fault.evidence.owner is None else fault.evidence.owner


SENTENCES = {
    "gone": "Said of A, and not of B: {said}",
    "new": "Said of B, and not of A: {said}",
    "still there": "Said of both, here of B: {said}",
}
RULE = Rule("faults", find, SENTENCES)
