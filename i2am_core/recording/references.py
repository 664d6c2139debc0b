"""The numbers of a run's references: those that the model was given come first, others as they turn up."""

import dataclasses
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from ..attribution import Reference
from ..tokens import TokenGrid


class References:
    """A reference is known by its name and key, and by whether it has places; without any, by its tokens as well.

    Of one that was given, what is seen first takes the place of what was said: grid and tokens are then the model's.
    One that was given with 0 tokens, whose number only the model's calls tell, is forgotten if none ever tells it.
    """

    def __init__(self) -> None:
        self._known: list[Reference] = []
        self._given: list[Reference] = []
        self._seen: set[int] = set()  # of those that were given

    @property
    def known(self) -> tuple[Reference, ...]:
        return tuple(self._known)

    def give(self, references: Sequence[Reference]) -> None:
        if self._known:
            raise RuntimeError(f"{len(self._known)} references are numbered already: give them before the run.")
        self._given, self._known = list(references), list(references)

    def number(self, reference: Reference) -> int:
        for number, known in enumerate(self._known):
            if self._unseen(number):
                continue
            same = (known.name, known.key, known.grid is None) == (
                reference.name,
                reference.key,
                reference.grid is None,
            )
            if same and (reference.grid is not None or known.tokens == reference.tokens):
                self._known[number] = max(known, reference, key=lambda r: r.tokens)
                return number
        for number, known in enumerate(self._known):
            if self._unseen(number) and (known.name, known.key) == (reference.name, reference.key):
                self._seen.add(number)
                self._known[number] = reference
                return number
        self._known.append(reference)
        return len(self._known) - 1

    def _unseen(self, number: int) -> bool:
        return number < len(self._given) and number not in self._seen

    def freeze(self, captured: AbstractSet[tuple[int, TokenGrid | None]]) -> tuple[dict[int, int], list[Reference]]:
        """New numbers by the old ones, and the references: those that were ``captured``, with their grids, or given."""
        grids: dict[int, set[TokenGrid | None]] = {}
        for number, grid in captured:
            grids.setdefault(number, set()).add(grid)
        given = [number for number, reference in enumerate(self._given) if reference.tokens]
        kept = [number for number in range(len(self._known)) if number in grids or number in given]
        references = [
            _on_largest(self._known[n], grids[n]) if n in grids else self._given[n] for n in kept
        ]  # what was only assumed of a given reference is forgotten
        return {old: new for new, old in enumerate(kept)}, references


def _on_largest(reference: Reference, grids: AbstractSet[TokenGrid | None]) -> Reference:
    """The reference without grids that were assumed in calls of which nothing was kept."""
    if reference.grid is None or None in grids or reference.grid in grids:
        return reference
    largest = max((grid for grid in grids if grid is not None), key=lambda grid: grid.cells)
    return dataclasses.replace(reference, grid=largest, tokens=largest.cells)
