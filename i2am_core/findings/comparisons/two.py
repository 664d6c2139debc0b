"""What comparisons read of two runs, A and B: one picture of each, and how much two pictures of one batch differ.

Two pictures of a batch have the same settings and other noise, as two seeds have. What they differ by is known from the
first pictures of A and of B that have the same mask; where each run made one picture, it is not known.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import TypeVar

import torch
from torch import Tensor

from ...attribution import Attribution
from ...effect import Owner
from ...errors import Lacking
from ...reading.difference import counterpart, took_same_steps
from ..facts import NO_EFFECT, Facts
from ..finding import Values

MOST = 16  # pictures of a batch that are compared with each other

Pictures = Mapping[int, Tensor]
"""By item ``[H, W, 3]`` in [0, 1], of a video ``[frames, H, W, 3]``."""
Number = Callable[[Facts], float | None]
"""What is compared, of one picture; None where it has no such number."""
T = TypeVar("T")


@dataclass(frozen=True)
class TwoRuns:
    """Two runs, one ``item`` of both, and what is given of their pictures."""

    a: Attribution
    b: Attribution
    item: int = 0
    pictures: tuple[Pictures, Pictures] = ({}, {})

    @cached_property
    def facts(self) -> tuple[Facts, Facts]:
        """Those of the item in A and in B."""
        return self._facts_of(self.a, self.item), self._facts_of(self.b, self.item)

    @cached_property
    def measured(self) -> list[tuple[Owner, Owner]]:
        """What was taken away in both runs, as A and as B numbers it. Raises Lacking where nothing was."""
        a, b = self.facts
        lacking = [name for name, facts in (("A", a), ("B", b)) if not facts.has_effects_of_steps]
        if lacking:
            raise Lacking(f"{NO_EFFECT} in {' and in '.join(lacking)}")
        of_both = [(owner, self.in_b(owner)) for owner in a.effects.owners]
        pairs = [(x, y) for x, y in of_both if y is not None and y in b.effects.owners]
        if not pairs:
            raise Lacking("nothing was taken away in both runs")
        return pairs

    @cached_property
    def read(self) -> list[tuple[int, int]]:
        """The references with maps of attention in both runs, as A and as B numbers them. Raises Lacking."""
        a, b = self.facts
        of_both = [(n, counterpart(self.a, self.b, n)) for n in a.read]
        pairs = [(x, y) for x, y in of_both if y is not None and y in b.read]
        if not pairs:
            raise Lacking("no reference has maps of attention in both runs")
        return pairs

    def in_b(self, owner: Owner) -> Owner | None:
        """What A numbers so, as B does; None where B has none for it."""
        return counterpart(self.a, self.b, owner) if isinstance(owner, int) else owner

    def steps(self, owner: Owner, other: Owner) -> tuple[list[int], list[int]]:
        """The measured steps that count in A and in B: those of both, where the runs took the same steps."""
        a, b = self.facts
        of_a, of_b = a.steps_of(owner), b.steps_of(other)
        both = [step for step in of_a if step in of_b] if took_same_steps(self.a, self.b) else []
        return (both, both) if both else (of_a, of_b)

    def seeds(self, of_a: Number, of_b: Number) -> float | None:
        """What a number differs by in two pictures of one batch, in 95 of 100 pairs; it may be another one in B.

        None where each run has one picture. The numbers are taken for normal, with the same spread in A and B: the
        fewer there are, the wider is what that proves (Student's t).
        """
        of_both = [
            [value for facts in self.batch(run) if (value := number(facts)) is not None]
            for run, number in ((self.a, of_a), (self.b, of_b))
        ]
        freedom = sum(max(0, len(numbers) - 1) for numbers in of_both)
        if not freedom:
            return None
        squares = sum((x - mean) ** 2 for numbers in of_both if numbers for mean in [_mean(numbers)] for x in numbers)
        return student(freedom) * (2 * squares / freedom) ** 0.5

    def batch(self, run: Attribution) -> list[Facts]:
        """The pictures of a run that tell what two seeds differ by: those in the same mask as this one."""
        items = range(min(run.items, MOST)) if run.items > 1 else ()
        masks = run.denoise_mask
        alike = [n for n in items if masks is None or torch.equal(masks[n], masks[self.item])]
        return [facts for item in alike if (facts := self._facts_of(run, item)).is_painted]

    @property
    def seeds_known(self) -> bool:
        """Whether a run has two pictures that tell what two seeds differ by."""
        return any(len(self.batch(run)) > 1 for run in (self.a, self.b))

    @cached_property
    def _whole(self) -> bool:
        """Whether all of the picture counts in both, since a mask is known in one of them alone."""
        return sum(Facts(run, self.item).cover is None for run in (self.a, self.b)) == 1

    def _facts_of(self, run: Attribution, item: int) -> Facts:
        facts = Facts(run, item)
        return replace(facts, mask=torch.ones(1, 1)) if self._whole else facts


def mean_of_pairs(of_a: Sequence[T], of_b: Sequence[T], differ: Callable[[T, T], float]) -> float | None:
    """The mean over all pairs within A and within B; None where there are none."""
    pairs = [*combinations(of_a, 2), *combinations(of_b, 2)]
    return sum(differ(x, y) for x, y in pairs) / len(pairs) if pairs else None


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


def student(freedom: int) -> float:
    """Within how many standard deviations 95 of 100 draws are, of so many degrees of freedom (Student's t)."""
    return STUDENT[min(freedom, len(STUDENT)) - 1]


STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


def case_of(a: float, b: float, seeds: float | None, least: float) -> tuple[str, Values]:
    """How a number of B is compared with that of A and with what two seeds differ by; and the values to say.

    A difference of less than ``least`` is none that is said.
    """
    values: Values = {"a": a, "b": b}
    if abs(b - a) < least:
        return "same", values
    if seeds is None:
        return ("more" if b > a else "less"), values
    values |= {"seeds": seeds}
    if abs(b - a) <= seeds:
        return "within seeds", values
    return ("more, beside seeds" if b > a else "less, beside seeds"), values


def sentences_of(more: str, less: str, same: str, numbers: str, seeds: str) -> dict[str, str]:
    """The sentences of all cases of ``case_of``."""
    two = f"; two seeds differ by up to {seeds} (95 of 100 times)"
    return {
        "more": f"{more}: {numbers}.",
        "less": f"{less}: {numbers}.",
        "more, beside seeds": f"{more}: {numbers}{two}.",
        "less, beside seeds": f"{less}: {numbers}{two}.",
        "within seeds": f"{same}, but for no more than two seeds differ by: {numbers}{two}.",
        "same": f"{same}: {numbers}.",
    }
