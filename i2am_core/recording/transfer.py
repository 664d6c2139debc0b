"""From the model's device to the host: together, since the host waits for each transfer."""

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..attention.on_device import runs_alone
from ..attention.stacked import Part


def to_host(values: Sequence[Tensor | Part]) -> list[Tensor]:
    """The same in float32 on the CPU, in one transfer from each device: maps, counts and booleans."""
    return sent_to_host(values)()


def sent_to_host(values: Sequence[Tensor | Part]) -> Callable[[], list[Tensor]]:
    """Send them, and go on: what is returned waits until all of them are there, and is called once.

    A GPU then has work while the host does its own. What was sent takes no memory on the device any more. What is given
    several times, and what others are parts of, is sent once.
    """
    wholes = [value.whole if isinstance(value, Part) else value for value in values]
    items = [value.items if isinstance(value, Part) else None for value in values]
    once = {id(whole): whole for whole in wholes}
    number_of = {identity: number for number, identity in enumerate(once)}
    numbers = [number_of[id(whole)] for whole in wholes]
    sent = _sent_once(list(once.values()))

    def arrived() -> list[Tensor]:
        on_host = sent()
        return [on_host[n] if own is None else on_host[n][own] for n, own in zip(numbers, items, strict=True)]

    return arrived


def _sent_once(tensors: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
    try:
        return _sent_together(tensors)
    except torch.cuda.OutOfMemoryError:
        pass  # and what the attempt has is free again
    on_host = [x.detach().cpu().float() for x in tensors]  # one by one they take no more than they have
    return lambda: on_host


def _sent_together(tensors: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
    result: list[Tensor | None] = [None if runs_alone(x) else x.detach().float() for x in tensors]
    shapes = [x.shape if x.ndim else () for x in tensors]  # of counts none is made
    sizes = [x.numel() for x in tensors]
    by_device: defaultdict[torch.device, defaultdict[torch.dtype, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, x in enumerate(tensors):
        if runs_alone(x):
            by_device[x.device][x.dtype].append(number)
    arrivals = []
    for by_dtype in by_device.values():
        parts = [torch.cat([tensors[n].detach().flatten() for n in numbers]).float() for numbers in by_dtype.values()]
        together = parts[0] if len(parts) == 1 else torch.cat(parts)
        arrivals.append(([n for numbers in by_dtype.values() for n in numbers], _sent(together)))

    def arrived() -> list[Tensor]:
        for numbers, sent in arrivals:
            values = sent().split([sizes[n] for n in numbers])
            for number, part in zip(numbers, values, strict=True):
                result[number] = part.view(shapes[number])
        return [x for x in result if x is not None]

    return arrived


def _sent(x: Tensor) -> Callable[[], Tensor]:
    """Begin to copy values to the host; what is returned waits for the end."""
    if x.device.type != "cuda":
        return x.cpu
    try:
        copy = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
    except RuntimeError:  # the system has no more memory that stays in its place
        return x.cpu
    copy.copy_(x, non_blocking=True)
    done = torch.cuda.Event()
    done.record(torch.cuda.current_stream(x.device))

    def arrived() -> Tensor:
        done.synchronize()
        return copy

    return arrived
