"""The maps of a few heads as thin products with one exponential: fast, where no number leaves float32.

The formulas are at the top of ``attention``. One sweep over the rows where the exponentials of a head fit the
chunk; else two, since the columns' denominators must be complete before they are used.
"""

import torch
from torch import Tensor

from .columns import ReferenceColumns

SMALLEST = 1e-30  # a sum below this may have lost terms to underflow


def fill(c: ReferenceColumns, maps: dict[str, Tensor], item: int, heads: slice, chunk_bytes: int) -> list[int]:
    """Fill in the maps of some heads of one item; return the heads that need ``streaming`` instead."""
    found = _Products(c, item, heads, chunk_bytes)
    safe = found.run()
    for name, values in found.maps.items():
        if name.endswith("_pairs"):
            maps[name][item] += values
        else:
            maps[name][item, heads] = values
    return [heads.start + head for head in (~safe).nonzero().flatten().tolist()]


class _Products:
    """g heads at a time; N and M as in ``ReferenceColumns``."""

    def __init__(self, c: ReferenceColumns, item: int, heads: slice, chunk_bytes: int) -> None:
        self.alone = c.total is None
        self.q, self.k = (x[item, heads].to(c.dtype) for x in (c.q, c.k))  # [g, N, D], [g, M, D]
        self.scale, self.pair_rows, self.heads_of_all = c.scale, c.pair_rows, c.shape[1]
        self.bias = None if c.bias is None else c.bias[item, heads]
        self.gain = c.gain[item].to(c.dtype)  # [N]
        self.scope = None if c.scope is None else c.scope[item].to(c.dtype)
        g, n, m = self.q.shape[0], self.q.shape[1], self.k.shape[1]
        size = n if self.alone else max(1, chunk_bytes // (c.head_bytes // n * g))
        self.blocks = [slice(start, min(n, start + size)) for start in range(0, n, size)]
        self.offset = self.q.new_empty(g, n)  # what is taken off a row's logits: L, or its maximum
        if c.total is not None:
            total = c.total[item, heads]
            self.offset = torch.where(total > -torch.inf, total, 0)  # rows that see nothing get a share of 0
        self.row = self.q.new_empty(g, n)  # sums of E
        self.maps: dict[str, Tensor] = {"r2g_paper": self.q.new_empty(g, n)}
        if self.pair_rows is not None:
            self.maps |= {name: self.q.new_zeros(len(self.pair_rows), m) for name in ("g2r_pairs", "r2g_pairs")}

    def run(self) -> Tensor:
        """All maps; returns which heads can be trusted, ``[g]``."""
        sums: Tensor | None = None
        for block in self.blocks:
            e = self._exponentials(block)
            part = torch.bmm(self._thin(block), e)
            sums = part if sums is None else sums + part
        assert sums is not None
        self.denominator = sums[:, 2]
        safe = (self.row.amin(-1) > SMALLEST) & (self.denominator.amin(-1) > SMALLEST)
        for block in self.blocks:
            if len(self.blocks) > 1:
                e = self._exponentials(block)
            self._columns(block, e, safe)
        share = torch.ones_like(self.row) if self.alone else self.row.clamp(max=1)
        self.maps |= {"r2g_share": share * self.gain, "g2r_share": sums[:, 0], "g2r_paper": sums[:, 1]}
        if self.scope is not None:
            self.maps |= {"g2r_share_scope": sums[:, 3], "g2r_paper_scope": sums[:, 4]}
        return safe

    def _exponentials(self, block: slice) -> Tensor:
        """E of some rows, ``[g, n, M]``; fills in their sums, and their offset where it is their maximum."""
        rows, columns = self.q[:, block], self.k.transpose(1, 2)
        if self.alone:
            e = torch.bmm(rows * self.scale, columns)
            self.offset = e.amax(-1)
            e.sub_(self.offset[..., None])
        else:
            added = -self.offset[:, block, None]
            if self.bias is not None:
                added = added + self.bias[:, block]
            e = torch.baddbmm(added, rows, columns, alpha=self.scale)
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

    def _columns(self, block: slice, e: Tensor, safe: Tensor) -> None:
        """Softmax over positions, which needs the complete denominators; and the pair maps."""
        weight = self._weight(block)
        over_rows = torch.bmm(e, 1 / self.denominator[..., None])[..., 0]
        self.maps["r2g_paper"][:, block] = weight * over_rows / e.shape[-1]
        if self.pair_rows is None:
            return
        here = (self.pair_rows >= block.start) & (self.pair_rows < block.stop)
        rows = self.pair_rows[here] - block.start
        chosen = e[:, rows]
        counted = (self.gain[block] != 0)[rows, None]
        by_row = chosen * counted / self.row[:, block][:, rows, None]
        by_column = chosen * weight[:, rows, None] / self.denominator[:, None]
        for name, values in (("g2r_pairs", by_row), ("r2g_pairs", by_column)):
            self.maps[name][here] += values[safe].sum(0) / self.heads_of_all


def _mean(weights: Tensor) -> Tensor:
    """Weights that sum to 1, or 0 where all are 0."""
    return weights / weights.sum().clamp(min=1)
