"""From the model's device to the host: together, since the host waits for each transfer."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from ..attention.on_device import runs_alone


def to_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same in float32 on the CPU, in one transfer from each device: values, counts and booleans."""
    result = [x.detach().float() for x in tensors]
    by_device: defaultdict[torch.device, list[int]] = defaultdict(list)
    for number, x in enumerate(result):
        if runs_alone(x):
            by_device[x.device].append(number)
    for numbers in by_device.values():
        together = torch.cat([result[number].flatten() for number in numbers]).cpu()
        parts = together.split([result[number].numel() for number in numbers])
        for number, part in zip(numbers, parts, strict=True):
            result[number] = part.view(result[number].shape)
    return result
