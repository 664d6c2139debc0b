"""What of a file is effects: their part of the header, written and read with all checks, and their tensors."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..attribution import Attribution
from ..effect import CUTS, PARTS, ROUTES, Cut, Effects, Owner, RegionEffects, Removal
from .checks import LARGEST, check, check_values, count, grid, mapping, member, number, sequence, text, worded
from .container import Expected, Parts, Shape

FLOOR = "effects/floor"
CHANNELS = 4096  # of a latent: more than any has
SCANNED = 2**20  # removals times owners, since to list what an owner has is to look at all removals
UNREAD = torch.empty(0)  # stands for a tensor of which only the header was read

Choice = TypeVar("Choice", bound=str)
RegionKey = tuple[int, Cut]
PredictionKey = tuple[int, Owner | None]


def map_name(removal: Removal) -> str:
    return f"effects/maps/{removal.step}/{removal.owner}/{removal.route}"


def regions_name(key: RegionKey) -> str:
    return f"effects/regions/{key[0]}/{key[1]}"


def prediction_name(key: PredictionKey) -> str:
    return f"effects/predictions/{key[0]}/{'nothing' if key[1] is None else key[1]}"


def tensors_of(effects: Effects) -> dict[str, Tensor]:
    """All tensors by their names in a file. One that is there under several names is written under each."""
    named = {
        FLOOR: effects.floor,
        **{map_name(removal): x for removal, x in effects.maps.items()},
        **{regions_name(key): x.values for key, x in effects.regions.items()},
        **{prediction_name(key): x for key, x in effects.predictions.items()},
    }
    places: set[int] = set()
    tensors = {}
    for name, x in named.items():
        tensors[name] = x.clone() if x.data_ptr() in places else x
        places.add(x.data_ptr())
    return tensors


def written(effects: Effects) -> dict[str, Any]:
    """Their part of the header."""
    return {
        "removals": [list(removal) for removal in effects.maps],
        "regions": [
            [reference, cut, x.step, x.route, [x.grid.height, x.grid.width]]
            for (reference, cut), x in effects.regions.items()
        ],
        "predictions": [list(key) for key in effects.predictions],
        "unmeasured": dict(effects.unmeasured),
        "evaluations": effects.evaluations,
        "seconds": effects.seconds,
    }


def described(header: Any, a: Attribution) -> Effects:
    """Read their part of the header, of an attribution that is known but for them. All tensors are ``UNREAD``."""
    it = mapping(header, "effects")
    removals = [_removal(x, a) for x in sequence(member(it, "removals", "effects"), "removals")]
    owners = {removal.owner for removal in removals}
    check(len(removals) * len(owners) <= SCANNED, f"effects have {len(removals)} removals of {len(owners)} owners")
    regions = [_regions(x, a) for x in sequence(member(it, "regions", "effects"), "regions")]
    predictions = [_prediction(x, a) for x in sequence(member(it, "predictions", "effects"), "predictions")]
    unmeasured = mapping(member(it, "unmeasured", "effects"), "unmeasured")
    seconds = number(member(it, "seconds", "effects"), "seconds of effects")
    check(seconds >= 0, f"seconds of effects is {worded(seconds)}, where 0 or more is expected")
    effects = Effects(
        dict.fromkeys(removals, UNREAD),
        UNREAD,
        dict(regions),
        dict.fromkeys(predictions, UNREAD),
        {text(what, "what was not measured"): text(why, "why it was not measured") for what, why in unmeasured.items()},
        count(member(it, "evaluations", "effects"), "evaluations of effects", least=0),
        seconds,
    )
    for listed, different in (
        (removals, effects.maps),
        (regions, effects.regions),
        (predictions, effects.predictions),
    ):
        check(len(different) == len(listed), "one effect is there twice")
    return effects


def _removal(value: Any, a: Attribution) -> Removal:
    step, owner, route = sequence(value, "a removal", 3)
    return Removal(_step(step, a), _owner(owner, a), _choice(route, "a removal's route", ROUTES))


def _regions(value: Any, a: Attribution) -> tuple[RegionKey, RegionEffects]:
    """Of a reference that has at least as many rows and columns of tokens, so that no region is empty."""
    reference, cut, step, route, sides = sequence(value, "regions", 5)
    n = _reference(reference, a)
    divided, of_regions = a.references[n].grid, grid(sides, "a grid of regions")
    check(divided is not None, f"there are regions of reference {n}, which has no grid")
    assert divided is not None
    fits = of_regions.frames == 1 and of_regions.height <= divided.height and of_regions.width <= divided.width
    check(fits, f"a grid of {divided} tokens is not divided into {of_regions} regions")
    key = n, _choice(cut, "a cut", CUTS)
    return key, RegionEffects(_step(step, a), _choice(route, "a route of regions", ROUTES), of_regions, UNREAD)


def _prediction(value: Any, a: Attribution) -> PredictionKey:
    step, owner = sequence(value, "a prediction", 2)
    return _step(step, a), None if owner is None else _owner(owner, a)


def _step(value: Any, a: Attribution) -> int:
    return count(value, "a step of an effect", 0, a.steps - 1)


def _owner(value: Any, a: Attribution) -> Owner:
    return _choice(value, "an owner", PARTS) if isinstance(value, str) else _reference(value, a)


def _reference(value: Any, a: Attribution) -> int:
    check(len(a.references) > 0, "an effect is of a reference, where there is none")
    return count(value, "an owner", 0, len(a.references) - 1)


def _choice(value: Any, what: str, known: tuple[Choice, ...]) -> Choice:
    chosen = [x for x in known if isinstance(value, str) and x == value]
    check(len(chosen) == 1, f"{what} is {worded(value)}, where one of {', '.join(known)} is expected")
    return chosen[0]


def expected(a: Attribution, effects: Effects, parts: Parts) -> Expected:
    """All tensors that there must be of these effects, with types and shapes."""
    shape = (a.items, a.grid.cells)
    for name in (FLOOR, *map(map_name, effects.maps)):
        yield name, (("F32",), shape)
    for key, regions in effects.regions.items():
        yield regions_name(key), (("F32",), (a.items, regions.grid.cells, a.grid.cells))
    names = [prediction_name(key) for key in effects.predictions]
    shapes = [parts[name][1] for name in names if name in parts]
    for name in names:
        yield name, (("F32", "F16"), _latent(a, shapes[0]) if shapes else ())


def _latent(a: Attribution, first: Shape) -> Shape:
    """The shape of every prediction, where this is that of the first: a picture may be a video of one frame."""
    channels = first[1] if len(first) > 1 else 0
    check(1 <= channels <= CHANNELS, f"a prediction has shape {first}, where 1 to {CHANNELS} channels are expected")
    frames = (a.grid.frames,) if a.grid.frames > 1 or len(first) == 5 else ()
    return a.items, channels, *frames, a.grid.height, a.grid.width


def built(effects: Effects, tensors: Mapping[str, Tensor]) -> Effects:
    """The effects that the header describes, of tensors whose types and shapes fit. Raises ValueError for values."""

    def read(name: str, least: float = 0) -> Tensor:
        return check_values(name, tensors[name], least, LARGEST)

    return dataclasses.replace(
        effects,
        maps={removal: read(map_name(removal)) for removal in effects.maps},
        floor=read(FLOOR),
        regions={key: dataclasses.replace(x, values=read(regions_name(key))) for key, x in effects.regions.items()},
        predictions={key: read(prediction_name(key), -LARGEST) for key in effects.predictions},
    )
