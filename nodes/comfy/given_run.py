"""A run that has ended, for saying what it was given."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from comfy.model_base import BaseModel
from torch import Tensor

Conditioning = Mapping[str, Any]

MEASURE = "Measure it with I2AM Effect, with `without` connected to the same conditioning made without it"


@dataclass(frozen=True)
class GivenRun:
    """A run that has ended, of a ``branch`` with these ``conditionings``.

    ``noise [items, C, (frames,) h, w]``, ``latent`` and ``mask`` are what the sampler was called with; ``captured`` are
    the mechanisms that read attention, ``mechanism`` the one that was chosen, ``has_regions`` whether the canvas was
    marked, ``measured`` whether Effect has compared the run with another conditioning, ``pack_functions`` the
    functions that packs have put into it.
    """

    model: BaseModel
    branch: str
    conditionings: Sequence[Conditioning]
    noise: Tensor
    latent: Tensor | None
    mask: Tensor | None
    captured: frozenset[str]
    mechanism: str = "auto"
    has_regions: bool = False
    measured: bool = False
    pack_functions: tuple[str, ...] = ()

    @property
    def measure(self) -> str:
        """What to do where only Effect can tell; "" where it has."""
        return "" if self.measured else MEASURE


def in_words(numbers: Iterable[int]) -> str:
    """Numbers, neighbours as a range, such as "1 to 4, 9"."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ", ".join(str(low) if low == high else f"{low} to {high}" for low, high in ranges)
