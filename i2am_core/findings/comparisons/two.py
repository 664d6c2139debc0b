"""What comparisons read of two runs, A and B: one picture of each, and how much two pictures of one batch differ.

Two pictures of a batch have the same settings and other noise, as two seeds have. What they differ by is the mean over
all pairs of pictures of A, and of B; where both runs made one picture, it is not known.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Literal, TypeVar

import torch
from torch import Tensor

from ...attribution import Attribution
from ...effect import Owner
from ...errors import Lacking
from ...reading.difference import same_reference
from ..facts import Facts

MOST = 16  # pictures of a batch that are compared with each other

Case = Literal["more", "less", "more, beside seeds", "less, beside seeds", "within seeds", "same"]
Pictures = Mapping[int, Tensor]
"""By item ``[H, W, 3]`` in [0, 1]."""
T = TypeVar("T")


@dataclass(frozen=True)
class Two:
    """Two runs, one ``item`` of each, and what is given of their pictures."""

    a: Attribution
    b: Attribution
    item: int = 0
    pictures_a: Pictures = field(default_factory=dict)
    pictures_b: Pictures = field(default_factory=dict)

    @cached_property
    def facts(self) -> tuple[Facts, Facts]:
        """Those of the item in A and in B."""
        return Facts(self.a, self.item), Facts(self.b, self.item)

    @cached_property
    def measured(self) -> list[tuple[Owner, Owner]]:
        """What was taken away in both runs, as A and as B numbers it. Raises Lacking where nothing was."""
        one, other = self.facts
        pairs = [(owner, self.in_b(owner)) for owner in one.effects.owners]
        pairs = [(x, y) for x, y in pairs if y in other.effects.owners]
        if not pairs:
            raise Lacking("nothing was taken away in both runs")
        return pairs

    @cached_property
    def read(self) -> list[tuple[int, int]]:
        """The references with maps of attention in both runs, as A and as B numbers them. Raises Lacking."""
        one, other = self.facts
        pairs = [(n, same_reference(self.a, self.b, n)) for n in one.read]
        pairs = [(x, y) for x, y in pairs if y in other.read]
        if not pairs:
            raise Lacking("no reference has maps of attention in both runs")
        return pairs

    def in_b(self, owner: Owner) -> Owner:
        """What A calls so, as B calls it."""
        return same_reference(self.a, self.b, owner) if isinstance(owner, int) else owner

    @cached_property
    def same_steps(self) -> bool:
        """Whether both runs took the same steps."""
        a, b = (torch.tensor(run.sigmas) for run in (self.a, self.b))
        return a.shape == b.shape and torch.allclose(a, b)

    def steps(self, owner: Owner) -> tuple[list[int], list[int]]:
        """The measured steps that count in A and in B: those of both, where the runs took the same steps."""
        one, other = self.facts
        steps, others = one.steps_of(owner), other.steps_of(self.in_b(owner))
        both = [step for step in steps if step in others] if self.same_steps else []
        return (both, both) if both else (steps, others)

    def seeds(self, number: Callable[[Facts], float], in_b: Callable[[Facts], float]) -> float | None:
        """What a ``number`` differs by in two pictures of one batch; that of B is worked out ``in_b``."""
        return mean_of_pairs(self._of_items(self.a, number), self._of_items(self.b, in_b), lambda x, y: abs(x - y))

    @staticmethod
    def _of_items(run: Attribution, number: Callable[[Facts], float]) -> list[float]:
        return [number(Facts(run, item)) for item in range(min(run.items, MOST))] if run.items > 1 else []


def mean_of_pairs(of_a: Sequence[T], of_b: Sequence[T], differ: Callable[[T, T], float]) -> float | None:
    """The mean over all pairs within A and within B; None where there are none."""
    pairs = [*combinations(of_a, 2), *combinations(of_b, 2)]
    return sum(differ(x, y) for x, y in pairs) / len(pairs) if pairs else None


def case_of(a: float, b: float, seeds: float | None) -> Case:
    """How a number of B is compared with that of A, and with what two pictures of one batch differ by."""
    if a == b:
        return "same"
    if seeds is not None and abs(b - a) <= seeds:
        return "within seeds"
    if seeds is None:
        return "more" if b > a else "less"
    return "more, beside seeds" if b > a else "less, beside seeds"
