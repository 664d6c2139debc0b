"""Maps of several attention calls that were made together: what is done to those of one is done once for all."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from .marginals import Marginals

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Part:
    """The items of one call in values ``[calls * items, ...]`` of all."""

    whole: Tensor
    items: slice

    def float(self) -> Tensor:
        """The values of this call, in float32."""
        return self.whole[self.items].float()

    @property
    def nbytes(self) -> int:
        return self.whole[self.items].nbytes


class Parts(Mapping[Any, Part]):
    """The items of one call in several values of all, by their names. A part is made when it is asked for.

    So it is few objects, of which there are many calls': Python looks through all that live, again and again.
    """

    __slots__ = ("rows", "wholes")

    def __init__(self, wholes: Mapping[Any, Tensor], rows: slice) -> None:
        self.wholes, self.rows = wholes, rows

    def __getitem__(self, name: Any) -> Part:
        return Part(self.wholes[name], self.rows)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.wholes)

    def __len__(self) -> int:
        return len(self.wholes)


Values = Mapping[Any, Tensor | Part]
"""Several values of one call, by their names."""


@dataclass(frozen=True, eq=False)
class Stacked:
    """The maps of ``calls`` that are alike, for one reference: ``maps`` has the items of all, one behind the other."""

    maps: Marginals
    calls: int
    memo: dict[Hashable, Any] = field(default_factory=dict)

    def once(self, name: Hashable, work: Callable[[Marginals], T]) -> T:
        """What ``work`` makes of the maps of all calls, which is the same whenever it is needed."""
        if name not in self.memo:
            self.memo[name] = work(self.maps)
        result: T = self.memo[name]
        return result

    @cached_property
    def items(self) -> int:
        """How many each call has."""
        return self.maps.r2g_share.shape[0] // self.calls


@dataclass(frozen=True, eq=False)
class StackedCall:
    """The maps of one of the calls, by its number, and whether they are numbers: see ``Marginals``."""

    stacked: Stacked
    number: int
    holds: Tensor | None

    @property
    def row_sums(self) -> str:
        return self.stacked.maps.row_sums

    @property
    def arithmetic(self) -> str:
        return self.stacked.maps.arithmetic

    @cached_property
    def items(self) -> slice:
        """Its items among those of all."""
        return slice(self.number * self.stacked.items, (self.number + 1) * self.stacked.items)

    def once(self, name: Hashable, work: Callable[[Marginals], Mapping[Any, Tensor]]) -> Values:
        """This call's parts of what ``work`` makes of the maps of all calls; where memory is short, of its own."""
        try:
            return Parts(self.stacked.once(name, work), self.items)
        except torch.cuda.OutOfMemoryError:
            return work(self.alone())

    def alone(self) -> Marginals:
        """As the maps of a call that was made alone."""
        values = vars(self.stacked.maps)
        own = {name: x[self.items] for name, x in values.items() if isinstance(x, Tensor) and name != "holds"}
        return Marginals(**values | own | {"holds": self.holds})


Maps = Marginals | StackedCall
"""The maps of one call for one reference, be it made alone or together with others."""


def alone(maps: Maps) -> Marginals:
    """As those of a call that was made alone."""
    return maps if isinstance(maps, Marginals) else maps.alone()
