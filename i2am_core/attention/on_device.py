"""Devices that run on their own, as GPUs do: to look at a value there is to wait for all that was launched before.

So nothing that happens with every attention call looks at values, and what lies on the host is brought there once.
"""

import functools

import torch
from torch import Tensor

MOST = 64  # that are remembered: the last ones


def runs_alone(x: Tensor) -> bool:
    """Whether a tensor is on such a device."""
    return x.device.type != "cpu"


def brought(x: Tensor, device: torch.device) -> Tensor:
    """The same on a device: indices, masks and weights, which are the same in all layers and steps of a run.

    What was brought before, by its values, is there already. Nobody may write into it.
    """
    if x.device == device or device.type == "cpu" or runs_alone(x) or x.numel() == 0:
        return x.to(device)
    values = x.detach().contiguous().flatten().view(torch.uint8)
    return _on_device(values.numpy().tobytes(), tuple(x.shape), x.dtype, device)


@functools.lru_cache(maxsize=MOST)
def _on_device(values: bytes, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.frombuffer(bytearray(values), dtype=dtype).view(shape).to(device)


def indexing(index: slice | Tensor, device: torch.device) -> slice | Tensor:
    """An index of a tensor on that device."""
    return index if isinstance(index, slice) else brought(index, device)
