"""The maps of a steered attention call: of what was computed, which is a sum of softmaxes with biases and gains."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..kinds import KINDS, PAIR_KEYS
from ..tokens import TokenGrid, TokenGroup
from .marginals import CHUNK_BYTES, Logits, Marginals, Positions, additive, attribute
from .on_device import brought
from .steering import Softmax, Steering

NOTHING = Softmax(gain=torch.zeros(1))  # of rows whose softmaxes are fewer
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
        for numbers in _classes_of_heads(self):
            heads = brought(numbers, q.device)
            total = None if logits.total is None else logits.total[:, heads]
            terms = []
            for term in _terms(self, int(numbers[0]), k):
                of_term = dataclasses.replace(logits, bias=_sum(logits.bias, term.bias, heads, q.dtype), total=total)
                terms.append(term.attribute(q[:, heads], k[:, heads], references, of_term, positions, chunk_bytes))
            by_class.append((numbers, [_added(list(maps)) for maps in zip(*terms, strict=True)]))
        return [_joined([(heads, maps[n]) for heads, maps in by_class], q.shape[1]) for n in range(len(references))]


@dataclass(frozen=True)
class _Term:
    """One softmax of each row: ``bias [b, 1, N, K]``, ``gain [b, N]``, and the ``factor [b, N, K]`` of values.

    All have 1 in the place of N where they are the same for all rows. The bias is on the device of the call, the others
    on the host.
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


def _terms(steered: SteeredItems, head: int, k: Tensor) -> Iterator[_Term]:
    """What is added up for heads that are steered as this one, over the columns ``k [b, H, K, D]``, the first ones."""
    items = range(steered.items.start, steered.items.stop)
    parts = [
        (here, rows)
        for rows in steered.steering.rows(steered.shape)
        if (here := [item - items.start for item in rows.items.tolist() if item in items])
    ]
    for number in range(max([len(rows.softmaxes) for _, rows in parts] + [1])):
        of_head = [
            (here, rows.positions, _of_head(rows.softmaxes[number] if number < len(rows.softmaxes) else NOTHING, head))
            for here, rows in parts
        ]
        yield _term(of_head, (len(items), steered.shape[2], k.shape[2]), k.device)


def _term(
    parts: Sequence[tuple[list[int], Tensor | None, Softmax]], shape: tuple[int, int, int], device: torch.device
) -> _Term:
    """Of parts of the rows, each with its items, its positions and its softmax: see ``Rows``."""
    items, queries, keys = shape
    uniform = len(parts) == 1 and parts[0][1] is None
    size = 1 if uniform else queries  # what is for all rows of tokens takes a column each, for some of them a matrix

    def whole(values: Sequence[Tensor | None], other: float, *shape: int, device: torch.device) -> Tensor | None:
        """These of all parts together, or None where each of them is ``other``."""
        if all(x is None or bool((x == other).all()) for x in values):
            return None
        filled = torch.full((items, size, *shape), other, device=device)
        for (here, positions, _), x in zip(parts, values, strict=True):
            index = brought(torch.tensor(here)[:, None], device)
            where = brought(torch.arange(size) if positions is None else positions, device)
            filled[index, where] = brought(torch.tensor(other) if x is None else x, device)
        return filled

    softmaxes = [softmax for _, _, softmax in parts]
    host = torch.device("cpu")
    bias = whole([x.bias if x.bias is None else x.bias[:keys] for x in softmaxes], 0.0, keys, device=device)
    return _Term(
        None if bias is None else bias[:, None],
        whole([x.gain for x in softmaxes], 1.0, device=host),
        whole([x.factor if x.factor is None else x.factor[:keys] for x in softmaxes], 1.0, keys, device=host),
    )


def _of_head(softmax: Softmax, head: int) -> Softmax:
    """Its bias and factor ``[K]``, and its gain, of one head."""
    each = (softmax.bias, softmax.gain, softmax.factor)
    return Softmax(*(None if x is None else x[head if len(x) > 1 else 0] for x in each))


def _sum(own: Tensor | None, added: Tensor | None, heads: Tensor, dtype: torch.dtype) -> Tensor | None:
    """The bias of the call and that of a softmax, as the kernel got them: in the queries' dtype."""
    if own is not None:
        own = additive(own[:, heads] if own.shape[1] > 1 else own, dtype)
    if own is None or added is None:
        return own if added is None else added.to(dtype)
    return (own + added).to(dtype)


def _product(positions: Positions, gain: Tensor | None, queries: int) -> Tensor | None:
    """The gain of the generated positions: what they have of their own, times that of a softmax."""
    if gain is None:
        return positions.gain
    gain = gain.expand(-1, queries)[:, positions.queries]
    return (
        gain
        if positions.gain is None
        else brought(gain, positions.gain.device).to(positions.gain.dtype) * positions.gain
    )


def _added(maps: list[Marginals]) -> Marginals:
    """One reference's maps of all softmaxes."""
    first, *others = maps
    first = dataclasses.replace(first, holds=_all_hold(maps))
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
                joined[kind.key][:, brought(numbers, values.device)] = getattr(maps, kind.key)
    for name in PAIR_KEYS:
        if getattr(first, name) is not None:
            parts = [getattr(maps, name) * (len(numbers) / heads) for numbers, maps in by_class]
            joined[name] = torch.stack(parts).sum(0)
    return dataclasses.replace(first, holds=_all_hold([maps for _, maps in by_class]), **joined)


def _all_hold(maps: Sequence[Marginals]) -> Tensor | None:
    """Whether all are of numbers, where only the device knows it."""
    return torch.stack([x.holds for x in maps if x.holds is not None]).all() if maps[0].holds is not None else None
