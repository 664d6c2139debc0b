"""All rules applied to one picture of a run."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ..attribution import Attribution
from .facts import Facts
from .finding import WEIGHTS, Finding, Lacking, Rule
from .rules import form, looked, parts, place, rest, rivals, steps, strength

RULES: tuple[Rule, ...] = (
    *(strength.RULE, form.RULE, looked.RULE, place.RULE, rivals.RULE, steps.RULE, parts.RULE, rest.RULE),
)
SENTENCES: Mapping[str, str] = {f"{rule.name}: {case}": text for rule in RULES for case, text in rule.sentences.items()}
"""The templates of all sentences in English, by the key of a finding."""


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
    results: list[Finding] = []
    lacking: dict[str, str] = {}
    for rule in RULES:
        try:
            results += rule.find(facts)
        except Lacking as error:
            lacking[rule.name] = str(error)
    return Examined(tuple(sorted(results, key=lambda x: WEIGHTS.index(x.weight))), lacking)
