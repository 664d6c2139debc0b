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
    numbers: dict[int, int] = {}  # of what is sent, by its identity
    wholes: list[Tensor] = []
    places = []
    for value in values:
        whole, items = (value.whole, value.items) if isinstance(value, Part) else (value, None)
        if id(whole) not in numbers:
            numbers[id(whole)] = len(wholes)
            wholes.append(whole)
        places.append((numbers[id(whole)], items))
    sent = _sent_once(wholes)

    def arrived() -> list[Tensor]:
        on_host = sent()
        return [on_host[number] if items is None else on_host[number][items] for number, items in places]

    return arrived


def _sent_once(tensors: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
    result: list[Tensor | None] = [None if runs_alone(x) else x.detach().float() for x in tensors]
    shapes = [x.shape for x in tensors]
    by_device: defaultdict[torch.device, defaultdict[torch.dtype, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, x in enumerate(tensors):
        if runs_alone(x):
            by_device[x.device][x.dtype].append(number)
    arrivals = []
    for by_dtype in by_device.values():
        parts = [torch.cat([tensors[n].detach().flatten() for n in numbers]).float() for numbers in by_dtype.values()]
        arrivals.append(([n for numbers in by_dtype.values() for n in numbers], _sent(torch.cat(parts))))

    def arrived() -> list[Tensor]:
        for numbers, sent in arrivals:
            values = sent().split([shapes[n].numel() for n in numbers])
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
