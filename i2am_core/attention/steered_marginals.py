"""The maps of a steered attention call: of what was computed, which is a sum of softmaxes with biases and gains."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..kinds import KINDS, PAIR_KEYS
from ..tokens import TokenGrid, TokenGroup
from .marginals import CHUNK_BYTES, Logits, Marginals, Positions, additive, attribute
from .steering import Rows, Softmax, Steering

SHARES = ("r2g_share", "g2r_share", "g2r_share_scope")


@dataclass(frozen=True)
class SteeredItems:
    """Neighbouring ``items`` of the batch of a steered call, whose shape (B, H, N, K) is that of the whole call."""

    steering: Steering
    items: slice
    shape: tuple[int, int, int, int]

    def attribute(
        self,
        q: Tensor,
        k: Tensor,
        references: Sequence[TokenGroup],
        logits: Logits,
        positions: Positions,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> list[Marginals]:
        """As ``marginals.attribute``, of these items: ``q [b, H, N, D]``, and ``k`` without columns that are repeated.

        ``logits`` are those before steering, but for ``total``, which is that of the steered rows. Shares are the sum
        over the softmaxes of each row, times their gains and factors; maps of the paper are those of the first one.
        """
        by_class = []
        for heads in _classes_of_heads(self):
            total = None if logits.total is None else logits.total[:, heads]
            terms = []
            for term in _terms(self, heads, k.shape[2]):
                of_term = dataclasses.replace(logits, bias=_sum(logits.bias, term.bias, heads, q.dtype), total=total)
                terms.append(term.attribute(q[:, heads], k[:, heads], references, of_term, positions, chunk_bytes))
            by_class.append((heads, [_added(list(maps)) for maps in zip(*terms, strict=True)]))
        return [_joined([(heads, maps[n]) for heads, maps in by_class], q.shape[1]) for n in range(len(references))]


@dataclass(frozen=True)
class _Term:
    """One softmax of each row: ``bias [b, 1, N, K]``, ``gain [b, N]``, and the ``factor [b, N, K]`` of values.

    All have 1 in the place of N where they are the same for all rows.
    """

    bias: Tensor | None
    gain: Tensor | None
    factor: Tensor | None

    def attribute(
        self,
        q: Tensor,
        k: Tensor,
        references: Sequence[TokenGroup],
        logits: Logits,
        positions: Positions,
        chunk_bytes: int,
    ) -> list[Marginals]:
        """The maps of this softmax. Where values of some columns count otherwise, shares of these have their own gain.

        ``logits`` have this bias already.
        """
        gain = _product(positions, self.gain, q.shape[2])
        maps = attribute(q, k, references, logits, dataclasses.replace(positions, gain=gain), chunk_bytes)
        if self.factor is None:
            return maps
        changed = []
        for group, of_group in zip(references, maps, strict=True):
            by_part = []
            for part, factor in _alike(group, self.factor):
                of_rows = factor if self.gain is None else self.gain * factor
                where = dataclasses.replace(positions, gain=_product(positions, of_rows, q.shape[2]), pair_rows=None)
                by_part += attribute(q, k, [part], logits, where, chunk_bytes)
            shares = {name: getattr(_added(by_part), name) for name in SHARES}
            changed.append(dataclasses.replace(of_group, **shares))
        return changed


def _alike(group: TokenGroup, factor: Tensor) -> Iterator[tuple[TokenGroup, Tensor]]:
    """The group in parts whose columns count alike, each on the whole group's places, and their factor ``[b, N]``."""
    columns = torch.arange(factor.shape[2])[group.index]
    places = torch.arange(group.count) if group.cells is None else group.cells
    grid = TokenGrid(1, group.count) if group.grid is None else group.grid
    kinds, kind_of = factor[..., columns].flatten(0, 1).unique(dim=1, return_inverse=True)
    for number in range(kinds.shape[1]):
        here = kind_of == number
        part = TokenGroup(group.name, columns[here], int(here.sum()), grid, group.key, places[here])
        yield part, kinds[:, number].unflatten(0, factor.shape[:2])


