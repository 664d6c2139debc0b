"""A run for a person: first what is wrong or right with it, then what was captured and how."""

import logging
from collections.abc import Iterator

from ..i2am_core import Attribution, Examined, examine, finding_lines
from .suggestions import tries

log = logging.getLogger(__name__)

TRY = "Try: {}."
GUESS = "Try: {} (a guess, until a second run shows it)."
MOST_PICTURES = 4  # of a batch


def summary_of(attribution: Attribution) -> str:
    """The findings, where there are any, and the attribution's own summary."""
    try:
        findings = _findings(attribution)
    except Exception as error:  # whatever a run holds, what was captured is said
        log.warning("what there is to say of a run could not be worked out", exc_info=True)
        findings = f"What is wrong or right could not be worked out ({type(error).__name__}: {error})."
    return "\n\n".join(filter(None, [findings, attribution.summary()]))


def _findings(attribution: Attribution) -> str:
    """What is wrong, or right, in each picture, and what to try; "" where nothing can be said."""
    blocks = []
    for item in range(min(attribution.items, MOST_PICTURES)):
        lines = list(_of(attribution, item))
        if lines and attribution.items > 1:
            lines = [f"picture {item}:", *lines]
        blocks += lines
    if blocks and attribution.items > MOST_PICTURES:
        blocks.append(f"and {attribution.items - MOST_PICTURES} more pictures: I2AM Report has a page of each.")
    return "\n".join(blocks)


def _of(attribution: Attribution, item: int) -> Iterator[str]:
    result = examine(attribution, item)
    yield from finding_lines(result)
    yield from tries_of(result, attribution)


def tries_of(result: Examined, attribution: Attribution) -> list[str]:
    """What to try, each thing once."""
    all_tries = dict.fromkeys(one for _, one in tries(result.findings, attribution.mechanisms))
    return [(TRY if one.measures else GUESS).format(one.sentence) for one in all_tries]
