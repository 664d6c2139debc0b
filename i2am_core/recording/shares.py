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

    step: int
    means: Values
    holds: Holds
    weight: Tensor | None


class Shares:
    """Means over positions ``[items, 2]``, of all and of those in scope, by owner, layer and step."""

    def __init__(self) -> None:
        self._calls: defaultdict[Layer, list[CallShares]] = defaultdict(list)

    def add(self, layer: Layer, step: int, means: Values, holds: Holds, weight: Tensor | None = None) -> None:
        """Of one call. Where its verdict does not hold it does not count, which nobody waits for.

        ``weight [items, 2]`` is how much of the picture the call makes, which ``means`` are times already; without it
        they are of all of the picture.
        """
        self._calls[layer].append(CallShares(step, means, holds, weight))

    def forget(self, layers: Collection[str]) -> None:
        """Give up what was recorded of the layers of these names."""
        for layer in [layer for layer in self._calls if layer.name in layers]:
            del self._calls[layer]

    def freeze(self, layers: Sequence[Layer], steps: int) -> dict[ShareOwner, Tensor]:
        """By owner ``[items, steps, layers, 2]`` (float32), weighted means over the calls of a step; NaN of none.

        Waits for the device once.
        """
        known = [(number, call) for number, layer in enumerate(layers) for call in self._calls.get(layer, ())]
        owned = [(owner, number, call) for number, call in known for owner in call.means]
        if not owned:
            return {}
        owners = list(dict.fromkeys(owner for owner, *_ in owned))
        values, weights = _weighted([(owner, call) for owner, _, call in owned])
        at = torch.tensor([(owners.index(owner), call.step, number) for owner, number, call in owned]).unbind(1)
        sums = values.new_zeros(2, len(owners), steps, len(layers), *values.shape[1:])
        total, weight = (sums[n].index_put_(at, x, accumulate=True) for n, x in enumerate((values, weights)))
        means = (total / weight).permute(0, 3, 1, 2, 4).contiguous()  # 0 / 0 of none
        return dict(zip(owners, means, strict=True))


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
