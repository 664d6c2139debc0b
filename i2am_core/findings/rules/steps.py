"""In which steps does a reference act?"""

from collections.abc import Iterator

from ...effect import Owner
from ...errors import Lacking
from ..facts import Facts, steps_text
from ..finding import Evidence, Finding, Rule, Values

FADES = 0.25  # of the strongest measured step's effect
NOTHING = "neither attention nor the effect of two steps is known"


def find(facts: Facts) -> Iterator[Finding]:
    """By attention, in which of all steps it is on; by effect, each measured step against the strongest of them."""
    if not facts.read and not facts.has_effects_of_steps:
        raise Lacking(NOTHING)
    for number in facts.read:
        yield from _by_attention(facts, number)
    for owner in facts.owners if facts.has_effects_of_steps else ():
        yield from _by_effect(facts, owner)


def _by_attention(facts: Facts, number: int) -> Iterator[Finding]:
    on, total = facts.steps_on(number), facts.steps_seen(number)
    if on is None or len(on) >= total:
        return
    values: Values = {"name": facts.names[number], "count": len(on), "total": total, "on": steps_text(on)}
    evidence = Evidence("attention", facts.selection(on, number), owner=number)
    others = len(facts.attribution.not_looked_at)
    if on:
        case = "partly on where it was looked" if others else "partly on"
        yield Finding("steps", case, "fact", values, evidence, "longer")
    elif not (facts.has_effects_of_steps and facts.measured(number)):  # else 'strength' says it
        if others:
            values |= {"others": others}
            yield Finding("steps", "off where it was looked", "fact", values, evidence, "look at all")
        else:
            yield Finding("steps", "never on", "fault", values, evidence, "switch on")


def _by_effect(facts: Facts, owner: Owner) -> Iterator[Finding]:
    steps = facts.steps_of(owner)
    by_step = {step: facts.strength(owner, [step]) for step in steps}
    strongest = max(by_step, key=lambda step: by_step[step])
    for case, step in (("late", steps[0]), ("fades", steps[-1])):
        if len(steps) > 1 and by_step[step] < FADES * by_step[strongest]:
            values: Values = {
                "name": facts.names[owner], "where": facts.where, "step": step, "less": by_step[step],
                "strongest": strongest, "most": by_step[strongest], "last": facts.attribution.steps - 1,
            }  # fmt: skip
            evidence = Evidence("effect", facts.selection([step, strongest], owner), owner=owner)
            yield Finding("steps", case, "fact", values, evidence, of_thumb=True)


SENTENCES = {
    "partly on": "{name} is on in {count} of {total} steps ({on}): in the others nothing looks at it.",
    "never on": "{name} is on in {count} of {total} steps: nothing looks at it.",
    "partly on where it was looked": "Of the {total} steps of which there are maps, {name} is on in {count} ({on}): "
    "in the others of these nothing looks at it.",
    "off where it was looked": "Of the {total} steps of which there are maps, {name} is on in none. Whether it is in "
    "the {others} that were left out is not known.",
    "late": "{name} acts late: in step {step} it changes {where} by {less:.2g} latent units, in step {strongest} "
    "by {most:.2g} (the last is step {last}).",
    "fades": "{name} acts early, and then less: in step {step} it changes {where} by {less:.2g} latent units, in "
    "step {strongest} by {most:.2g} (the last is step {last}).",
}
RULE = Rule("steps", find, SENTENCES)
