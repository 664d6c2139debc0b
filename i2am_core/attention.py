"""From queries and keys to attribution: exact, in float32, without ever holding queries x keys.

With ``S = scale * q k^T + bias``, ``P`` its softmax over *all* keys, and reference columns j only, the four
maps of I2AM (Park & Jang, ICLR 2025, section 3) are

    share R2G[i] = sum_j P[i, j]                      the attention of position i that went to the reference
    share G2R[j] = mean_i P[i, j]
    paper G2R[j] = mean_i softmax_j S[i, j]           rows renormalized to the reference
    paper R2G[i] = mean_j softmax_i S[i, j]           columns renormalized to the generated positions

Rows are read in chunks. The first sweep gives everything but the last line, for which the columns'
denominators must be complete first: a second sweep, over reference columns only, uses them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .tokens import Index, TokenGroup

CHUNK_BYTES = 32 * 2**20  # logits held at a time


@dataclass(frozen=True)
class Marginals:
    """Attribution of one attention call to one reference, for each batch item and head.

    N generated positions, M reference tokens. The paper maps sum to 1. ``*_scope`` is the same mean as
    its namesake over the positions in scope only. ``pairs`` is the head-mean of ``softmax_j S[i, j]`` for
    the rows asked for.
    """

    r2g_paper: Tensor  # [B, H, N]
    r2g_share: Tensor  # [B, H, N], in [0, 1]
    g2r_paper: Tensor  # [B, H, M]
    g2r_share: Tensor  # [B, H, M]
    g2r_paper_scope: Tensor | None = None  # [B, H, M]
    g2r_share_scope: Tensor | None = None  # [B, H, M]
    pairs: Tensor | None = None  # [B, A, M]


def split_heads(x: Tensor, heads: int, batch: int) -> Tensor:
    """Queries or keys in any of the usual layouts to ``[batch, heads, tokens, dim]``.

    Takes ``[b, tokens, heads * dim]`` or ``[b, heads, tokens, dim]``. Where b is a multiple of ``batch``, as
    when several references were given as extra rows, neighbouring rows are joined into one longer list
    of tokens; where there are fewer heads than ``heads`` (grouped queries), they are repeated.
    """
    given = tuple(x.shape)
    if x.ndim == 3 and given[-1] % heads == 0:
        x = x.unflatten(-1, (heads, -1)).transpose(1, 2)
    if x.ndim != 4 or x.shape[0] % batch or heads % x.shape[1]:
        raise ValueError(
            f"got a tensor of shape {given} for batch {batch} and {heads} heads: expected "
            "[batch, tokens, heads * dim] or [batch, heads, tokens, dim], or a whole multiple of that batch."
        )
    if x.shape[0] != batch:
        x = x.unflatten(0, (batch, -1)).transpose(1, 2).flatten(2, 3)
    if x.shape[1] != heads:
        x = x.repeat_interleave(heads // x.shape[1], dim=1)
    return x


def attribute(
    q: Tensor,
    k: Tensor,
    references: Sequence[TokenGroup],
    *,
    queries: Index = slice(None),
    scale: float | None = None,
    bias: Tensor | None = None,
    scope: Tensor | None = None,
    pair_rows: Tensor | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> list[Marginals]:
    """Attribute one attention call to each of its references.

    ``q [B, H, Nq, D]`` and ``k [B, H, K, D]``; ``queries`` are the rows that are generated positions, N of
    them. ``scale`` defaults to ``D ** -0.5``. ``bias`` is what attention adds to the logits, or a boolean mask
    of the keys that count; it broadcasts to ``[B, H, Nq, K]``. ``scope [B, N]`` (boolean) asks for the G2R of
    some positions alone, ``pair_rows [A]`` for the pair map of some positions, numbered within the N.

    A position that may look at no reference token has no G2R of its own and does not count in the mean;
    nor does a reference token that no position may look at, in R2G.
    """
    rows = _Logits(q, k, queries, scale, bias)
    chunk = max(1, chunk_bytes // (4 * q.shape[0] * q.shape[1] * k.shape[2]))
    sums = [_Sums(rows, group, scope, pair_rows) for group in references]

    for start, logits in rows.chunks(chunk, slice(None)):
        probabilities = _softmax(logits)
        for part in sums:
            part.add(start, logits[..., part.group.index], probabilities[..., part.group.index])
    for part in sums:
        for start, logits in rows.chunks(chunk, part.group.index):
            part.add_columns(start, logits)
    return [part.finish() for part in sums]


class _Logits:
    """The rows of ``S``, computed a chunk at a time in float32 (or float64 where q is)."""

    def __init__(self, q: Tensor, k: Tensor, queries: Index, scale: float | None, bias: Tensor | None) -> None:
        self.q = q[:, :, queries]
        self.dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
        self.k = k.to(self.dtype)
        self.scale = q.shape[-1] ** -0.5 if scale is None else scale
        self.bias = None
        if bias is not None:
            bias = bias if bias.dtype != torch.bool else _mask_to_bias(bias, self.dtype)
            bias = bias.to(self.dtype).expand(*q.shape[:3], k.shape[2])
            self.bias = bias[:, :, queries]
        self.count = self.q.shape[2]

    def chunks(self, size: int, columns: Index) -> Iterator[tuple[int, Tensor]]:
        """Yield ``(first row, logits [B, H, <= size, columns])``."""
        keys = self.k[:, :, columns].transpose(-1, -2)
        for start in range(0, self.count, size):
            chunk = slice(start, start + size)
            logits = (self.q[:, :, chunk].to(self.dtype) * self.scale) @ keys
            if self.bias is not None:
                logits = logits + self.bias[:, :, chunk][..., columns]
            yield start, logits


class _Sums:
    """Running sums of one reference's maps over chunks of rows."""

    def __init__(self, rows: _Logits, group: TokenGroup, scope: Tensor | None, pair_rows: Tensor | None) -> None:
        batch, heads = rows.q.shape[:2]
        self.group = group
        self.scope = None if scope is None else scope.to(rows.q.device)[:, None, :]  # [B, 1, N]
        self.pair_rows = None if pair_rows is None else pair_rows.to(rows.q.device)

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(batch, *shape, dtype=rows.dtype, device=rows.q.device)

        self.r2g_share, self.r2g_paper = zeros(heads, rows.count), zeros(heads, rows.count)
        self.share, self.paper = zeros(heads, group.count), zeros(heads, group.count)
        self.scope_share, self.scope_paper = zeros(heads, group.count), zeros(heads, group.count)
        self.column_max = zeros(heads, group.count) - torch.inf  # over positions, so far
        self.column_sum = zeros(heads, group.count)  # of exp(S - column_max)
        self.looking = zeros(heads, rows.count)  # 1 for positions that may look at the reference
        self.pairs = None if pair_rows is None else zeros(len(pair_rows), group.count)

    def add(self, start: int, logits: Tensor, share: Tensor) -> None:
        """First sweep, rows from ``start``: ``logits [B, H, n, M]`` and their softmax over all keys."""
        chunk = slice(start, start + logits.shape[2])
        paper = _softmax(logits)
        self.r2g_share[:, :, chunk] = share.sum(-1)
        self.looking[:, :, chunk] = paper.sum(-1).round()
        self.share += share.sum(-2)
        self.paper += paper.sum(-2)
        if self.scope is not None:
            inside = self.scope[:, :, chunk, None].to(share.dtype)
            self.scope_share += (share * inside).sum(-2)
            self.scope_paper += (paper * inside).sum(-2)
        highest = torch.maximum(self.column_max, logits.amax(-2))
        base = _finite(highest)
        self.column_sum = self.column_sum * (self.column_max - base).exp() + (logits - base[:, :, None]).exp().sum(-2)
        self.column_max = highest
        if self.pairs is not None and self.pair_rows is not None:
            here = (self.pair_rows >= chunk.start) & (self.pair_rows < chunk.stop)
            self.pairs[:, here] = paper.mean(1)[:, self.pair_rows[here] - start]

    def add_columns(self, start: int, logits: Tensor) -> None:
        """Second sweep, with the columns' denominators complete."""
        chunk = slice(start, start + logits.shape[2])
        seen = (self.column_sum > 0).sum(-1, keepdim=True).clamp(min=1)
        weight = torch.where(self.column_sum > 0, 1 / self.column_sum, 0)[:, :, None]
        share_of_column = (logits - _finite(self.column_max)[:, :, None]).exp() * weight
        self.r2g_paper[:, :, chunk] = share_of_column.sum(-1) / seen

    def finish(self) -> Marginals:
        count = self.r2g_share.shape[2]
        looking = self.looking.sum(-1, keepdim=True).clamp(min=1)
        maps = Marginals(
            r2g_paper=self.r2g_paper,
            r2g_share=self.r2g_share.clamp(max=1),  # rounding
            g2r_paper=self.paper / looking,
            g2r_share=self.share / max(1, count),
            pairs=self.pairs,
        )
        if self.scope is None:
            return maps
        inside = self.scope.to(self.looking.dtype)
        looking_inside = (self.looking * inside).sum(-1, keepdim=True).clamp(min=1)
        return Marginals(
            **vars(maps)
            | {
                "g2r_paper_scope": self.scope_paper / looking_inside,
                "g2r_share_scope": self.scope_share / inside.sum(-1, keepdim=True).clamp(min=1),
            }
        )


def _mask_to_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, -torch.inf)


def _softmax(logits: Tensor) -> Tensor:
    """Softmax over the last axis, and 0 where everything is masked."""
    return logits.softmax(-1).nan_to_num(0.0)


def _finite(highest: Tensor) -> Tensor:
    """A maximum that can be subtracted: 0 where everything is masked."""
    return torch.where(highest > -torch.inf, highest, 0)
