"""Does a reference change the picture at all?"""

from collections.abc import Iterator

from ...effect import Owner
from ...selection import numbers_text
from ..facts import Facts
from ..finding import Evidence, Finding, Rule, Values

WEAK = 0.1  # latent units: less than any healthy run of the demo model has (docs/findings.md)
TEXT: Owner = "text"
ALL: Owner = "all references"


def find(facts: Facts) -> Iterator[Finding]:
    """By effect: against the noise floor, against what healthy runs of the demo model have, and against the text's."""
    for owner in facts.owners:
        yield _of(facts, owner)


def _of(facts: Facts, owner: Owner) -> Finding:
    strength, certainty, steps = facts.strength(owner), facts.certainty(owner), facts.steps_of(owner)
    values: Values = {
        "name": facts.names[owner],
        "where": facts.where,
        "strength": strength,
        "floor": facts.floor,
        "steps": facts.steps_text(owner),
        "count": len(steps),
        "total": facts.attribution.steps,
    }
    evidence = Evidence("effect", facts.selection(steps, owner), owner=owner)
    if certainty == "none":
        return _none(facts, owner, values, evidence)
    if certainty == "too small to measure":
        return Finding("strength", "too small", "fault", values, evidence, "stronger")
    values |= {"least": WEAK}
    beside = ""
    if facts.measured(TEXT):
        beside, values = ", beside the text", values | {"text": facts.strength(TEXT)}
    if strength < WEAK:
        return _weak(facts, owner, beside, values, evidence)
    return Finding("strength", "acts" + beside, "fine", values, evidence, of_thumb=True)


def _weak(facts: Facts, owner: Owner, beside: str, values: Values, evidence: Evidence) -> Finding:
    """A fault, but where others stand in for it, or where guidance multiplies what it changes."""
    together = facts.strength(ALL) if facts.measured(ALL) else 0.0
    if isinstance(owner, int) and together >= WEAK:
        return Finding("strength", "stood in for", "fact", values | {"together": together}, evidence, of_thumb=True)
    if facts.floor > 0:  # which is measured where the branch was computed beside others: guidance is on
        return Finding("strength", "weak, before guidance", "fact", values, evidence, "stronger", of_thumb=True)
    return Finding("strength", "weak" + beside, "fault", values, evidence, "stronger", of_thumb=True)


def _none(facts: Facts, owner: Owner, values: Values, evidence: Evidence) -> Finding:
    """Nothing changes: where the reference is on in other steps alone, that was not measured."""
    on = facts.steps_on(owner) if isinstance(owner, int) else None
    if on and not set(on) & set(facts.steps_of(owner)):
        values |= {"on": numbers_text(on)}
        return Finding("strength", "not measured where it is on", "fact", values, evidence, "measure")
    return Finding("strength", "none", "fault", values, evidence, "switch on" if on == [] else "stronger")


SENTENCES = {
    "none": "{name} changes nothing: without it, not a digit of what the model predicts for {where} is another one, in "
    "all {count} of {total} steps that were measured ({steps}).",
    "not measured where it is on": "{name} is off in the {count} of {total} steps that were measured ({steps}), and "
    "changes nothing there. It is looked at in steps {on}, of which nothing was measured.",
    "too small": "{name} changes nothing that can be told from rounding: without it, {where} changes by "
    "{strength:.2g}, and rounding alone changes it by {floor:.2g}.",
    "stood in for": "Without {name} alone, {where} changes by {strength:.2g}, where {least:.2g} is little; without all "
    "references together by {together:.2g}: they stand in for each other.",
    "weak, before guidance": "Without {name}, what the model predicts for {where} changes by {strength:.2g}, where "
    "{least:.2g} is little. Guidance (cfg) multiplies that, and by how much is not known here.",
    "weak": "{name} hardly acts: without it, {where} changes by {strength:.2f}, where {least:.2f} is little.",
    "weak, beside the text": "{name} hardly acts: without it, {where} changes by {strength:.2f}, where {least:.2f} is "
    "little; without the text by {text:.2f}.",
    "acts": "{name} acts: without it, {where} changes by {strength:.2f}, where {least:.2f} is little.",
    "acts, beside the text": "{name} acts: without it, {where} changes by {strength:.2f}, where {least:.2f} is little; "
    "without the text by {text:.2f}.",
}
RULE = Rule("strength", find, SENTENCES)
