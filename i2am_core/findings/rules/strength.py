"""Does a reference change the picture at all?"""

from collections.abc import Iterator

from ...effect import Owner
from ..facts import Facts
from ..finding import Evidence, Finding, Rule

WEAK = 0.2  # latent units, in the masked area: docs/findings.md says what it tells apart on the demo model
TEXT = "text"


def find(facts: Facts) -> Iterator[Finding]:
    """By effect: against the noise floor, against what is usual for the demo model, and against the text's."""
    for owner in facts.owners:
        yield _of(facts, owner)


def _of(facts: Facts, owner: Owner) -> Finding:
    strength, certainty, steps = facts.strength(owner), facts.certainty(owner), facts.effects.steps(owner)
    values: dict[str, float | int | str] = {
        "name": facts.names[owner],
        "where": facts.where,
        "strength": strength,
        "steps": facts.steps_text(owner),
    }
    evidence = Evidence("effect", facts.selection(steps, owner), owner=owner)
    if certainty == "none":
        return Finding("strength", "none", "fault", values, evidence, "another reference")
    if certainty == "too small to measure":
        return Finding("strength", "too small", "fault", values | {"floor": facts.floor}, evidence, "stronger")
    values |= {"usual": WEAK}
    case = "weak" if strength < WEAK else "acts"
    if facts.measured(TEXT):
        case, values = f"{case}, beside the text", values | {"text": facts.strength(TEXT)}
    if strength < WEAK:
        return Finding("strength", case, "fault", values, evidence, "stronger", of_thumb=True)
    return Finding("strength", case, "fine", values, evidence, of_thumb=True)


SENTENCES = {
    "none": "{name} changes nothing: without it, not a digit of what the model predicts for {where} is another one, in "
    "the steps that were measured ({steps}).",
    "too small": "{name} changes nothing that can be told from rounding: without it, {where} changes by {strength:.2g}, "
    "and rounding alone changes it by {floor:.2g} (steps {steps}).",
    "weak": "{name} hardly acts: without it, {where} changes by {strength:.2f}, less than {usual:.2f}.",
    "weak, beside the text": "{name} hardly acts: without it, {where} changes by {strength:.2f}, less than "
    "{usual:.2f}; without the text by {text:.2f}.",
    "acts": "{name} acts: without it, {where} changes by {strength:.2f} (above {usual:.2f}).",
    "acts, beside the text": "{name} acts: without it, {where} changes by {strength:.2f} (above {usual:.2f}); without "
    "the text by {text:.2f}.",
}
RULE = Rule("strength", find, SENTENCES)
