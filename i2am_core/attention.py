"""From queries and keys to attribution: exact, in float32, without ever holding queries x keys.

With ``S = scale * q k^T + bias``, ``L[i]`` the log-sum-exp of row i over *all* keys, and ``E = exp(S - L)`` for
the reference columns alone, the four maps of I2AM (Park & Jang, ICLR 2025, section 3) are products with
the same E:

    share R2G = E 1                       the attention of each position that went to the reference
    share G2R = 1/N 1^T E
    paper G2R = 1/N (1 / E 1)^T E         rows renormalized to the reference
    paper R2G = 1/M w * E (1 / c)         columns renormalized to the positions: w = exp(L - max L), c = w^T E

One product of queries and reference keys, one exponential, a few thin products; a few heads at a time.
L comes from a kernel (``logsumexp``); where the reference is all there is to look at, as in decoupled
cross-attention, each row's own maximum takes its place and the share is 1.
Where numbers would leave the range of float32 (a reference that is all but ignored, masks, rows on very
different scales), or one head alone is too large to hold, ``streaming`` does the same more carefully.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from . import streaming
from .logsumexp import chunked, row_log_sum_exp
from .tokens import Index, TokenGroup

CHUNK_BYTES = 64 * 2**20  # of E, held at a time: one head of 4096 positions and 4096 reference tokens
SMALLEST = 1e-30  # a sum below this may have lost terms to underflow


@dataclass(frozen=True)
class Marginals:
    """Attribution of one attention call to one reference, for each batch item and head.

    N generated positions, M reference tokens. The paper maps sum to 1. ``*_scope`` is the same mean as
    its namesake over the positions in scope only. Pair maps are means over heads, for the A positions
    asked for: ``g2r_pairs`` holds ``softmax_j S[i, j]``, ``r2g_pairs`` holds ``softmax_i S[i, j]`` (over all N).
    """

    r2g_paper: Tensor  # [B, H, N]
    r2g_share: Tensor  # [B, H, N], in [0, 1]
    g2r_paper: Tensor  # [B, H, M]
    g2r_share: Tensor  # [B, H, M]
    g2r_paper_scope: Tensor | None = None  # [B, H, M]
    g2r_share_scope: Tensor | None = None  # [B, H, M]
    g2r_pairs: Tensor | None = None  # [B, A, M]
    r2g_pairs: Tensor | None = None  # [B, A, M]


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
    some positions alone, ``pair_rows [A]`` for the pair maps of some positions, numbered within the N.

    A position that may look at no reference token has no G2R of its own and does not count in the mean;
    nor does a reference token that no position may look at, in R2G.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if bias is not None:
        bias = _additive(bias, q.dtype).expand(*q.shape[:3], k.shape[2])[:, :, queries]  # a view, however large
    q = q[:, :, queries]
    alone = len(references) == 1 and references[0].count == k.shape[2]
    total = None if alone and bias is None else row_log_sum_exp(q, k, scale, bias)
    found = [
        _attribute_one(
            q,
            k[:, :, group.index],
            total,
            scale,
            None if bias is None else bias[..., group.index],
            None if scope is None else scope.to(q.device),
            None if pair_rows is None else pair_rows.to(q.device),
            chunk_bytes,
        )
        for group in references
    ]
    if any(maps.r2g_share.isnan().any() for maps in found):
        raise ValueError("queries or keys hold values that are not numbers, so their attention has no maps.")
    return found


def _attribute_one(
    q: Tensor,
    k: Tensor,
    total: Tensor | None,
    scale: float,
    bias: Tensor | None,
    scope: Tensor | None,
    pair_rows: Tensor | None,
    chunk_bytes: int,
) -> Marginals:
    """Maps of one reference, whose keys and bias columns are given alone.

    ``total [B, H, N]`` is L, or None where these keys are all keys.
    """
    batch, heads, n, m = *q.shape[:3], k.shape[2]
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    size = chunk_bytes // (torch.finfo(dtype).bits // 8 * n * max(m, 1))  # heads at a time
    sums = _empty(batch, heads, n, m, dtype, q.device, scope, pair_rows)
    careful = list(range(batch * heads))
    if size:
        careful = []
        for start in range(0, batch * heads, size):
            part = slice(start, start + size)
            careful += _products(q, k, total, scale, bias, scope, pair_rows, sums, part)
    if careful and total is None:
        total = chunked(q, k, scale, bias)
    for number in careful:
        b, h = divmod(number, heads)
        assert total is not None
        one = streaming.marginals(
            q[b, h],
            k[b, h],
            total[b, h],
            scale,
            None if bias is None else bias[b, h],
            None if scope is None else scope[b],
            pair_rows,
            chunk_bytes,
        )
        for name, values in one.items():
            if name.endswith("_pairs"):
                sums[name][b] += values / heads
            else:
                sums[name][b, h] = values
    return Marginals(**sums)


def _products(
    q: Tensor,
    k: Tensor,
    total: Tensor | None,
    scale: float,
    bias: Tensor | None,
    scope: Tensor | None,
    pair_rows: Tensor | None,
    sums: dict[str, Tensor],
    part: slice,
) -> list[int]:
    """Fill ``sums`` for some heads (numbered through the batch); return those that need more care."""
    heads, n, m = q.shape[1], q.shape[2], k.shape[2]
    numbers = torch.arange(q.shape[0] * heads, device=q.device)[part]
    items = numbers // heads
    dtype = sums["r2g_share"].dtype
    rows, columns = (x.flatten(0, 1)[part].to(dtype) for x in (q, k))
    if total is None:
        e = torch.bmm(rows * scale, columns.transpose(1, 2))  # [g, N, M]
        offset = e.amax(-1)
        e.sub_(offset[..., None])
    else:
        offset = total.flatten(0, 1)[part]
        offset = torch.where(offset > -torch.inf, offset, 0)  # rows that see nothing end up with a share of 0
        added = -offset[..., None]
        if bias is not None:
            added = added + torch.stack([bias[divmod(number, heads)] for number in numbers.tolist()])
        e = torch.baddbmm(added, rows, columns.transpose(1, 2), alpha=scale)
    row = e.exp_().sum(-1)  # [g, N]
    share, in_share = (row, 1.0) if total is not None else (torch.ones_like(row), 1 / row)
    weight = (offset - offset.amax(-1, keepdim=True)).exp()
    thin = [torch.full_like(row, 1 / n) * in_share, 1 / (n * row), weight]
    if scope is not None:
        inside = scope[items].to(dtype)
        inside = inside / inside.sum(-1, keepdim=True).clamp(min=1)
        thin += [inside * in_share, inside / row]
    thin_sums = torch.bmm(torch.stack(thin, 1), e)  # [g, 3 or 5, M]
    denominator = thin_sums[:, 2]
    r2g = weight * torch.bmm(e, 1 / denominator[..., None])[..., 0] / m

    safe = (row.amin(-1) > SMALLEST) & (denominator.amin(-1) > SMALLEST)
    found = {
        "r2g_share": share.clamp(max=1),
        "r2g_paper": r2g,
        "g2r_share": thin_sums[:, 0],
        "g2r_paper": thin_sums[:, 1],
    }
    if scope is not None:
        found |= {"g2r_share_scope": thin_sums[:, 3], "g2r_paper_scope": thin_sums[:, 4]}
    for name, values in found.items():
        sums[name].flatten(0, 1)[part] = values
    if pair_rows is not None:
        chosen = e[:, pair_rows] * safe[:, None, None] / heads
        by_row = chosen / row[:, pair_rows, None]
        by_column = chosen * weight[:, pair_rows, None] / denominator[:, None]
        sums["g2r_pairs"].index_add_(0, items, by_row.nan_to_num(0.0))
        sums["r2g_pairs"].index_add_(0, items, by_column.nan_to_num(0.0))
    return numbers[~safe].tolist()


def _empty(
    batch: int,
    heads: int,
    n: int,
    m: int,
    dtype: torch.dtype,
    device: torch.device,
    scope: Tensor | None,
    pair_rows: Tensor | None,
) -> dict[str, Tensor]:
    """Room for every map that was asked for."""
    shapes = {"r2g_share": (heads, n), "r2g_paper": (heads, n), "g2r_share": (heads, m), "g2r_paper": (heads, m)}
    if scope is not None:
        shapes |= {"g2r_share_scope": (heads, m), "g2r_paper_scope": (heads, m)}
    if pair_rows is not None:
        shapes |= {"g2r_pairs": (len(pair_rows), m), "r2g_pairs": (len(pair_rows), m)}
    return {name: torch.zeros(batch, *shape, dtype=dtype, device=device) for name, shape in shapes.items()}


def _additive(bias: Tensor, dtype: torch.dtype) -> Tensor:
    dtype = torch.float64 if dtype == torch.float64 else torch.float32
    if bias.dtype == torch.bool:
        return torch.zeros(bias.shape, dtype=dtype, device=bias.device).masked_fill(~bias, -torch.inf)
    return bias.to(dtype)
