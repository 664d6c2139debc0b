"""Some pictures of a batch as an attribution of their own: what a latent is of that was taken out of a batch."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from ..attribution import Attribution, LayerMaps
from ..effect import Effects
from ..half import Precise

Key = TypeVar("Key")


def of_items(attribution: Attribution, items: Sequence[int]) -> Attribution:
    """The attribution of these items alone, in this order; one may be there several times, as a repeated latent has it.

    Item n of the result is ``items[n]`` of the run, with exactly its maps, mask, effects and picture. What is of the
    whole run, such as its counts of calls, stays. Raises UnknownItem.
    """
    for item in items:
        attribution.check_item(item)
    chosen = torch.tensor(list(items), dtype=torch.long)
    mask, pictures = attribution.denoise_mask, attribution.pictures
    others = {name: x for name, x in pictures.items() if not name.startswith("generated ")}
    generated = {
        f"generated {n}": x for n, item in enumerate(items) if (x := pictures.get(f"generated {item}")) is not None
    }
    return dataclasses.replace(
        attribution,
        items=len(items),
        entries={place: _entry(entry, chosen) for place, entry in attribution.entries.items()},
        denoise_mask=None if mask is None else mask.expand(attribution.items, -1, -1)[chosen],
        pictures=generated | others,
        shares={owner: values[chosen] for owner, values in attribution.shares.items()},
        effects=None if attribution.effects is None else _effects(attribution.effects, chosen),
        began=tuple(attribution.began[item] for item in items) if attribution.began else (),
        ended=tuple(attribution.ended[item] for item in items) if attribution.ended else (),
    )


def _entry(entry: LayerMaps, items: Tensor) -> LayerMaps:
    return dataclasses.replace(
        entry,
        maps=_precise(entry.maps, items),
        head_maps=_precise(entry.head_maps, items),
        pairs=_tensors(entry.pairs, items),
    )


def _effects(effects: Effects, items: Tensor) -> Effects:
    return dataclasses.replace(
        effects,
        maps=_tensors(effects.maps, items),
        floor=effects.floor[items],
        regions={key: dataclasses.replace(x, values=x.values[items]) for key, x in effects.regions.items()},
        predictions=_tensors(effects.predictions, items),
    )


def _precise(maps: Mapping[Key, Precise], items: Tensor) -> dict[Key, Precise]:
    return {key: x[items] for key, x in maps.items()}


def _tensors(values: Mapping[Key, Tensor], items: Tensor) -> dict[Key, Tensor]:
    return {key: x[items] for key, x in values.items()}
