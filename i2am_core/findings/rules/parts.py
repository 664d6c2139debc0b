"""Which part of a reference is used: what was marked on it, or the rest."""

from collections.abc import Iterator

import torch

from ...effect import CUTS, regions_of
from ...errors import Lacking
from ...regions import cover_of
from ...tokens import TokenGrid
from ..facts import Facts
from ..finding import Evidence, Finding, Rule, Values

NO_REGIONS = "no effect of regions of a reference was measured"
NO_OBJECT = "nothing was marked on the reference"


def find(facts: Facts) -> Iterator[Finding]:
    """By the effect of regions: what part of their squares is of the marked ones, against their part of the area."""
    if facts.object_mask is None:
        raise Lacking(NO_OBJECT)
    measured = {number: (number, cut) for number, cut in sorted(facts.effects.regions, key=lambda x: -CUTS.index(x[1]))}
    if not measured:
        raise Lacking(NO_REGIONS)
    for number, key in sorted(measured.items()):
        regions = facts.effects.regions[key]
        grid = facts.attribution.references[number].grid
        assert grid is not None
        values = regions.values[facts.item][:, facts.inside].double().square().mean(1).sqrt()
        if not values.any():
            continue
        numbers, cover = regions_of(TokenGrid(grid.height, grid.width), regions.grid), cover_of(facts.object_mask, grid)
        sums, cells = torch.zeros(2, regions.grid.cells).index_add_(
            1, numbers, torch.stack([cover, torch.ones_like(cover)])
        )
        on_object = (sums / cells).double()
        part, area = float((values * on_object).sum() / values.sum()), float(on_object.mean())
        said: Values = {"name": facts.names[number], "part": part, "rest": 1 - part, "area": area}
        evidence = Evidence("regions", facts.selection([regions.step], number), "g2r", number)
        if part > area:
            yield Finding("parts", "object", "fine", said, evidence)
        else:
            yield Finding("parts", "background", "fault", said, evidence, "mask it")


SENTENCES = {
    "object": "What you marked on {name} is used: {part:.0%} of the effect of its parts comes from there, where it is "
    "{area:.0%} of the reference.",
    "background": "Mostly the rest of {name} is used: {rest:.0%} of the effect of its parts comes from outside of what "
    "you marked, which is {area:.0%} of the reference.",
}
RULE = Rule("parts", find, SENTENCES)
