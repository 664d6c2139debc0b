"""Is a reference looked at, and yet changes nothing?"""

from collections.abc import Iterator

from ...errors import Lacking
from ..facts import Facts
from ..finding import Evidence, Finding, Rule, Values

NO_ATTENTION = "no attention was captured"


def find(facts: Facts) -> Iterator[Finding]:
    """By share and effect."""
    if not facts.read:
        raise Lacking(NO_ATTENTION)
    for number in facts.read:
        if not facts.measured(number) or facts.certainty(number) != "none":
            continue
        if set(facts.steps_of(number)) <= facts.steps_off(number):  # looked at in other steps than these
            continue
        share = facts.share_in_measured_steps(number)
        if share > 0:
            values: Values = {"name": facts.names[number], "share": share, "strength": facts.strength(number)}
            values |= {"without": facts.without(number), "where": facts.where}
            evidence = Evidence("attention", facts.selection(reference=number), owner=number)
            yield Finding("looked", "in vain", "fault", values, evidence, "undo")


SENTENCES = {
    "in vain": "{name} is looked at and changes nothing: {share:.2%} of the attention goes to it in the steps that "
    "were measured, and {without}, {where} changes by {strength:.2g} latent units. Something takes away "
    "what is read from it after the attention, or it holds nothing.",
}
RULE = Rule("looked", find, SENTENCES)
