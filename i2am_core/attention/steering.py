"""Steering one attention call: columns that are weighed otherwise, for some of its rows and heads.

Rows and heads of attention are independent of each other, so that everything comes from changing columns for some of
them, in one of three ways, with a strength s. Changes multiply.

* by *attention*: ``log s`` is added to the logits of the columns; 0 leaves them out. What they lose goes to the others.
* by *output*: two softmaxes are mixed, ``o = o_without + s (o_with - o_without)``; s may be negative.
* by *values*: the values of the columns count s times, and the others keep what they had.

Where a change chooses *all* columns of a softmax, weights of columns would cancel: whichever way, the output counts s
times. So a steered row is a sum of softmaxes of the same logits, each with a bias on its columns, a factor on their
values and a gain on its output: one, for all but changes by output.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from .on_device import brought

By = Literal["attention", "output", "values"]


@dataclass(frozen=True, eq=False)
class Change:
    """``strength`` on some ``columns [m]``, all different, for the rows of ``items`` of the batch.

    ``positions [items or 1, N]`` (boolean) are the rows of tokens that it is for, ``heads [H]`` (boolean) the heads;
    None is all of them. All tensors are on the CPU. ``note`` says what it does, for a person.
    """

    items: slice
    columns: Tensor
    strength: float
    by: By = "attention"
    positions: Tensor | None = None
    heads: Tensor | None = None
    note: str = ""

    @cached_property
    def signature(self) -> tuple:
        """What it does to a row: changes of equal ones need no telling apart."""
        heads = b"" if self.heads is None else self.heads.numpy().tobytes()
        return self.strength, self.by, self.columns.numpy().tobytes(), heads

    def of_item(self, item: int) -> Tensor | None:
        """The rows of tokens ``[N]`` of one item of the batch."""
        if self.positions is None:
            return None
        return self.positions[item - self.items.start if len(self.positions) > 1 else 0]


@dataclass(frozen=True, eq=False)
class Softmax:
    """One softmax of a steered row: ``bias [H or 1, K]`` is added to its logits, its output counts ``gain [H or 1]``.

    The value of each column counts ``factor [H or 1, K]``. None where nothing is added, and where it counts once. A
    bias of -inf leaves a column out; ``columns_left`` are the others, where the bias does nothing else, and the same in
    all heads.
    """

    bias: Tensor | None = None
    gain: Tensor | None = None
    factor: Tensor | None = None
    columns_left: Tensor | None = None

    def to(self, device: torch.device) -> "Softmax":
        """The same on a device."""
        tensors = (self.bias, self.gain, self.factor, self.columns_left)
        return Softmax(*(None if x is None else brought(x, device) for x in tensors))


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a call that are steered alike: tokens ``positions [n]`` (None: all) of some ``items [b]`` of the batch.

    Their output is the sum of ``softmaxes``, or 0 where there are none.
    """

    items: Tensor
    positions: Tensor | None
    softmaxes: tuple[Softmax, ...]

    def to(self, device: torch.device) -> "Rows":
        """The same on a device."""
        positions = None if self.positions is None else brought(self.positions, device)
        return Rows(brought(self.items, device), positions, tuple(softmax.to(device) for softmax in self.softmaxes))

    def put(self, part: Tensor, whole: Tensor, axis: int) -> None:
        """Put what was computed for these rows where it belongs in the whole; ``axis`` of both is the tokens."""
        if self.positions is None:
            whole[self.items] = part
        else:
            whole.movedim(axis, 1)[self.items[:, None], self.positions] = part.movedim(axis, 1)


