"""In which steps does a reference act?"""

from collections.abc import Iterator

from ..facts import Facts
from ..finding import Evidence, Finding, Lacking, Rule

FADES = 0.25  # of the strongest measured step's effect
FEW = "effects were measured in one step alone"


def find(facts: Facts) -> Iterator[Finding]:
    """By effect in the measured steps, each against the strongest of them."""
    for owner in facts.owners:
        steps = facts.effects.steps(owner)
        if len(steps) < 2:
            raise Lacking(FEW)
        by_step = {step: facts.strength(owner, step) for step in steps}
        strongest = max(by_step, key=lambda step: by_step[step])
        if by_step[strongest] == 0:
            continue
        for case, step in (("late", steps[0]), ("fades", steps[-1])):
            if by_step[step] < FADES * by_step[strongest]:
                values = {
                    "name": facts.names[owner], "step": step, "less": by_step[step], "strongest": strongest,
                    "most": by_step[strongest], "last": facts.attribution.steps - 1,
                }  # fmt: skip
                evidence = Evidence("effect", facts.selection([step, strongest], owner), owner=owner)
                yield Finding("steps", case, "fact", values, evidence, "longer", True)


SENTENCES = {
    "late": "{name} acts late: in step {step} it changes the picture by {less:.2g}, in step {strongest} by {most:.2g} (the "
    "last is step {last}).",
    "fades": "{name} acts early, and then stops: in step {step} it changes the picture by {less:.2g}, in step {strongest} by "
    "{most:.2g} (the last is step {last}).",
}
RULE = Rule("steps", find, SENTENCES)
