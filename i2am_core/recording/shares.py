"""Who shares the attention with references, where all compete in one softmax: numbers, not maps."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from ..attribution import Layer, ShareOwner
from .sums import Holds


class Shares:
    """Means over positions ``[items, 2]``, of all and of those in scope, by owner, layer and step."""

    def __init__(self) -> None:
        self._values: defaultdict[tuple[ShareOwner, Layer, int], list[Tensor]] = defaultdict(list)

    def add(
        self, layer: Layer, step: int, means: Mapping[ShareOwner, Tensor], holds: Holds, weight: Tensor | None = None
    ) -> None:
        """Of one call. Where its verdict does not hold it does not count, which nobody waits for.

        ``weight [items, 2]`` is how much of the picture the call makes, which ``means`` are times already; without it
        they are of all of the picture.
        """
        for owner, values in means.items():
            pair = torch.stack([values, torch.ones_like(values) if weight is None else weight.to(values)])
            self._values[owner, layer, step].append(
                pair if isinstance(holds, bool) else torch.where(holds.to(pair.device), pair, 0)
            )

    def forget(self, layers: Collection[str]) -> None:
        """Give up what was recorded of the layers of these names."""
        for key in [key for key in self._values if key[1].name in layers]:
            del self._values[key]

    def freeze(self, layers: Sequence[Layer], steps: int) -> dict[ShareOwner, Tensor]:
        """By owner ``[items, steps, layers, 2]`` (float32), weighted means over the calls of a step; NaN of none."""
        numbers = {layer: number for number, layer in enumerate(layers)}
        means = {key: _mean(values) for key, values in self._values.items() if key[1] in numbers}
        if not means:
            return {}
        device = next(iter(means.values())).device
        on_cpu = torch.stack([values.to(device) for values in means.values()]).cpu()  # one transfer from each device
        result: dict[ShareOwner, Tensor] = {}
        for (owner, layer, step), values in zip(means, on_cpu, strict=True):
            empty = torch.full((values.shape[0], steps, len(layers), 2), torch.nan)
            result.setdefault(owner, empty)[:, step, numbers[layer]] = values
        return result


def _mean(values: Sequence[Tensor]) -> Tensor:
    """The sum of what was added over the sum of its weights, on the device of the first."""
    total, weight = torch.stack([x.to(values[0].device) for x in values]).sum(0)
    return total / weight
