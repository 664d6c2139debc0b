"""The numbers of a run's references: given references come first, others follow as calls read them."""

import dataclasses
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from ..attribution import Reference
from ..tokens import TokenGrid


class References:
    """Two references are the same if they have the same name and key, and both have a grid, or both as many tokens.

    The grid and tokens of a given reference are only assumed, until the first call that reads it says what they are.
    One that is given with 0 tokens, since only calls say how many it has, is forgotten if no call reads it.
    """

    def __init__(self) -> None:
        self._known: list[Reference] = []
        self._given: list[Reference] = []
        self._read: set[int] = set()  # given references that a call has read

    @property
    def known(self) -> tuple[Reference, ...]:
        """All references so far, by number."""
        return tuple(self._known)

    @property
    def counted(self) -> list[int]:
        """The numbers of those that ``freeze`` would keep by now: a person counts these from 0."""
        return [n for n, reference in enumerate(self._known) if reference.tokens or not self._is_unread(n)]

    def give(self, references: Sequence[Reference]) -> None:
        """Number the given references. Raises RuntimeError where there are others already."""
        if self._known:
            raise RuntimeError(f"{len(self._known)} references are numbered already: give them before the run.")
        self._given, self._known = list(references), list(references)

    def number(self, reference: Reference) -> int:
        """The number of a reference that a call reads, which may be new. The largest of its grids is kept."""
        number = self.find(reference)
        if number is None:
            self._known.append(reference)
            return len(self._known) - 1
        if self._is_unread(number):
            self._read.add(number)
            self._known[number] = reference
        else:
            self._known[number] = max(self._known[number], reference, key=lambda r: r.tokens)
        return number

    def find(self, reference: Reference) -> int | None:
        """The number of a reference that a call reads, None where none like it is known."""
        unread = None
        for number, known in enumerate(self._known):
            if (known.name, known.key) != (reference.name, reference.key):
                continue
            if self._is_unread(number):
                unread = number if unread is None else unread
            elif _is_same(known, reference):
                return number
        return unread

    def _is_unread(self, number: int) -> bool:
        return number < len(self._given) and number not in self._read

    def freeze(self, captured: AbstractSet[tuple[int, TokenGrid | None]]) -> tuple[dict[int, int], list[Reference]]:
        """New numbers by the old ones, and the references: those that were ``captured``, with their grids, or given."""
        grids: dict[int, set[TokenGrid | None]] = {}
        for number, grid in captured:
            grids.setdefault(number, set()).add(grid)
        given = [number for number, reference in enumerate(self._given) if reference.tokens]
        numbers = [number for number in range(len(self._known)) if number in grids or number in given]
        # A call that did not count may have changed a given reference: where none counted, it is as it was given.
        references = [_on_largest(self._known[n], grids[n]) if n in grids else self._given[n] for n in numbers]
        return {old: new for new, old in enumerate(numbers)}, references


def _is_same(known: Reference, reference: Reference) -> bool:
    """Whether two of one name and key are one reference."""
    if known.grid is None or reference.grid is None:
        return known.grid is reference.grid and known.tokens == reference.tokens
    return True


def _on_largest(reference: Reference, grids: AbstractSet[TokenGrid | None]) -> Reference:
    """The reference on the largest of ``grids``: its own may come from a call that did not count in the end."""
    if reference.grid is None or None in grids or reference.grid in grids:
        return reference
    largest = max((grid for grid in grids if grid is not None), key=lambda grid: grid.cells)
    return dataclasses.replace(reference, grid=largest, tokens=largest.cells)
