"""What changed from a run A to a run B, in plain words; and what could not be compared, and why."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..attribution import Attribution
from .comparisons import agreement, attention, faults, pictures, place, strength
from .comparisons.settings import unlike_settings
from .comparisons.two import Pictures, Two
from .examine import apply
from .finding import MARKS, Finding, Rule

COMPARISONS: tuple[Rule[Two], ...] = (
    *(faults.RULE, strength.RULE, place.RULE, attention.RULE, agreement.RULE, pictures.RULE),
)
COMPARED_SENTENCES: Mapping[str, str] = {
    f"{rule.name}: {case}": text for rule in COMPARISONS for case, text in rule.sentences.items()
}
"""The templates of all sentences in English, by the key of a finding."""
NO_SEEDS = (
    "How much two seeds differ is not known, since each run made one picture: what is said here may be no more than "
    "that. Batches of two or more tell."
)
NO_SETTING = "No setting that is recorded with a run is another one in B than in A."


@dataclass(frozen=True)
class Compared:
    """What changed; by rule why something could not be compared; and settings that are unlike.

    ``seeds_known`` says whether a run has several pictures, which tell what two seeds differ by.
    """

    findings: tuple[Finding, ...]
    lacking: Mapping[str, str]
    settings: tuple[str, ...]
    seeds_known: bool


def compare(a: Attribution, b: Attribution, item: int = 0, pictures: tuple[Pictures, Pictures] = ({}, {})) -> Compared:
    """What is other in B than in A, for the same ``item`` of both, and in their ``pictures`` ``[H, W, 3]`` by item.

    Without any, those that were saved with the attributions are compared. Raises UnknownItem.
    """
    a.check_item(item)
    b.check_item(item)
    findings, lacking = apply(COMPARISONS, Two(a, b, item, *pictures))
    return Compared(tuple(findings), lacking, tuple(unlike_settings(a, b)), max(a.items, b.items) > 1)


def compared_lines(compared: Compared) -> list[str]:
    """What changed, in English, a line each; then settings that are unlike, and what could not be compared."""
    lines = [f"{MARKS[finding.weight]} {finding.worded(COMPARED_SENTENCES)}" for finding in compared.findings]
    lines += [NO_SEEDS] * (bool(lines) and not compared.seeds_known)
    lines += [f"Set otherwise: {line}." for line in compared.settings] or [NO_SETTING]
    reasons = {rule.removeprefix("changed "): why for rule, why in compared.lacking.items()}
    return lines + [f"Not compared: {what}, since {why}." for what, why in reasons.items()]
