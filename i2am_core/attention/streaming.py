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
    assert c.total is not None
    q, k, total, pair_rows = c.q[item, head], c.k[item, head], c.total[item, head], c.pair_rows
    bias = None if c.bias is None else c.bias[item, head]
    n, m, dtype, device = q.shape[0], k.shape[0], total.dtype, q.device
    size = max(1, chunk_bytes // (total.element_size() * max(1, m)))
    gain = c.gain[item].to(dtype)
    counts = gain != 0  # the positions that do

    def chunks() -> Iterator[tuple[slice, Tensor]]:
        columns = k.to(dtype).T
        for start in range(0, n, size):
            part = slice(start, start + size)
            logits = (q[part].to(dtype) * c.scale) @ columns
            yield part, logits if bias is None else logits + bias[part]

    share_of_row = torch.zeros(n, dtype=dtype, device=device)
    attending = torch.zeros(n, dtype=dtype, device=device)  # 1 where a position may attend to the reference
    sums = torch.zeros(4, m, dtype=dtype, device=device)  # share, paper, and both in scope
    inside = torch.zeros(n, dtype=dtype, device=device) if c.scope is None else c.scope[item].to(dtype)
    highest = torch.full((m,), -torch.inf, dtype=dtype, device=device)  # logit of each column so far
    denominator = torch.zeros(m, dtype=dtype, device=device)  # sum of exp(S - highest)
    pairs = None if pair_rows is None else torch.zeros(2, len(pair_rows), m, dtype=dtype, device=device)

    for part, logits in chunks():
        logits = torch.where(counts[part, None], logits, -torch.inf)
        share, paper = (logits - _finite(total[part])[:, None]).exp(), _softmax(logits)
        share_of_row[part] = share.sum(-1)
        attending[part] = paper.sum(-1).round()
        weights, gains = inside[part], gain[part]
        sums += torch.stack([gains @ share, paper.sum(0), (weights * gains) @ share, weights @ paper])
        raised = torch.maximum(highest, logits.amax(0))
        base = _finite(raised)
        denominator = denominator * (highest - base).exp() + (logits - base).exp().sum(0)
        highest = raised
        if pairs is not None and pair_rows is not None:
            in_part = (pair_rows >= part.start) & (pair_rows < part.stop)
            pairs[0, in_part] = paper[pair_rows[in_part] - part.start]

    r2g = torch.zeros(n, dtype=dtype, device=device)
    attended = (denominator > 0).sum().clamp(min=1)  # tokens that any position may attend to
    inverse = torch.where(denominator > 0, 1 / denominator, 0)
    for part, logits in chunks():
        logits = torch.where(counts[part, None], logits, -torch.inf)
        of_column = (logits - _finite(highest)).exp() * inverse
        r2g[part] = of_column.sum(-1) / attended
        if pairs is not None and pair_rows is not None:
            in_part = (pair_rows >= part.start) & (pair_rows < part.stop)
            pairs[1, in_part] = of_column[pair_rows[in_part] - part.start]

    maps = {
        "r2g_share": share_of_row.clamp(max=1) * gain,
        "r2g_paper": r2g,
        "g2r_share": sums[0] / max(1, n),
        "g2r_paper": sums[1] / attending.sum().clamp(min=1),
    }
    if c.scope is not None:
        maps["g2r_share_scope"] = sums[2] / inside.sum().clamp(min=1)
        maps["g2r_paper_scope"] = sums[3] / (attending * inside).sum().clamp(min=1)
    if pairs is not None:
        maps |= {"g2r_pairs": pairs[0], "r2g_pairs": pairs[1]}
    return maps


def _softmax(logits: Tensor) -> Tensor:
    """Softmax over the last axis, and 0 where everything is masked."""
    return torch.where(logits.amax(-1, keepdim=True) > -torch.inf, logits.softmax(-1), 0)


def _finite(highest: Tensor) -> Tensor:
    """A maximum or log-sum-exp that can be subtracted: 0 where everything is masked."""
    return torch.where(highest > -torch.inf, highest, 0)
