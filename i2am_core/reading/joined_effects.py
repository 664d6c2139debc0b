"""What was measured in two runs, as measured in one: the steps of the second come after those of the first."""

import dataclasses

import torch
from torch import Tensor

from ..attribution import Attribution
from ..effect import Cut, Effects, Owner, RegionEffects, Removal, owner_names
from .joined_numbers import Numbers

ALONE = "effects were measured in the {} run alone"
OF_REFERENCES = ("", "regions of ")  # what may come before the name of a reference that something is of
REGIONS = "effects of regions are those of the first run, where both runs measured them"


def joined_effects(first: Attribution, second: Attribution, numbers: Numbers) -> tuple[Effects | None, list[str]]:
    """The effects of both, None where neither has any; and what a person should know of them."""
    one, notes = first.effects, []
    other = None if second.effects is None else _renumbered(second, second.effects, numbers, first.steps)
    if one is None or other is None:
        if (either := one or other) is not None:
            notes.append(ALONE.format("second" if one is None else "first"))
        return either, notes
    if one.regions.keys() & other.regions.keys():
        notes.append(REGIONS)
    return (
        Effects(
            maps={**one.maps, **other.maps},
            floor=torch.maximum(one.floor, other.floor),
            regions={**other.regions, **one.regions},
            predictions={**one.predictions, **other.predictions},
            unmeasured=_unmeasured(one, other),
            evaluations=one.evaluations + other.evaluations,
            seconds=one.seconds + other.seconds,
        ),
        notes,
    )


def _renumbered(run: Attribution, effects: Effects, numbers: Numbers, shift: int) -> Effects:
    """The effects with the steps and references of both runs together."""

    def renumbered(owner: Owner) -> Owner:
        return numbers.references[owner] if isinstance(owner, int) else owner

    regions: dict[tuple[int, Cut], RegionEffects] = {
        (numbers.references[r], cut): dataclasses.replace(x, step=x.step + shift)
        for (r, cut), x in effects.regions.items()
    }
    predictions: dict[tuple[int, Owner | None], Tensor] = {
        (step + shift, None if owner is None else renumbered(owner)): x
        for (step, owner), x in effects.predictions.items()
    }
    return dataclasses.replace(
        effects,
        maps={Removal(x.step + shift, renumbered(x.owner), x.route): values for x, values in effects.maps.items()},
        regions=regions,
        predictions=predictions,
        unmeasured={_renamed(what, run, numbers): why for what, why in effects.unmeasured.items()},
    )


def _renamed(what: str, run: Attribution, numbers: Numbers) -> str:
    """What was not measured, which may be of a reference with its number: with its number in both runs together."""
    names, joined = run.owner_names, owner_names(reference.name for reference in numbers.joined_references)
    for number in range(len(run.references)):
        before, name, after = what.partition(names[number])
        if name and before in OF_REFERENCES:
            return f"{before}{joined[numbers.references[number]]}{after}"
    return what


def _unmeasured(one: Effects, other: Effects) -> dict[str, str]:
    """Of each thing the reasons; where one run alone did not measure it, with which it was."""
    reasons = {}
    for what in dict.fromkeys((*one.unmeasured, *other.unmeasured)):
        first, second = one.unmeasured.get(what), other.unmeasured.get(what)
        if first == second:
            reasons[what] = str(first)
        else:
            named = ((first, "first"), (second, "second"))
            reasons[what] = "; ".join(f"{why} (in the {run} run)" for why, run in named if why)
    return reasons
