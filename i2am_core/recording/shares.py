"""Who shares the attention with references, where all compete in one softmax: numbers, not maps."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..attention.stacked import Part
from ..attribution import Layer, ShareOwner
from .sums import Holds
from .transfer import to_host


class CallShares(NamedTuple):
    """The ``values [items, 2]`` of one call, whether it counts, and how much: 1 where it has no ``weight``.

    Nothing is computed of it before the end of the run: that would be kernels in every call.
    """

    values: Tensor | Part
    holds: Holds
    weight: Tensor | None


class Shares:
    """Means over positions ``[items, 2]``, of all and of those in scope, by owner, layer and step."""

    def __init__(self) -> None:
        self._calls: defaultdict[tuple[ShareOwner, Layer, int], list[CallShares]] = defaultdict(list)

    def add(
        self,
        layer: Layer,
        step: int,
        means: Mapping[ShareOwner, Tensor | Part],
        holds: Holds,
        weight: Tensor | None = None,
    ) -> None:
        """Of one call. Where its verdict does not hold it does not count, which nobody waits for.

        ``weight [items, 2]`` is how much of the picture the call makes, which ``means`` are times already; without it
        they are of all of the picture.
        """
        for owner, values in means.items():
            self._calls[owner, layer, step].append(CallShares(values, holds, weight))

    def forget(self, layers: Collection[str]) -> None:
        """Give up what was recorded of the layers of these names."""
        for key in [key for key in self._calls if key[1].name in layers]:
            del self._calls[key]

    def freeze(self, layers: Sequence[Layer], steps: int) -> dict[ShareOwner, Tensor]:
        """By owner ``[items, steps, layers, 2]`` (float32), weighted means over the calls of a step; NaN of none.

        Waits for the device once.
        """
        numbers = {layer: number for number, layer in enumerate(layers)}
        known = {key: calls for key, calls in self._calls.items() if key[1] in numbers}
        if not known:
            return {}
        of_key = torch.tensor([number for number, calls in enumerate(known.values()) for _ in calls])
        sums = _weighted([call for calls in known.values() for call in calls])
        total, weight = (x.new_zeros(len(known), *x.shape[1:]).index_add_(0, of_key, x) for x in sums)
        result: dict[ShareOwner, Tensor] = {}
        for (owner, layer, step), mean in zip(known, (total / weight).unbind(), strict=True):
            empty = torch.full((mean.shape[0], steps, len(layers), 2), torch.nan)
            result.setdefault(owner, empty)[:, step, numbers[layer]] = mean
        return result


def _weighted(calls: Sequence[CallShares]) -> tuple[Tensor, Tensor]:
    """Of calls the values and the weights, ``[calls, items, 2]`` each, on the host: 0 of one that does not count."""
    weights = [call.weight for call in calls if call.weight is not None]
    verdicts = [call.holds for call in calls if isinstance(call.holds, Tensor)]
    on_host = iter(to_host([*(call.values for call in calls), *weights, *verdicts]))
    values = torch.stack([next(on_host) for _ in calls])
    own = torch.stack([torch.ones_like(values[0]) if call.weight is None else next(on_host) for call in calls])
    holds = torch.tensor([bool(next(on_host) if isinstance(call.holds, Tensor) else call.holds) for call in calls])
    holds = holds[:, None, None]
    return torch.where(holds, values, 0), torch.where(holds, own, 0)
