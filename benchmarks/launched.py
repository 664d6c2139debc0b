"""How often the host waits for the device, and how many kernels it launches, by PyTorch's profiler."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

PLANTED = 7


@dataclass(frozen=True)
class Launched:
    """What some work, or one more step of it, made of both."""

    waits: float
    kernels: float

    @classmethod
    def of(cls, counts: Mapping[str, int]) -> "Launched":
        """By the names of calls into the driver, which CUDA and ROCm call alike."""
        waits = sum(n for name, n in counts.items() if "Synchronize" in name or name in ("cudaMemcpy", "hipMemcpy"))
        return cls(waits, sum(n for name, n in counts.items() if "LaunchKernel" in name))

    @classmethod
    def by(cls, work: Callable[[], object]) -> "Launched":
        """Of work that runs now: CUDA's own events have all that is counted, and recording PyTorch's takes long."""
        with profile(activities=[ProfilerActivity.CUDA]) as profiled:
            work()
        return cls.of({event.key: event.count for event in profiled.key_averages()})

    def each_of(self, steps: int, fewer: "Launched") -> "Launched":
        """What one of the ``steps`` made by which this run is longer than another."""
        return Launched((self.waits - fewer.waits) / steps, (self.kernels - fewer.kernels) / steps)


def planted(device: torch.device) -> str:
    """What is wrong with the counts, by waits and kernels that are planted; nothing where they are counted."""
    values = torch.ones(PLANTED, device=device)
    less = Launched.by(lambda: values.add(1))
    more = Launched.by(lambda: [values[n].add(1).item() for n in range(PLANTED)])
    waits, kernels = more.waits - less.waits, more.kernels - less.kernels
    if waits >= PLANTED and kernels >= PLANTED - 1:
        return ""
    return f"of {PLANTED} waits and {PLANTED - 1} kernels that were planted, {waits} and {kernels} were counted"