@dataclass(frozen=True, eq=False)
class Steering:
    """All changes of one attention call, of B items, H heads, N rows of tokens and K columns."""

    changes: tuple[Change, ...]
    _parts_of: dict[tuple, tuple[Rows, ...]] = field(default_factory=dict, init=False, repr=False)

    def and_(self, changes: Sequence[Change]) -> "Steering":
        """These changes, and further ones."""
        return Steering((*self.changes, *changes))

    @property
    def notes(self) -> tuple[str, ...]:
        """What the changes do, for a person."""
        return tuple(dict.fromkeys(change.note for change in self.changes if change.note))

    def rows(self, shape: tuple[int, int, int, int], device: torch.device | None = None) -> tuple[Rows, ...]:
        """All rows of a call of ``shape`` (B, H, N, K), in parts that are steered alike. Worked out once a device."""
        device = torch.device("cpu") if device is None else device
        key = (*shape, device)
        if key not in self._parts_of:
            self._parts_of[key] = tuple(rows.to(device) for rows in self._parts(*shape))
        return self._parts_of[key]

    def _parts(self, batch: int, heads: int, queries: int, keys: int) -> Iterator[Rows]:
        parts: dict[tuple, tuple[list[int], Tensor | None, list[Change]]] = {}
        for item in range(batch):
            changes = [change for change in self.changes if change.items.start <= item < change.items.stop]
            for positions, chosen in _by_position(changes, item, queries):
                where = b"" if positions is None else positions.numpy().tobytes()
                key = (where, tuple(change.signature for change in chosen))
                parts.setdefault(key, ([], positions, chosen))[0].append(item)
        for items, positions, chosen in parts.values():
            yield Rows(torch.tensor(items), positions, tuple(softmaxes(chosen, heads, keys)))


def _by_position(changes: Sequence[Change], item: int, queries: int) -> Iterator[tuple[Tensor | None, list[Change]]]:
    """Rows of tokens of one item, in classes to which the same changes apply; None where that is all of them."""
    code = torch.zeros(queries, dtype=torch.int64)
    for number, change in enumerate(changes):
        chosen = change.of_item(item)
        code += (torch.ones(queries, dtype=torch.int64) if chosen is None else chosen.long()) << number
    classes = code.unique().tolist()
    for one in classes:
        positions = None if len(classes) == 1 else (code == one).nonzero().flatten()
        yield positions, [change for number, change in enumerate(changes) if one >> number & 1]


def softmaxes(changes: Sequence[Change], heads: int, keys: int) -> list[Softmax]:
    """The softmaxes whose sum is a row to which these changes apply; a plain one where there are none."""
    bias, gain, factor = torch.zeros(1, keys), torch.ones(1), torch.ones(1, keys)
    for change in changes:
        if change.by == "attention" and not _is_of_all(change, keys):
            bias = _added(bias, change, _log(change.strength), heads)
        elif change.by == "values" and not _is_of_all(change, keys):
            factor = factor * _added(torch.ones(1, keys), change, change.strength - 1, heads)
    terms = [(bias, gain)]
    for change in changes:
        if _is_of_all(change, keys):
            terms = [(b, g * _of_heads(change, change.strength, heads)) for b, g in terms]
        elif change.by == "output":
            with_, without = _of_heads(change, change.strength, heads), _of_heads(change, 1.0, heads, 0.0)
            rest = without * (1 - change.strength)
            terms = [
                term for b, g in terms for term in ((b, g * with_), (_added(b, change, -math.inf, heads), g * rest))
            ]
    return [_softmax(b, g, factor) for b, g in map(_emptied, *zip(*terms, strict=True)) if g.any()]


def _is_of_all(change: Change, keys: int) -> bool:
    return len(change.columns) == keys


def _log(strength: float) -> float:
    return math.log(strength) if strength > 0 else -math.inf


def _of_heads(change: Change, chosen: float, heads: int, others: float = 1.0) -> Tensor:
    """``chosen`` in the heads of a change, ``others`` in all others: ``[H or 1]``."""
    if change.heads is None:
        return torch.tensor([chosen])
    return torch.where(change.heads, torch.tensor(chosen), torch.tensor(others))


def _added(bias: Tensor, change: Change, value: float, heads: int) -> Tensor:
    """``bias [H or 1, K]`` with a value on the columns and heads of a change."""
    if change.heads is None:
        added = bias.clone()
        added[:, change.columns] += value
    else:
        added = bias.expand(heads, -1).clone()
        added[change.heads.nonzero(), change.columns] += value
    return added


def _emptied(bias: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    """Where no column is left the output is 0: those heads do not count, and leave nothing out."""
    empty = bias.isneginf().all(1)
    if not empty.any():
        return bias, gain
    heads = max(len(bias), len(gain))
    return bias.masked_fill(empty[:, None], 0).expand(heads, -1), gain.expand(heads) * ~empty


def _softmax(bias: Tensor, gain: Tensor, factor: Tensor) -> Softmax:
    left = bias[0].isfinite()
    only_leaves_out = len(bias) == 1 and not left.all() and not bias[0, left].any()
    return Softmax(
        bias if bias.any() else None,
        gain if (gain != 1).any() else None,
        factor if (factor != 1).any() else None,
        left.nonzero().flatten() if only_leaves_out else None,
    )
