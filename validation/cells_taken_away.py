"""Whole runs in which cells of a reference are taken away, other ones in each picture of a batch.

I2AM Steer takes one painted region for all pictures. Here each picture has its own, so that a study need not sample
its scenes one by one. The columns are left out as I2AM Effect leaves them out.
"""

# ComfyUI's own classes have no types.
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..demo import data, effect
from ..i2am_core import Reference, Removal
from ..i2am_core.attention.steering import Change
from ..nodes.comfy.attention_call import AttentionCall
from ..nodes.comfy.consumer_watch import ConsumerWatch
from ..nodes.comfy.consumers.base import LocatedIn, verdicts_of
from ..nodes.comfy.consumers.take_away import NumberOf, TakeAway
from ..nodes.comfy.located import Located
from ..nodes.comfy.run import watched


def painted_without(study: effect.Study, cells: Tensor) -> Tensor:
    """The pictures ``[n, 3, IMAGE, IMAGE]`` of the first n scenes of a study, each without ``cells [n, M]`` (boolean).

    Cells are those of the object's reference.
    """
    batches = zip(study.order[: len(cells)].split(effect.BATCH), cells.split(effect.BATCH), strict=True)
    return torch.cat([data.to_image(study.run(without_cells(study, some), "own", part)) for part, some in batches])


def without_cells(study: effect.Study, cells: Tensor) -> ModelPatcher:
    """The model without ``cells [B, M]`` (boolean) of the object's reference, in all steps of runs of B pictures."""

    def consumers() -> list[TakeAwayCells]:
        numbers: dict[Reference, int] = {}
        return [
            TakeAwayCells(study.subject.object, cells, lambda reference: numbers.setdefault(reference, len(numbers)))
        ]

    return watched(study.model, ConsumerWatch(consumers, acts=True))


class TakeAwayCells(TakeAway):
    """Of the reference of this number, ``cells [B, M]`` (boolean) are taken away, in each item of a batch its own."""

    def __init__(self, reference: int, cells: Tensor, number_of: NumberOf) -> None:
        super().__init__(Removal(0, reference), number_of)
        self._cells = cells

    def before(self, call: AttentionCall, located: Sequence[LocatedIn]) -> AttentionCall | None:
        """Raises ValueError where the batch has another number of pictures, or the reference of cells."""
        changes = [change for one in located for change in self._changes(call, one)]
        if changes:
            self._assumed += verdicts_of(located)
        return call.changed(*changes) if changes else None

    def _changes(self, call: AttentionCall, one: LocatedIn) -> Iterator[Change]:
        if one.chunk.items != len(self._cells):
            raise ValueError(f"cells of {len(self._cells)} pictures, in a run of {one.chunk.items}: give those of all.")
        for match in one.by_mechanism.values():
            for group in match.references:
                if self._number_of(Reference.of(group)) == self.owner:
                    tokens = torch.arange(match.keys)[group.index]
                    yield from self._of_items(match, tokens, one.chunk.rows.start, call.shape[3])

    def _of_items(self, match: Located, tokens: Tensor, first: int, keys: int) -> Iterator[Change]:
        if len(tokens) != self._cells.shape[1]:
            raise ValueError(
                f"{self._cells.shape[1]} cells of a reference of {len(tokens)}: say for each whether it goes."
            )
        for item, cells in enumerate(self._cells, first):
            columns = match.columns(tokens[cells], keys)
            if len(columns):
                yield Change(slice(item, item + 1), columns, strength=0)
