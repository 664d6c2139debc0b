"""The maps of a few heads as thin products with one exponential: fast, where no number leaves float32.

The formulas are at the top of ``marginals``. One pass over the rows where the exponentials of a head fit the
buffer; else two, since the columns' denominators must be complete before they are used.
"""

import math

import torch
from torch import Tensor

from ..kinds import PAIR_KEYS
from .columns import ReferenceColumns

PAIR_BYTES = 4 * 2**20  # of pair maps that are computed at a time
SMALLEST_SUM = 1e-30  # a sum below this may have lost terms to underflow


def fill(c: ReferenceColumns, maps: dict[str, Tensor], item: int, heads: slice, buffer: Tensor) -> list[int]:
    """Fill in the maps of some heads of one item; return the heads that need ``streaming`` instead.

    Exponentials are written into ``buffer``, as many at a time as it has elements: at least M.
    """
    products = _Products(c, item, heads, buffer)
    products.pairs = {name: maps[name][item] for name in PAIR_KEYS if name in maps}
    in_range = products.run()
    for name, values in products.maps.items():
        maps[name][item, heads] = values
    return [heads.start + head for head in (~in_range).nonzero().flatten().tolist()]


class _Products:
    """g heads at a time; N and M as in ``ReferenceColumns``."""

    def __init__(self, c: ReferenceColumns, item: int, heads: slice, buffer: Tensor) -> None:
        self.all_keys = c.total is None  # the reference's tokens are all keys: nothing else is in the softmax
        self.q, self.k = (x[item, heads].to(c.dtype) for x in (c.q, c.k))  # [g, N, D], [g, M, D]
        self.scale, self.pair_rows, self.all_heads = c.scale, c.pair_rows, c.shape[1]
        self.bias = None if c.bias is None else c.bias[item, heads]
        self.gain = c.gain[item].to(c.dtype)  # [N]
        self.scope = None if c.scope is None else c.scope[item].to(c.dtype)
        g, n = self.q.shape[:2]
        self.buffer = buffer
        size = min(n, len(buffer) // (g * c.shape[3]))
        self.blocks = [slice(start, min(n, start + size)) for start in range(0, n, size)]  # of rows
        self.offset = self.q.new_empty(g, n)  # what is subtracted from a row's logits: L, or its maximum
        if c.total is not None:
            total = c.total[item, heads]
            self.offset = torch.where(total > -torch.inf, total, 0)  # rows that are masked as a whole get a share of 0
        self.row_sum = self.q.new_empty(g, n)  # of E
        self.maps: dict[str, Tensor] = {"r2g_paper": self.q.new_empty(g, n)}
        self.pairs: dict[str, Tensor] = {}  # sums over heads, which these heads are added to

    def run(self) -> Tensor:
        """Compute all maps; returns the heads in which no sum has lost anything to underflow, boolean ``[g]``."""
        e = self._exponentials(self.blocks[0]) if len(self.blocks) == 1 else None  # else once in each pass
        sums = sum(self._sums(block, e) for block in self.blocks)
        assert isinstance(sums, Tensor)
        self.denominator = sums[:, 2]
        in_range = (self.row_sum.amin(-1) > SMALLEST_SUM) & (self.denominator.amin(-1) > SMALLEST_SUM)
        for block in self.blocks:
            self._columns(block, e, in_range)
        share = torch.ones_like(self.row_sum) if self.all_keys else self.row_sum.clamp(max=1)
        self.maps |= {"r2g_share": share * self.gain, "g2r_share": sums[:, 0], "g2r_paper": sums[:, 1]}
        if self.scope is not None:
            self.maps |= {"g2r_share_scope": sums[:, 3], "g2r_paper_scope": sums[:, 4]}
        return in_range

    def _exponentials(self, block: slice) -> Tensor:
        """E of some rows, ``[g, n, M]``, in the buffer. Fills in their sums, and the offset that is their maximum."""
        rows, columns = self.q[:, block], self.k.transpose(1, 2)
        shape = (rows.shape[0], rows.shape[1], columns.shape[2])
        e = self.buffer[: math.prod(shape)].view(shape)
        if self.all_keys:
            torch.bmm(rows * self.scale, columns, out=e)
            self.offset = e.amax(-1)
            e.sub_(self.offset[..., None])
        else:
            added = -self.offset[:, block, None]
            if self.bias is not None:
                added = added + self.bias[:, block]
            torch.baddbmm(added, rows, columns, alpha=self.scale, out=e)
        self.row_sum[:, block] = e.exp_().sum(-1)
        return e

    def _weight(self, block: slice) -> Tensor:
        """w of the positions that count, ``[g, n]``."""
        base = self.offset.amax(-1, keepdim=True)
        return (self.offset[:, block] - base).exp() * (self.gain[block] != 0)

    def _thin(self, block: slice) -> Tensor:
        """The weights that columns of E are summed with, ``[g, 3 or 5, n]``: share, paper, w, and both in scope."""
        row_sum = self.row_sum[:, block]
        softmax_sum = row_sum if self.all_keys else torch.ones_like(row_sum)  # E over this is the model's softmax
        counts = (self.gain != 0).to(row_sum.dtype)
        gain = self.gain / len(self.gain)
        thin = [gain[block] / softmax_sum, _mean(counts)[block] / row_sum, self._weight(block)]
        if self.scope is not None:
            in_scope = self.gain * _mean(self.scope)
            thin += [in_scope[block] / softmax_sum, _mean(self.scope * counts)[block] / row_sum]
        return torch.stack(thin, 1)

    def _sums(self, block: slice, e: Tensor | None) -> Tensor:
        """The sums of the columns of E with each of these weights, ``[g, 3 or 5, M]``."""
        e = self._exponentials(block) if e is None else e
        return torch.bmm(self._thin(block), e)

    def _columns(self, block: slice, e: Tensor | None, in_range: Tensor) -> None:
        """The softmax over positions, which needs the complete denominators; and the pair maps."""
        e = self._exponentials(block) if e is None else e
        weight = self._weight(block)
        over_rows = torch.bmm(e, 1 / self.denominator[..., None])[..., 0]
        self.maps["r2g_paper"][:, block] = weight * over_rows / e.shape[-1]
        if self.pair_rows is None:
            return
        in_block = ((self.pair_rows >= block.start) & (self.pair_rows < block.stop)).nonzero().flatten()
        row_weight = (self.gain[block] != 0) / self.row_sum[:, block]
        for head in in_range.nonzero().flatten().tolist():
            for part in in_block.split(max(1, PAIR_BYTES // (e.element_size() * e.shape[2]))):
                rows = self.pair_rows[part] - block.start
                chosen = e[head, rows]  # [a, M]
                by_column = chosen / self.denominator[head] * (weight[head, rows, None] / self.all_heads)
                self.pairs["r2g_pairs"].index_add_(0, part, by_column)
                by_row = chosen.mul_(row_weight[head, rows, None] / self.all_heads)
                self.pairs["g2r_pairs"].index_add_(0, part, by_row)


def _mean(weights: Tensor) -> Tensor:
    """Weights ``[N]`` of 0 and 1, scaled to sum to 1; where all are 0, they stay so."""
    return weights / weights.sum().clamp(min=1)
