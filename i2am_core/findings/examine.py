"""All rules applied to one picture of a run."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ..attribution import Attribution
from ..errors import AttributionError, Lacking
from .facts import Facts
from .finding import MARKS, WEIGHTS, Finding, Rule
from .rules import display, form, looked, parts, place, rest, rivals, steps, strength, unseen

RULES: tuple[Rule, ...] = (
    *(strength.RULE, form.RULE, looked.RULE, place.RULE, rivals.RULE, steps.RULE, parts.RULE, rest.RULE),
    *(unseen.RULE, display.RULE),
)
SENTENCES: Mapping[str, str] = {f"{rule.name}: {case}": text for rule in RULES for case, text in rule.sentences.items()}
"""The templates of all sentences in English, by the key of a finding."""

OF_RUN = (unseen.RULE,)
"""Those that are about the whole run, and hold also of a picture of which nothing is painted."""

NOT_PAINTED = "nothing of this picture is painted, since the sampler's mask keeps all of it"
OF_THUMB = "What is called little here is a rule of thumb: it was measured on one small model."


@dataclass(frozen=True)
class Examined:
    """What was found, faults first; and which rules were not applied, by name with what they lacked."""

    findings: tuple[Finding, ...]
    lacking: Mapping[str, str]


def examine(
    attribution: Attribution, item: int = 0, mask: Tensor | None = None, object_mask: Tensor | None = None
) -> Examined:
    """What the rules find in one picture; ``mask [H, W]`` is on it, ``object_mask [H, W]`` on the references.

    Raises UnknownItem.
    """
    attribution.check_item(item)
    facts = Facts(attribution, item, mask, object_mask)
    rules = RULES if facts.is_painted else OF_RUN
    results: list[Finding] = []
    lacking = {rule.name: NOT_PAINTED for rule in RULES if rule not in rules}
    for rule in rules:
        try:
            results += rule.find(facts)
        except AttributionError as error:  # a map that there is not, in a run of another form than those we know
            lacking[rule.name] = error.what if isinstance(error, Lacking) else str(error).rstrip(".")
    return Examined(tuple(sorted(results, key=lambda x: WEIGHTS.index(x.weight))), lacking)


def finding_lines(examined: Examined) -> list[str]:
    """The findings in English, a line each, with its mark; and that thresholds are rules of thumb, where they are."""
    lines = [f"{MARKS[finding.weight]} {finding.worded(SENTENCES)}" for finding in examined.findings]
    return lines + [OF_THUMB] * any(finding.of_thumb for finding in examined.findings)
