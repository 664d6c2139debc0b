"""Taking away: in one evaluation, the columns of a reference, of a part of it, or of the text are left out.

This is the consumer of I2AM Effect. It acts, in evaluations whose answers are thrown away; where it cannot be sure that
nothing is left of what it takes away it raises, and the effect is not measured.
"""

from collections.abc import Callable, Sequence, Set

import torch
from torch import Tensor

from ....i2am_core.attention.steering import Change
from ....i2am_core.attribution import Reference
from ....i2am_core.effect import Owner, Removal, regions_of
from ....i2am_core.recording.effects import RegionRemoval
from ....i2am_core.recording.recorder import Verdict
from ....i2am_core.tokens import TokenGroup
from ..attention_call import AttentionCall
from ..chosen_tokens import columns_of, rows_of_picture
from ..located import Located, Skip
from .base import Consumer, LocatedIn, verdicts_of, why_refuted

NumberOf = Callable[[Reference], int | None]


class NotMeasurable(ValueError):
    """What was to be taken away cannot be, for this reason."""


class TakeAway(Consumer):
    """``removed`` is taken away; ``number_of`` says which reference a run has under which number."""

    acts = True

    def __init__(self, removed: Removal | RegionRemoval, number_of: NumberOf) -> None:
        self.removed, self._number_of = removed, number_of
        self.changed = False  # whether there was anything to take away
        self.inert = False  # whether there were columns that are not made from what is taken away
        self._assumed: list[Verdict] = []  # of what only the device can prove

    @property
    def owner(self) -> Owner:
        """Whose columns these are."""
        return self.removed.reference if isinstance(self.removed, RegionRemoval) else self.removed.owner

    def before(self, call: AttentionCall, located: Sequence[LocatedIn]) -> AttentionCall | None:
        changes = []
        for one in located:
            if (change := self._change(call, one)) is not None:
                changes.append(change)
                self._assumed += verdicts_of([one])
        self.changed |= bool(changes)
        return call.changed(*changes) if changes else None

    def evaluation_ended(self, branches: Set[str]) -> None:
        if reason := why_refuted(self._assumed):
            raise NotMeasurable(reason)

    def skip(self, skip: Skip, calls: int = 1) -> None:
        if calls and not skip.absent:
            raise NotMeasurable(skip.reason)

    def retract(self, layers: Sequence[str], skip: Skip) -> None:
        raise NotMeasurable(skip.reason)

    def _change(self, call: AttentionCall, one: LocatedIn) -> Change | None:
        columns = self._columns(one, call.shape[3])
        if len(columns) == 0:
            return None
        directly = self.removed.route == "directly"
        rows = rows_of_picture(one, call.shape[2], None) if directly else None
        if rows is not None and not rows.any():
            return None
        positions = None if rows is None or rows.all() else rows
        return Change(one.chunk.rows, columns, strength=0, positions=positions)

    def _columns(self, one: LocatedIn, keys: int) -> Tensor:
        """The columns that are left out, in a call of so many ``keys``."""
        matches = [match for match in one.by_mechanism.values() if not match.of_negative]
        references = [match for match in matches if not _is_text(match, one)]
        if self.owner == "text":
            text = [columns_of(m.references, m, keys) for m in matches if _is_text(m, one)]
            return _without(_joined(text), _joined([columns_of(m.references, m, keys) for m in references]))
        return _joined([self._of_match(match, keys) for match in references])

    def _of_match(self, match: Located, keys: int) -> list[Tensor]:
        every = self.owner == "all references"
        groups = [x for x in match.references if every or self._number_of(Reference.of(x)) == self.owner]
        if match.inert:
            self.inert |= bool(groups)
            return []
        if isinstance(self.removed, Removal):
            return columns_of(groups, match, keys)
        return [self._in_region(group, match, keys, self.removed) for group in groups if group.grid is not None]

    def _in_region(self, group: TokenGroup, match: Located, keys: int, removed: RegionRemoval) -> Tensor:
        assert group.grid is not None
        inside = regions_of(group.grid, removed.grid) == removed.number
        inside = inside if group.cells is None else inside[group.cells]
        region = match.columns(torch.arange(match.keys)[group.index][inside], keys)
        if removed.cut == "taken away":
            return region
        return _without(_joined([columns_of([group], match, keys)]), region)  # and without what has no place


def _is_text(match: Located, one: LocatedIn) -> bool:
    return one.by_mechanism.get("text") is match


def _joined(columns: Sequence[Sequence[Tensor]]) -> Tensor:
    flat = [x for some in columns for x in some]
    return torch.cat(flat).unique() if flat else torch.zeros(0, dtype=torch.long)


def _without(columns: Tensor, others: Tensor) -> Tensor:
    return columns[~torch.isin(columns, others)]
