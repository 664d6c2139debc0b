"""The maps of some heads, right for any numbers, without a decision on the host: for devices that it would wait for.

Rows and columns each subtract their own maximum, so that nothing that matters underflows. That takes two exponentials,
where ``products`` takes one, and asks which heads have lost something. Here nothing depends on values: neither what
runs, nor a shape. One product of the rows where the logits of the heads fit ``chunk_bytes``; else two, since the
columns' denominators must be complete before they are used.
"""

import torch
from torch import Tensor

from ..kinds import PAIR_KEYS
from ..tokens import Index
from . import half_products
from .columns import ReferenceColumns


def fill(c: ReferenceColumns, maps: dict[str, Tensor], chunk_bytes: int) -> str:
    """Fill in all maps, by their names in ``marginals.Marginals``, as many heads at a time as fit ``chunk_bytes``.

    Where queries or keys are not numbers, the shares of their rows are none. Returns in words how these are multiplied.
    """
    batch, heads = c.shape[:2]
    at_once = max(1, chunk_bytes // max(1, c.head_size * c.dtype.itemsize))
    for item in range(batch):
        for start in range(0, heads, at_once):
            part = slice(start, min(heads, start + at_once))
            for name, values in _Heads(c, item, part, chunk_bytes).run().items():
                if name in PAIR_KEYS:
                    maps[name][item] += values / heads
                else:
                    maps[name][item, part] = values
    return half_products.NAME if half_products.serve(c.q, c.k) else half_products.OTHER


class _Heads:
    """g heads of one item; N and M as in ``ReferenceColumns``."""

    def __init__(self, c: ReferenceColumns, item: int, heads: slice, chunk_bytes: int) -> None:
        self.q, self.k = c.q[item, heads], c.k[item, heads]  # [g, N, D], [g, M, D]
        if not half_products.serve(c.q, c.k):
            self.q, self.k = self.q.to(c.dtype), self.k.to(c.dtype)
        self.total = None if c.total is None else c.total[item, heads]
        self.bias = None if c.bias is None else c.bias[item, heads]
        self.scope = None if c.scope is None else c.scope[item].to(c.dtype)
        self.gain, self.scale, self.pair_rows = c.gain[item].to(c.dtype), c.scale, c.pair_rows
        g, n, m = self.q.shape[0], self.q.shape[1], self.k.shape[1]
        self.rows = max(1, chunk_bytes // max(1, c.dtype.itemsize * g * m))  # whose logits exist at a time
        self.share, self.attending, self.over_rows = (self.gain.new_empty(g, n) for _ in range(3))
        self.sums = self.gain.new_zeros(g, 2 if self.scope is None else 4, m)  # share, paper, and both in scope
        self.highest = self.gain.new_full((g, 1, m), -torch.inf)  # logit of each column so far
        self.denominator = self.gain.new_zeros(g, 1, m)  # sum of exp(S - highest)

    def run(self) -> dict[str, Tensor]:
        """All maps, ``[g, ...]``; of pair maps ``[A, M]`` the sum over the heads."""
        n = self.q.shape[1]
        blocks = [slice(start, min(n, start + self.rows)) for start in range(0, n, self.rows)]
        for block in blocks:
            logits = self._logits(block)
            self._add_rows(block, logits)
            of_columns = self._add_columns(logits)
        self.inverse = torch.where(self.denominator > 0, 1 / self.denominator, 0)
        attended = (self.denominator > 0).sum(2).clamp(min=1)  # tokens that any position may attend to
        for block in blocks:
            if len(blocks) > 1:
                of_columns = self._over_positions(self._logits(block))
            self.over_rows[:, block] = torch.bmm(of_columns, self.inverse.mT)[..., 0] / attended
        return self._means() | {"r2g_paper": self.over_rows} | self._pairs()

    def _logits(self, rows: Index) -> Tensor:
        """``[g, n, M]`` of some rows; of positions that do not count, all are -inf."""
        added = torch.where(self.gain[rows] != 0, 0, -torch.inf)[:, None].to(self.gain.dtype)
        if self.bias is not None:
            added = added + self.bias[:, rows]
        return half_products.logits(added, self.q[:, rows], self.k, self.scale)

    def _add_rows(self, block: slice, logits: Tensor) -> None:
        """What needs softmaxes over columns."""
        e, highest, row_sum = _exponentials(logits)
        nowhere = highest == -torch.inf
        attending = (~nowhere).to(e.dtype)  # 1 where a position may attend to the reference
        paper = attending / torch.where(nowhere, 1, row_sum)  # times e: the softmax over the reference
        share = paper  # times e: that over all columns
        if self.total is not None:
            total = torch.where(self.total[:, block] == -torch.inf, 0, self.total[:, block])
            share = (highest - total).exp()
        gain = self.gain[block]
        self.share[:, block] = (share * row_sum).clamp(max=1) * gain
        self.attending[:, block] = attending
        thin = [gain * share, paper]
        if self.scope is not None:
            thin += [self.scope[block] * x for x in thin]
        self.sums += torch.bmm(torch.stack(thin, 1), e)

    def _add_columns(self, logits: Tensor) -> Tensor:
        """What needs softmaxes over positions: ``exp(S - highest)``, in the place of the logits."""
        before, self.highest = self.highest, torch.maximum(self.highest, logits.amax(1, keepdim=True))
        e = self._over_positions(logits)
        self.denominator = self.denominator * (before - _finite(self.highest)).exp() + e.sum(1, keepdim=True)
        return e

    def _over_positions(self, logits: Tensor) -> Tensor:
        return logits.sub_(_finite(self.highest)).exp_()

    def _means(self) -> dict[str, Tensor]:
        """The maps that need softmaxes over columns."""
        share, paper, *in_scope = self.sums.unbind(1)
        maps = {
            "r2g_share": self.share,
            "g2r_share": share / self.q.shape[1],
            "g2r_paper": paper / self.attending.sum(-1, keepdim=True).clamp(min=1),
        }
        if self.scope is not None:
            maps["g2r_share_scope"] = in_scope[0] / self.scope.sum().clamp(min=1)
            maps["g2r_paper_scope"] = in_scope[1] / (self.attending * self.scope).sum(-1, keepdim=True).clamp(min=1)
        return maps

    def _pairs(self) -> dict[str, Tensor]:
        """The pair maps, from their rows alone: when the columns' denominators are complete."""
        if self.pair_rows is None:
            return {}
        by_row, by_column = [], []
        for rows in self.pair_rows.split(self.rows):
            logits = self._logits(rows)
            e, highest, row_sum = _exponentials(logits)
            by_row.append((e / torch.where(highest == -torch.inf, 1, row_sum)[..., None]).sum(0))
            by_column.append((self._over_positions(logits) * self.inverse).sum(0))
        return {"g2r_pairs": torch.cat(by_row), "r2g_pairs": torch.cat(by_column)}


def _exponentials(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``exp(S - highest)`` of each row, its highest logit, and the sum: 0 where everything is masked."""
    highest = logits.amax(-1)
    e = (logits - _finite(highest)[..., None]).exp_()
    return e, highest, e.sum(-1)


def _finite(highest: Tensor) -> Tensor:
    """A maximum that can be subtracted: 0 where everything is masked."""
    return torch.where(highest == -torch.inf, 0, highest)
