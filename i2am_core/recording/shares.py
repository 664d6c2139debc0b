"""Who shares the attention with references, where all compete in one softmax: numbers, not maps."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..attention.stacked import Values
from ..attribution import Layer, ShareOwner
from .sums import Holds
from .transfer import to_host


class CallShares(NamedTuple):
    """The ``means [items, 2]`` of one call by owner, whether it counts, and how much: 1 where it has no ``weight``.

    Nothing is computed of it before the end of the run: that would be kernels in every call.
    """

    means: Values
    holds: Holds
    weight: Tensor | None


class Shares:
    """Means over positions ``[items, 2]``, of all and of those in scope, by owner, layer and step."""

    def __init__(self) -> None:
        self._calls: defaultdict[tuple[Layer, int], list[CallShares]] = defaultdict(list)

    def add(self, layer: Layer, step: int, means: Values, holds: Holds, weight: Tensor | None = None) -> None:
        """Of one call. Where its verdict does not hold it does not count, which nobody waits for.

        ``weight [items, 2]`` is how much of the picture the call makes, which ``means`` are times already; without it
        they are of all of the picture.
        """
        self._calls[layer, step].append(CallShares(means, holds, weight))

    def forget(self, layers: Collection[str]) -> None:
        """Give up what was recorded of the layers of these names."""
        for key in [key for key in self._calls if key[0].name in layers]:
            del self._calls[key]

    def freeze(self, layers: Sequence[Layer], steps: int) -> dict[ShareOwner, Tensor]:
        """By owner ``[items, steps, layers, 2]`` (float32), weighted means over the calls of a step; NaN of none.

        Waits for the device once.
        """
        numbers = {layer: number for number, layer in enumerate(layers)}
        known = {(numbers[layer], step): calls for (layer, step), calls in self._calls.items() if layer in numbers}
        owned = [(owner, key, call) for key, calls in known.items() for call in calls for owner in call.means]
        if not owned:
            return {}
        places = [(owner, key) for owner, key, _ in owned]
        number_of = {place: number for number, place in enumerate(dict.fromkeys(places))}
        of_place = torch.tensor([number_of[place] for place in places])
        sums = _weighted([(owner, call) for owner, _, call in owned])
        total, weight = (x.new_zeros(len(number_of), *x.shape[1:]).index_add_(0, of_place, x) for x in sums)
        result: dict[ShareOwner, Tensor] = {}
        for (owner, (layer, step)), mean in zip(number_of, (total / weight).unbind(), strict=True):
            empty = torch.full((mean.shape[0], steps, len(layers), 2), torch.nan)
            result.setdefault(owner, empty)[:, step, layer] = mean
        return result


def _weighted(owned: Sequence[tuple[ShareOwner, CallShares]]) -> tuple[Tensor, Tensor]:
    """Of what each owner has in calls the values and the weights, ``[n, items, 2]`` each, on the host.

    They are 0 where a call does not count.
    """
    calls = [call for _, call in owned]
    weights = [call.weight for call in calls if call.weight is not None]
    verdicts = [call.holds for call in calls if isinstance(call.holds, Tensor)]
    on_host = iter(to_host([*(call.means[owner] for owner, call in owned), *weights, *verdicts]))
    values = torch.stack([next(on_host) for _ in calls])
    own = torch.stack([torch.ones_like(values[0]) if call.weight is None else next(on_host) for call in calls])
    holds = torch.tensor([bool(next(on_host) if isinstance(call.holds, Tensor) else call.holds) for call in calls])
    holds = holds[:, None, None]
    return torch.where(holds, values, 0), torch.where(holds, own, 0)
