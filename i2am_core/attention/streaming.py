"""The maps of one head, row by row: slower than ``products``, and right for any numbers.

Every softmax subtracts its own maximum first, so that nothing that matters underflows. There are two passes over the
rows, since the columns' denominators must be complete before they can be used.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from .columns import ReferenceColumns


def marginals(c: ReferenceColumns, item: int, head: int, chunk_bytes: int) -> dict[str, Tensor]:
    """The maps of one head of one item, by their names in ``marginals.Marginals``; ``c.total`` must be known."""
    rows = _Rows(c, item, head, chunk_bytes)
    maps, highest, denominator = _over_columns(rows)
    return maps | _over_positions(rows, highest, denominator)


class _Rows:
    """The rows of one head: N positions that look at M reference tokens."""

    def __init__(self, c: ReferenceColumns, item: int, head: int, chunk_bytes: int) -> None:
        assert c.total is not None
        self.q, self.k, self.total = c.q[item, head], c.k[item, head], c.total[item, head]
        self.scale, self.pair_rows = c.scale, c.pair_rows
        self.bias = None if c.bias is None else c.bias[item, head]
        self.scope = None if c.scope is None else c.scope[item].to(self.total.dtype)
        self.gain = c.gain[item].to(self.total.dtype)
        self.size = max(1, chunk_bytes // (self.total.element_size() * max(1, len(self.k))))

    def zeros(self, *shape: int) -> Tensor:
        return self.total.new_zeros(shape)

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """Some rows at a time, and their logits; of positions that do not count, all are -inf."""
        columns = self.k.to(self.total.dtype).T
        for start in range(0, len(self.q), self.size):
            part = slice(start, start + self.size)
            logits = (self.q[part].to(self.total.dtype) * self.scale) @ columns
            logits = logits if self.bias is None else logits + self.bias[part]
            yield part, torch.where((self.gain != 0)[part, None], logits, -torch.inf)

    def put_pairs(self, pairs: Tensor | None, part: slice, weights: Tensor) -> None:
        """Put the weights of those rows of a chunk whose pair maps are kept into ``pairs [A, M]``."""
        if pairs is not None and self.pair_rows is not None:
            in_part = (self.pair_rows >= part.start) & (self.pair_rows < part.stop)
            pairs[in_part] = weights[self.pair_rows[in_part] - part.start]


def _over_columns(rows: _Rows) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """The maps that need softmaxes over columns; and of each column its highest logit, and its denominator over it."""
    n, m = len(rows.q), len(rows.k)
    inside = rows.zeros(n) if rows.scope is None else rows.scope
    share_of_row = rows.zeros(n)
    attending = rows.zeros(n)  # 1 where a position may attend to the reference
    sums = rows.zeros(4, m)  # share, paper, and both in scope
    highest = rows.zeros(m) - torch.inf  # logit of each column so far
    denominator = rows.zeros(m)  # sum of exp(S - highest)
    pairs = None if rows.pair_rows is None else rows.zeros(len(rows.pair_rows), m)
    for part, logits in rows.chunks():
        share, paper = (logits - _finite(rows.total[part])[:, None]).exp(), _softmax(logits)
        share_of_row[part] = share.sum(-1)
        attending[part] = paper.sum(-1).round()
        weights, gains = inside[part], rows.gain[part]
        sums += torch.stack([gains @ share, paper.sum(0), (weights * gains) @ share, weights @ paper])
        raised = torch.maximum(highest, logits.amax(0))
        base = _finite(raised)
        denominator = denominator * (highest - base).exp() + (logits - base).exp().sum(0)
        highest = raised
        rows.put_pairs(pairs, part, paper)
    maps = {
        "r2g_share": share_of_row.clamp(max=1) * rows.gain,
        "g2r_share": sums[0] / max(1, n),
        "g2r_paper": sums[1] / attending.sum().clamp(min=1),
    }
    if rows.scope is not None:
        maps["g2r_share_scope"] = sums[2] / inside.sum().clamp(min=1)
        maps["g2r_paper_scope"] = sums[3] / (attending * inside).sum().clamp(min=1)
    return maps if pairs is None else maps | {"g2r_pairs": pairs}, highest, denominator


def _over_positions(rows: _Rows, highest: Tensor, denominator: Tensor) -> dict[str, Tensor]:
    """The maps that need softmaxes over positions, whose denominators are those of the columns."""
    r2g = rows.zeros(len(rows.q))
    pairs = None if rows.pair_rows is None else rows.zeros(len(rows.pair_rows), len(rows.k))
    attended = (denominator > 0).sum().clamp(min=1)  # tokens that any position may attend to
    inverse = torch.where(denominator > 0, 1 / denominator, 0)
    for part, logits in rows.chunks():
        of_column = (logits - _finite(highest)).exp() * inverse
        r2g[part] = of_column.sum(-1) / attended
        rows.put_pairs(pairs, part, of_column)
    return {"r2g_paper": r2g} if pairs is None else {"r2g_paper": r2g, "r2g_pairs": pairs}


def _softmax(logits: Tensor) -> Tensor:
    """Softmax over the last axis, and 0 where everything is masked."""
    return torch.where(logits.amax(-1, keepdim=True) > -torch.inf, logits.softmax(-1), 0)


def _finite(highest: Tensor) -> Tensor:
    """A maximum or log-sum-exp that can be subtracted: 0 where everything is masked."""
    return torch.where(highest > -torch.inf, highest, 0)
