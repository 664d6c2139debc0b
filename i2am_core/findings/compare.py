"""What changed from a run A to a run B, in plain words; and what could not be compared, and why."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..attribution import Attribution
from ..errors import InOneRun, UnknownItem
from .comparisons import agreement, attention, faults, picture, place, strength
from .comparisons.settings import unlike_settings
from .comparisons.two import Pictures, TwoRuns
from .examine import NOT_PAINTED, OF_THUMB, apply
from .finding import Finding, Rule

COMPARISONS: tuple[Rule[TwoRuns], ...] = (
    *(faults.RULE, strength.RULE, place.RULE, attention.RULE, agreement.RULE, picture.RULE),
)
COMPARED_SENTENCES: Mapping[str, str] = {
    f"{rule.name}: {case}": text for rule in COMPARISONS for case, text in rule.sentences.items()
}
"""The templates of all sentences in English, by the key of a finding: none of them is one of ``SENTENCES``."""
NO_SEEDS = (
    "How much two seeds differ is not known, since neither run made two pictures in one mask: what is said here "
    "may be no more than that. A batch of one picture with several noises tells."
)
NO_SETTING = "All settings that are recorded with a run are the same in both."


@dataclass(frozen=True)
class Compared:
    """What changed; by rule why something could not be compared; and settings that are unlike.

    ``seeds_known`` says whether a run has several pictures in one mask, which tell what two seeds differ by.
    """

    findings: tuple[Finding, ...]
    lacking: Mapping[str, str]
    settings: tuple[str, ...]
    seeds_known: bool

    def notes(self) -> list[str]:
        """What is to be known beside the findings, in English, a line each."""
        lines = [OF_THUMB] * any(finding.of_thumb for finding in self.findings)
        lines += [NO_SEEDS] * (bool(self.findings) and not self.seeds_known)
        lines += [f"Other settings: {line}." for line in self.settings] or [NO_SETTING]
        return lines + [f"Not compared: {rule}, since {why}." for rule, why in self.lacking.items()]


def compare(a: Attribution, b: Attribution, item: int = 0, pictures: tuple[Pictures, Pictures] = ({}, {})) -> Compared:
    """What is other in B than in A, for the same ``item`` of both, and in their ``pictures`` ``[H, W, 3]`` by item.

    Without any, those that were saved with the attributions are compared. Raises InOneRun for an item that is none.
    """
    for called, run in (("A", a), ("B", b)):
        try:
            run.check_item(item)
        except UnknownItem as error:
            raise InOneRun(called, error) from error
    two = TwoRuns(a, b, item, pictures)
    rules = COMPARISONS if all(facts.is_painted for facts in two.facts) else (faults.RULE, picture.RULE)
    findings, lacking = apply(rules, two)
    lacking |= {rule.name: NOT_PAINTED for rule in COMPARISONS if rule not in rules}
    return Compared(tuple(findings), lacking, tuple(unlike_settings(a, b)), two.seeds_known)
