"""Findings as the viewer's file has them: of each picture, with what proves them and what to try."""

import logging
from collections.abc import Iterator, Sequence

from torch import Tensor

from ..i2am_core import SENTENCES, Attribution, Finding, HeaderFinding, examine
from .suggestions import tries

log = logging.getLogger(__name__)

MOST_PICTURES = 16  # of a batch


def view_findings(attribution: Attribution, masks: Sequence[Tensor | None]) -> list[HeaderFinding]:
    """The findings of the first pictures, faults first. ``masks`` are what a person marked on each, ``[H, W]``.

    None at all where they cannot be worked out: maps are looked at without them.
    """
    try:
        return [x for item in range(min(attribution.items, MOST_PICTURES)) for x in _of(attribution, item, masks[item])]
    except Exception:  # whatever a run holds, it can be looked at
        log.warning("what there is to say of a run could not be worked out", exc_info=True)
        return []


def _of(attribution: Attribution, item: int, mask: Tensor | None) -> Iterator[HeaderFinding]:
    findings = examine(attribution, item, mask).findings
    advice = {id(finding): one for finding, one in tries(findings, attribution.mechanisms)}
    for finding in findings:
        one = advice.get(id(finding))
        yield {
            "item": item,
            "key": finding.key,
            "weight": finding.weight,
            "sentence": finding.worded(SENTENCES),
            "values": dict(finding.values),
            "of_thumb": finding.of_thumb,
            "of_run": finding.of_run,
            "tries": [] if one is None else [{"sentence": one.sentence, "measures": one.measures}],
            "evidence": {
                "shows": finding.evidence.shows,
                "direction": finding.evidence.direction,
                "owner": finding.evidence.owner,
                "steps": _steps(finding, attribution),
                "reference": finding.evidence.selection.reference,
            },
        }


def _steps(finding: Finding, attribution: Attribution) -> list[int]:
    """None for all."""
    steps = finding.evidence.selection.step_numbers(attribution.steps)
    return [] if len(steps) == attribution.steps else steps
