"""The maps of a few heads as thin products with one exponential: fast, where no number leaves float32.

The formulas are at the top of ``attention``. One sweep over the rows where the exponentials of a head fit the
chunk; else two, since the columns' denominators must be complete before they are used.
"""

import math

import torch
from torch import Tensor

from ..kinds import PAIR_KEYS
from .columns import ReferenceColumns

PAIR_BYTES = 4 * 2**20  # of pair maps, made at a time
SMALLEST = 1e-30  # a sum below this may have lost terms to underflow


def fill(c: ReferenceColumns, maps: dict[str, Tensor], item: int, heads: slice, room: Tensor) -> list[int]:
    """Fill in the maps of some heads of one item; return the heads that need ``streaming`` instead.

    ``room`` is where exponentials are written, as many at a time as it has elements: at least M.
    """
    found = _Products(c, item, heads, room)
    found.pairs = {name: maps[name][item] for name in PAIR_KEYS if name in maps}
    safe = found.run()
    for name, values in found.maps.items():
        maps[name][item, heads] = values
    return [heads.start + head for head in (~safe).nonzero().flatten().tolist()]


class _Products:
    """g heads at a time; N and M as in ``ReferenceColumns``."""

    def __init__(self, c: ReferenceColumns, item: int, heads: slice, room: Tensor) -> None:
        self.alone = c.total is None
        self.q, self.k = (x[item, heads].to(c.dtype) for x in (c.q, c.k))  # [g, N, D], [g, M, D]
        self.scale, self.pair_rows, self.heads_of_all = c.scale, c.pair_rows, c.shape[1]
        self.bias = None if c.bias is None else c.bias[item, heads]
        self.gain = c.gain[item].to(c.dtype)  # [N]
        self.scope = None if c.scope is None else c.scope[item].to(c.dtype)
        g, n = self.q.shape[:2]
        self.room = room
        size = min(n, len(room) // (g * c.shape[3]))
        self.blocks = [slice(start, min(n, start + size)) for start in range(0, n, size)]
        self.offset = self.q.new_empty(g, n)  # what is taken off a row's logits: L, or its maximum
        if c.total is not None:
            total = c.total[item, heads]
            self.offset = torch.where(total > -torch.inf, total, 0)  # rows that see nothing get a share of 0
        self.row = self.q.new_empty(g, n)  # sums of E
        self.maps: dict[str, Tensor] = {"r2g_paper": self.q.new_empty(g, n)}
        self.pairs: dict[str, Tensor] = {}  # sums over heads, to be added to

    def run(self) -> Tensor:
        """All maps; returns which heads can be trusted, ``[g]``."""
        whole = self.blocks[0] if len(self.blocks) == 1 else None
        e = None if whole is None else self._exponentials(whole)
        sums = sum(self._sums(block, e) for block in self.blocks)
        assert isinstance(sums, Tensor)
        self.denominator = sums[:, 2]
        safe = (self.row.amin(-1) > SMALLEST) & (self.denominator.amin(-1) > SMALLEST)
        for block in self.blocks:
            self._columns(block, e, safe)
        share = torch.ones_like(self.row) if self.alone else self.row.clamp(max=1)
        self.maps |= {"r2g_share": share * self.gain, "g2r_share": sums[:, 0], "g2r_paper": sums[:, 1]}
        if self.scope is not None:
            self.maps |= {"g2r_share_scope": sums[:, 3], "g2r_paper_scope": sums[:, 4]}
        return safe

    def _exponentials(self, block: slice) -> Tensor:
        """E of some rows, ``[g, n, M]``; fills in their sums, and their offset where it is their maximum."""
        rows, columns = self.q[:, block], self.k.transpose(1, 2)
        shape = (rows.shape[0], rows.shape[1], columns.shape[2])
        e = self.room[: math.prod(shape)].view(shape)
        if self.alone:
            torch.bmm(rows * self.scale, columns, out=e)
            self.offset = e.amax(-1)
            e.sub_(self.offset[..., None])
        else:
            added = -self.offset[:, block, None]
            if self.bias is not None:
                added = added + self.bias[:, block]
            torch.baddbmm(added, rows, columns, alpha=self.scale, out=e)
        self.row[:, block] = e.exp_().sum(-1)
        return e

    def _weight(self, block: slice) -> Tensor:
        """w of the positions that count, ``[g, n]``."""
        base = self.offset.amax(-1, keepdim=True)
        return (self.offset[:, block] - base).exp() * (self.gain[block] != 0)

    def _thin(self, block: slice) -> Tensor:
        """What the columns of E are summed with, ``[g, 3 or 5, n]``: share, paper, w, and both in scope."""
        row = self.row[:, block]
        whole = row if self.alone else torch.ones_like(row)  # E divided by this is the model's softmax
        counted = (self.gain != 0).to(row.dtype)
        gain = self.gain / len(self.gain)
        thin = [gain[block] / whole, _mean(counted)[block] / row, self._weight(block)]
        if self.scope is not None:
            thin += [(self.gain * _mean(self.scope))[block] / whole, _mean(self.scope * counted)[block] / row]
        return torch.stack(thin, 1)

    def _sums(self, block: slice, e: Tensor | None) -> Tensor:
        """What the columns of E sum to, ``[g, 3 or 5, M]``."""
        e = self._exponentials(block) if e is None else e
        return torch.bmm(self._thin(block), e)

    def _columns(self, block: slice, e: Tensor | None, safe: Tensor) -> None:
        """Softmax over positions, which needs the complete denominators; and the pair maps."""
        e = self._exponentials(block) if e is None else e
        weight = self._weight(block)
        over_rows = torch.bmm(e, 1 / self.denominator[..., None])[..., 0]
        self.maps["r2g_paper"][:, block] = weight * over_rows / e.shape[-1]
        if self.pair_rows is None:
            return
        here = ((self.pair_rows >= block.start) & (self.pair_rows < block.stop)).nonzero().flatten()
        counted = (self.gain[block] != 0) / self.row[:, block]
        for head in safe.nonzero().flatten().tolist():
            for places in here.split(max(1, PAIR_BYTES // (e.element_size() * e.shape[2]))):
                rows = self.pair_rows[places] - block.start
                chosen = e[head, rows]  # [a, M]
                by_column = chosen / self.denominator[head] * (weight[head, rows, None] / self.heads_of_all)
                self.pairs["r2g_pairs"].index_add_(0, places, by_column)
                by_row = chosen.mul_(counted[head, rows, None] / self.heads_of_all)
                self.pairs["g2r_pairs"].index_add_(0, places, by_row)


def _mean(weights: Tensor) -> Tensor:
    """Weights that sum to 1, or 0 where all are 0."""
    return weights / weights.sum().clamp(min=1)
