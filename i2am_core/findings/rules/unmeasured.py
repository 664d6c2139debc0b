"""Was what references changed measured, or only where they are looked at?"""

from collections.abc import Iterator

from ...errors import Lacking
from ..facts import Facts
from ..finding import RUN, Finding, Rule
from .looked import NO_ATTENTION


def find(facts: Facts) -> Iterator[Finding]:
    """Of a run with attention and without effects, with why there are none where Effect was there."""
    if not facts.read:
        raise Lacking(NO_ATTENTION)
    effects = facts.attribution.effects
    if facts.has_effects_of_steps:
        return
    if effects is None or not effects.unmeasured:
        yield Finding("unmeasured", "no effect", "fact", {}, RUN, "measure effect")
    else:
        yield Finding("unmeasured", "could not", "fact", {"reasons": "; ".join(effects.reasons)}, RUN)


SENTENCES = {
    "no effect": "What references change was not measured: attention says where they are looked at, and not what that "
    "does.",
    "could not": "What references change could not be measured ({reasons}): attention says where they are looked at, "
    "and not what that does.",
}
RULE = Rule("unmeasured", find, SENTENCES)
