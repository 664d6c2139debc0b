"""The map so far, while a run goes on: the mean over the steps that have been."""

from collections import defaultdict
from dataclasses import dataclass, field

from torch import Tensor

from ..kinds import Normalization
from ..recording.detail import OPEN_STEPS
from ..recording.so_far import NORMALIZATIONS, OnPlane, Plane, Steps
from .aggregate import clamped, resampled
from .metrics import is_flat


@dataclass(frozen=True)
class MapSoFar:
    """A map ``[h, w]``, at least 0."""

    normalization: Normalization
    values: Tensor


@dataclass
class _Sum:
    """Over steps, of the mean over the layers of each: by grid the part that the layers on it have."""

    steps: int = 0
    parts: dict[Plane, Tensor] = field(default_factory=dict)

    def plus(self, layers: dict[Plane, OnPlane]) -> "_Sum":
        """With one more step, unless it has no layer."""
        count = sum(one.layers for one in layers.values())
        if not count:
            return self
        parts = {plane: one.total / count for plane, one in layers.items()}
        more = {plane: parts[plane] + self.parts[plane] for plane in parts.keys() & self.parts.keys()}
        return _Sum(self.steps + 1, self.parts | parts | more)

    def mean(self) -> Tensor:
        """``[2, h, w]`` on the largest grid."""
        height, width = max(self.parts, key=lambda plane: plane[0] * plane[1])
        total = sum(resampled(part, height, width) for part in self.parts.values())
        assert isinstance(total, Tensor)
        return clamped(total / self.steps)


class SoFar:
    """From where in the first picture each reference was looked at so far, and how much.

    Each step weighs the same, and so does each layer in it. Where every step has the same layers, that is the map of
    level 'unified' that a run has which ends there. What was recorded and is taken back later stays.
    """

    def __init__(self) -> None:
        self._sums: defaultdict[int, _Sum] = defaultdict(_Sum)  # by reference, of the steps that have ended
        self._ended: set[int] = set()
        self._open: Steps = {}
        self.step = -1  # the last that has any map

    def update(self, steps: Steps) -> None:
        """Take what steps have by now, in the place of what they had. The last ones may get more."""
        self._open |= {step: references for step, references in steps.items() if step not in self._ended}
        self.step = max(self.step, *steps, -1)
        while len(self._open) > OPEN_STEPS:
            first = min(self._open)
            self._ended.add(first)
            for reference, layers in self._open.pop(first).items():
                self._sums[reference] = self._sums[reference].plus(layers)

    def maps(self) -> dict[int, MapSoFar]:
        """Of each reference by its number the map on the largest grid.

        It is of the share, unless that is the same everywhere, as where nothing competes with a reference: then it is
        the paper's.
        """
        sums = dict(self._sums)
        for references in self._open.values():
            for reference, layers in references.items():
                sums[reference] = sums.get(reference, _Sum()).plus(layers)
        return {reference: _first(one.mean()) for reference, one in sorted(sums.items()) if one.steps}


def _first(both: Tensor) -> MapSoFar:
    """Of maps in both normalizations the one to show."""
    number = int(is_flat(both[0]).all())
    return MapSoFar(NORMALIZATIONS[number], both[number])
