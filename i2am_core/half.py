"""Maps in half precision with one scale a map: half the memory, and each value rounded by 0.05 % at most.

Half precision alone would lose the maps of the paper: most of their values are smaller than its smallest normal number.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

ROUNDING = 2.0**-11
"""How far a value may be from what it was, relative to it. Values below 2e-9 of the largest of their map lose more."""
LARGEST = 2.0**15
"""What the largest value of a map becomes: so the smaller ones stay in the range in which precision is full."""

SMALLEST_SCALE = 2.0**-126
"""Smaller numbers are themselves rounded: what is divided by them could become larger than ``LARGEST``."""


@dataclass(frozen=True, eq=False)
class Half:
    """Maps ``[..., cells]`` at least 0: ``values`` (float16, up to ``LARGEST``) times ``scale [..., 1]`` (float32)."""

    values: Tensor
    scale: Tensor

    @classmethod
    def of(cls, maps: Tensor) -> "Half":
        """Maps ``[..., cells]`` rounded to half precision."""
        scale = (maps.amax(-1, keepdim=True) / LARGEST).clamp(min=SMALLEST_SCALE)
        return cls((maps / scale).half(), scale.float())

    def float(self) -> Tensor:
        """The maps in float32."""
        return self.values.float() * self.scale

    def __getitem__(self, index: Any) -> "Half":
        """Some of the maps: an index of axes before the last."""
        return Half(self.values[index], self.scale[index])

    def __setitem__(self, index: Any, maps: Tensor) -> None:
        """Put other maps in the place of some."""
        rounded = Half.of(maps)
        self.values[index], self.scale[index] = rounded.values, rounded.scale

    def div_(self, divisor: Tensor) -> "Half":
        """Divide the maps in place: ``divisor`` broadcasts to ``[..., 1]``."""
        self.scale.div_(divisor)
        return self

    @property
    def shape(self) -> torch.Size:
        return self.values.shape

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + self.scale.nbytes


Precise = Tensor | Half
"""Maps in full precision, or in half precision with a scale."""


def full(maps: Precise) -> Tensor:
    """The maps in full precision."""
    return maps.float() if isinstance(maps, Half) else maps
