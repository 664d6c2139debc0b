"""Does a reference change the picture at all?"""

from collections.abc import Iterator

from ...effect import Owner
from ..facts import Facts, steps_text
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
        "without": facts.without(owner),
        "strength": strength,
        "floor": facts.floor,
        "steps": steps_text(steps),
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
    if set(steps) & set(facts.measured_steps(TEXT)):  # of other steps its strength says nothing here
        beside, values = ", beside the text", values | {"text": facts.strength(TEXT, steps)}
    if strength < WEAK:
        return _weak(facts, owner, beside, values, evidence)
    return Finding("strength", "acts" + beside, "fine", values, evidence, of_thumb=True)


def _weak(facts: Facts, owner: Owner, beside: str, values: Values, evidence: Evidence) -> Finding:
    """A fault, but where others stand in for it, or where guidance multiplies what it changes."""
    if isinstance(owner, int) and _stand_in(facts, owner):
        values |= {"together": facts.strength(ALL, facts.steps_of(owner))}
        return Finding("strength", "stood in for", "fact", values, evidence, of_thumb=True)
    guidance = facts.attribution.guidance
    if guidance is None and facts.floor > 0:  # measured where the branch was computed beside others: there is guidance
        case = "weak, before guidance that is not known"
        return Finding("strength", case, "fact", values, evidence, "stronger", of_thumb=True)
    if guidance not in (None, 1):
        values |= {"guidance": guidance}
        return Finding("strength", "weak, before guidance", "fact", values, evidence, "stronger", of_thumb=True)
    return Finding("strength", "weak" + beside, "fault", values, evidence, "stronger", of_thumb=True)


def _stand_in(facts: Facts, owner: Owner) -> bool:
    """Whether no reference is missed alone, and all of them are: by more than their changes could add up to."""
    if not facts.measured(ALL):
        return False
    steps = facts.steps_of(owner)
    alone = [facts.strength(one, steps) for one in facts.owners if isinstance(one, int)]
    return max(alone) < WEAK <= facts.strength(ALL, steps) and facts.strength(ALL, steps) > sum(alone)


def _none(facts: Facts, owner: Owner, values: Values, evidence: Evidence) -> Finding:
    """Nothing changes: where the reference is on in other steps alone, that was not measured."""
    on = facts.steps_on(owner) if isinstance(owner, int) else None
    off = facts.steps_off(owner)
    if on is None and set(facts.steps_of(owner)) <= off:  # also where maps do not tell steps apart
        on = [step for step in range(facts.attribution.steps) if step not in off]
    if on and not set(on) & set(facts.steps_of(owner)):
        values |= {"on": steps_text(on)}
        return Finding("strength", "not measured where it is on", "fact", values, evidence, "measure")
    if on == [] and set(facts.attribution.not_looked_at) - set(facts.measured_steps(owner)):
        return Finding("strength", "none", "fact", values, evidence, "look at all")  # it may be on in these
    return Finding("strength", "none", "fault", values, evidence, "switch on" if on == [] else "stronger")


_BEFORE_GUIDANCE = (
    "{name} changes little before guidance: {without}, what the model predicts for {where} changes by {strength:.2g} "
    "latent units in steps {steps}, where {least:.2g} is little. "
)
_WEAK = (
    "{name} hardly acts: {without}, {where} changes by {strength:.2f} latent units in steps {steps}, where "
    "{least:.2f} is little"
)
_ACTS = (
    "{name} acts: {without}, {where} changes by {strength:.2f} latent units in steps {steps}, where {least:.2f} is "
    "little"
)
_TEXT = "; without the text by {text:.2f}"
SENTENCES = {
    "none": "{name} changes nothing: {without}, not a digit of what the model predicts for {where} is another one, in "
    "all {count} of {total} steps that were measured ({steps}).",
    "not measured where it is on": "{name} is off in the {count} of {total} steps that were measured ({steps}), and "
    "changes nothing there. It is looked at in steps {on}, of which nothing was measured.",
    "too small": "{name} changes nothing that can be told from rounding: {without}, {where} changes by {strength:.2g} "
    "latent units in steps {steps}, and rounding alone changes it by {floor:.2g}.",
    "stood in for": "{name} hardly acts by itself: {without}, {where} changes by {strength:.2g} latent units in steps "
    "{steps}, where {least:.2g} is little; without all references together by {together:.2g}: they stand in for each "
    "other.",
    "weak, before guidance": _BEFORE_GUIDANCE + "Guidance (cfg {guidance:.3g}) multiplies that.",
    "weak, before guidance that is not known": _BEFORE_GUIDANCE
    + "Guidance (cfg) multiplies that, and by how much is not known here.",
    "weak": _WEAK + ".",
    "weak, beside the text": _WEAK + _TEXT + ".",
    "acts": _ACTS + ".",
    "acts, beside the text": _ACTS + _TEXT + ".",
}
RULE = Rule("strength", find, SENTENCES)
