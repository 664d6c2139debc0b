"""What of a run is kept apart: the finest detail whose sums fit the budget.

Where every head in every step does not fit, steps and heads are kept apart, each as means over the other: all levels
stay exact, and only a single head in a single step is lost. Before that, closed steps are stored in half precision.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from ..attribution import HeadDetail, Layer

OPEN_STEPS = 2  # steps that may still get calls: second-order samplers evaluate one step ahead and return
FEWEST_BINS = 4  # groups of steps, before heads are merged: fewer say nothing about time

Key = tuple[int, Layer]
"""The number of a reference, and a layer."""


@dataclass(frozen=True)
class Resolution:
    """What sums over a run keep apart: time ``bins``, ``heads``, and ``frames`` of videos; else they are of means.

    Closed steps are in ``half`` precision, or ``half_open`` also those that may still get calls. Of these there are
    ``open_steps``: with fewer than ``OPEN_STEPS``, what a sampler returns to is only about right.
    """

    bins: int
    heads: bool
    frames: bool = True
    half: bool = False
    half_open: bool = False
    open_steps: int = OPEN_STEPS

    @property
    def stays(self) -> bool:
        """Whether sums of closed steps stay on the model's device: one for all steps, which takes no more than a step.

        So no step has to come to the host. A device adds it up while it does the rest, and the host would not.
        """
        return self.bins == 1 and not self.half and not self.half_open

    @property
    def closed(self) -> "Resolution":
        """The same, for closed steps alone: of these it does not matter how many are open, and in what precision."""
        return replace(self, half_open=False, open_steps=OPEN_STEPS)

    @property
    def bytes_a_value(self) -> int:
        """What the sums take for each value of a step."""
        return self.bins * (2 if self.half else 4) + self.open_steps * (2 if self.half_open else 4)


@dataclass(frozen=True)
class Detail:
    """Sums of maps ``by_step``; and ``by_head``, where these do not keep heads apart."""

    heads: HeadDetail
    by_step: Resolution
    by_head: Resolution | None = None

    @property
    def resolutions(self) -> tuple[Resolution, ...]:
        return (self.by_step,) if self.by_head is None else (self.by_step, self.by_head)


@dataclass(frozen=True)
class Extent:
    """How large the maps of one layer and reference are, by the maps' keys: their cells, and the frames of these."""

    items: int
    heads: int
    cells: Mapping[str, int]
    frames: Mapping[str, int]

    def values(self, resolution: Resolution) -> int:
        """How many values one step has."""
        maps = self.items * (self.heads if resolution.heads else 1)
        return maps * (self._cells if resolution.frames else self._cells_of_a_frame)

    @cached_property
    def _cells(self) -> int:
        return sum(self.cells.values())

    @cached_property
    def _cells_of_a_frame(self) -> int:
        return sum(cells // self.frames[key] for key, cells in self.cells.items())


def details(steps: int) -> Iterator[Detail]:
    """From the finest to the coarsest, for a run of so many steps."""
    every_step = Resolution(steps, heads=False)
    joint = replace(every_step, heads=True)
    yield Detail("in each step", joint)
    yield Detail("in each step", replace(joint, half=True))

    every_head = Resolution(1, heads=True)
    yield Detail("over steps", every_step, every_head)
    every_head = replace(every_head, open_steps=1)
    yield Detail("over steps", every_step, every_head)
    every_step = replace(every_step, half=True)
    yield Detail("over steps", every_step, every_head)
    half_heads = replace(every_head, half=True, half_open=True)
    yield Detail("over steps", every_step, half_heads)

    yield Detail("over steps and frames", every_step, replace(every_head, frames=False))
    counts = list(_halvings(steps))
    for bins in counts:
        if bins >= min(steps, FEWEST_BINS):
            yield Detail("over steps and frames", replace(every_step, bins=bins), replace(half_heads, frames=False))
    for bins in counts:
        yield Detail("merged", replace(every_step, bins=bins))


def _halvings(count: int) -> Iterator[int]:
    """How many there are when neighbours are joined two by two, again and again."""
    yield count
    while count > 1:
        count = -(-count // 2)
        yield count
