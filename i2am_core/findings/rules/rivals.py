"""Of several references: which one acts most, and does one of them nothing beside the others?"""

from collections.abc import Iterator

from ...errors import Lacking
from ..facts import Facts
from ..finding import Evidence, Finding, Rule, Values

NOTHING = 0.2  # of the strongest one's effect: docs/findings.md says what it tells apart on the demo model
ONE = "there is one reference"


def find(facts: Facts) -> Iterator[Finding]:
    """By effect, each against the strongest."""
    owners = [owner for owner in facts.owners if isinstance(owner, int)]
    if len(owners) < 2:
        raise Lacking(ONE)
    strongest = max(owners, key=lambda owner: facts.strength(owner))
    most = facts.strength(strongest)
    for owner in owners:
        strength = facts.strength(owner)
        if owner == strongest or strength == 0:  # which rule 'strength' says
            continue
        names = {
            "name": facts.names[owner],
            "other": facts.names[strongest],
            "without": facts.without(owner),
            "where": facts.where,
        }
        values: Values = {**names, "strength": strength, "most": most}
        evidence = Evidence("effect", facts.selection(reference=owner), owner=owner)
        if strength < NOTHING * most:
            yield Finding("rivals", "drowned", "fault", values, evidence, "stronger", of_thumb=True)
        else:
            yield Finding("rivals", "shared", "fact", values, evidence)


SENTENCES = {
    "drowned": "{name} hardly counts beside {other}: {without}, {where} changes by {strength:.2g} latent units, "
    "and by {most:.2g} without the other.",
    "shared": "{other} acts most: {without}, {where} changes by {most:.2g} latent units, and by {strength:.2g} "
    "without {name}.",
}
RULE = Rule("rivals", find, SENTENCES)
