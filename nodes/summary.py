"""A run for a person: first what is wrong or right with it, then what was captured and how."""

import logging
from collections.abc import Sequence

from ..i2am_core import Attribution, Finding, run_lines
from .suggestions import tries

log = logging.getLogger(__name__)

TRY = "Try: {}."
GUESS = "Try: {} (a guess, until a second run shows it)."
MOST_PICTURES = 4  # of a batch
OTHERS = "and {} more pictures: I2AM Report has a page of each."


def summary_of(attribution: Attribution) -> str:
    """The findings, where there are any, and the attribution's own summary."""
    try:
        lines = run_lines(attribution, lambda findings: tries_of(findings, attribution), MOST_PICTURES, OTHERS)
        findings = "\n".join(lines)
    except Exception as error:  # whatever a run holds, what was captured is said
        log.warning("what there is to say of a run could not be worked out", exc_info=True)
        findings = f"What is wrong or right could not be worked out ({type(error).__name__}: {error})."
    return "\n\n".join(filter(None, [findings, attribution.summary()]))


def tries_of(findings: Sequence[Finding], attribution: Attribution) -> list[str]:
    """What to try, each thing once."""
    all_tries = dict.fromkeys(one for _, one in tries(findings, attribution.mechanisms))
    return [(TRY if one.measures else GUESS).format(one.sentence) for one in all_tries]
