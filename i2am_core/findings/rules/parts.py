"""Which part of a reference is used: what was marked on it, or the rest."""

from collections.abc import Iterator

from ...effect import CUTS, certainty_of, means_over_regions
from ...errors import Lacking
from ...regions import cover_of
from ..facts import Facts
from ..finding import Evidence, Finding, Rule, Values

NO_REGIONS = "no effect of regions of a reference was measured"
NO_OBJECT = "no part of the reference was marked"
TOO_SMALL = "the effects of regions are too small to be compared"


def find(facts: Facts) -> Iterator[Finding]:
    """By the effect of regions: what part of their squares is of the marked ones, against their part of the area."""
    if facts.object_mask is None:
        raise Lacking(NO_OBJECT)
    measured = [(0, cut) for cut in CUTS if (0, cut) in facts.effects.regions]  # it is marked on the first reference
    if not measured:
        raise Lacking(NO_REGIONS)
    regions, reference = facts.effects.regions[measured[0]], facts.attribution.references[0]
    assert reference.grid is not None
    values = regions.values[facts.item][:, facts.inside].double().square().mean(1).sqrt()
    if certainty_of(float(values.max()), facts.floor) != "measured":
        raise Lacking(TOO_SMALL)
    on_object = means_over_regions(cover_of(facts.object_mask, reference.grid), reference.grid, regions.grid).double()
    part, area = float((values * on_object).sum() / values.sum()), float(on_object.mean())
    if area in (0, 1):
        raise Lacking(NO_OBJECT)
    said: Values = {"name": facts.names[0], "part": part, "rest": 1 - part, "area": area}
    evidence = Evidence("regions", facts.selection([regions.step], 0), "g2r", 0)
    if part > area:
        yield Finding("parts", "object", "fine", said, evidence)
    else:
        yield Finding("parts", "background", "fault", said, evidence, "mask it")


SENTENCES = {
    "object": "What you marked on {name} is used: {part:.0%} of the effect of its parts comes from there, where it is "
    "{area:.0%} of the reference.",
    "background": "What you marked on {name} is used no more than the rest: {part:.0%} of the effect of its parts "
    "comes from there, where it is {area:.0%} of the reference.",
}
RULE = Rule("parts", find, SENTENCES)