def _classes_of_heads(steered: SteeredItems) -> list[Tensor]:
    """The numbers of heads that are steered alike."""
    code = torch.zeros(steered.shape[1], dtype=torch.int64)
    for number, change in enumerate(steered.steering.changes):
        if change.heads is not None:
            code += change.heads.long() << number
    return [(code == one).nonzero().flatten() for one in code.unique().tolist()]


def _terms(steered: SteeredItems, heads: Tensor, keys: int) -> Iterator[_Term]:
    """What is added up for heads that are steered alike, over the first ``keys`` columns."""
    items = range(steered.items.start, steered.items.stop)
    parts = [
        (here, rows)
        for rows in steered.steering.rows(steered.shape)
        if (here := [item - items.start for item in rows.items.tolist() if item in items])
    ]
    for number in range(max([len(rows.softmaxes) for _, rows in parts] + [1])):
        yield _term(parts, number, int(heads[0]), (len(items), steered.shape[2], keys))


def _term(parts: Sequence[tuple[list[int], Rows]], number: int, head: int, shape: tuple[int, int, int]) -> _Term:
    items, queries, keys = shape
    uniform = len(parts) == 1 and parts[0][1].positions is None
    size = 1 if uniform else queries
    # What is for all rows of tokens takes a column each, what is for some of them a matrix.
    bias, gain, factor = torch.zeros(items, size, keys), torch.zeros(items, size), torch.ones(items, size, keys)
    for here, rows in parts:
        softmax = rows.softmaxes[number] if number < len(rows.softmaxes) else Softmax(gain=torch.zeros(1))
        index = torch.tensor(here)[:, None]
        positions = torch.arange(size) if rows.positions is None else rows.positions
        bias[index, positions] = 0.0 if softmax.bias is None else _of_head(softmax.bias, head)[:keys]
        gain[index, positions] = 1.0 if softmax.gain is None else _of_head(softmax.gain, head)
        factor[index, positions] = 1.0 if softmax.factor is None else _of_head(softmax.factor, head)[:keys]
    return _Term(
        bias[:, None] if bias.any() else None,
        gain if (gain != 1).any() else None,
        factor if (factor != 1).any() else None,
    )


def _of_head(values: Tensor, head: int) -> Tensor:
    return values[head if len(values) > 1 else 0]


def _sum(own: Tensor | None, added: Tensor | None, heads: Tensor, dtype: torch.dtype) -> Tensor | None:
    """The bias of the call and that of a softmax, as the kernel got them: in the queries' dtype."""
    if own is not None:
        own = additive(own[:, heads] if own.shape[1] > 1 else own, dtype)
    if own is None or added is None:
        return own if added is None else added.to(dtype)
    return (own + added.to(own.device)).to(dtype)


def _product(positions: Positions, gain: Tensor | None, queries: int) -> Tensor | None:
    """The gain of the generated positions: what they have of their own, times that of a softmax."""
    if gain is None:
        return positions.gain
    gain = gain.expand(-1, queries)[:, positions.queries]
    return gain if positions.gain is None else gain.to(positions.gain) * positions.gain


def _added(maps: list[Marginals]) -> Marginals:
    """One reference's maps of all softmaxes."""
    first, *others = maps
    for name in SHARES:
        for other in others:
            if getattr(first, name) is not None:
                first = dataclasses.replace(first, **{name: getattr(first, name) + getattr(other, name)})
    return first


def _joined(by_class: Sequence[tuple[Tensor, Marginals]], heads: int) -> Marginals:
    """One reference's maps of all heads."""
    if len(by_class) == 1:
        return by_class[0][1]
    first = by_class[0][1]
    joined = {}
    for kind in KINDS:
        if (values := getattr(first, kind.key)) is not None:
            joined[kind.key] = values.new_zeros(values.shape[0], heads, *values.shape[2:])
            for numbers, maps in by_class:
                joined[kind.key][:, numbers] = getattr(maps, kind.key)
    for name in PAIR_KEYS:
        if getattr(first, name) is not None:
            parts = [getattr(maps, name) * (len(numbers) / heads) for numbers, maps in by_class]
            joined[name] = torch.stack(parts).sum(0)
    return dataclasses.replace(first, **joined)
