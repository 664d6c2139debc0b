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
different scales), ``streaming`` does the same more carefully.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import BadAttention
from ..kinds import KINDS, PAIR_KEYS
from ..tokens import Index, TokenGroup
from . import products, streaming
from .columns import ReferenceColumns
from .logsumexp import chunked, row_log_sum_exp

ALONE = "not needed: the reference is all there is to look at"
GIVEN = "overheard from the attention kernel of the host"
CHUNK_BYTES = 64 * 2**20  # of E, held at a time: one head of 4096 positions and 4096 reference tokens


@dataclass(frozen=True)
class Marginals:
    """Attribution of one attention call to one reference, for each batch item and head.

    N generated positions, M reference tokens. The paper maps sum to 1. ``*_scope`` is the same mean as
    its namesake over the positions in scope only. Pair maps are means over heads, for the A positions
    asked for: ``g2r_pairs`` holds ``softmax_j S[i, j]``, ``r2g_pairs`` holds ``softmax_i S[i, j]`` (over all N).
    """

    r2g_paper: Tensor  # [B, H, N]
    r2g_share: Tensor  # [B, H, N], in [0, 1] times the gain
    g2r_paper: Tensor  # [B, H, M]
    g2r_share: Tensor  # [B, H, M]
    g2r_paper_scope: Tensor | None = None  # [B, H, M]
    g2r_share_scope: Tensor | None = None  # [B, H, M]
    g2r_pairs: Tensor | None = None  # [B, A, M]
    r2g_pairs: Tensor | None = None  # [B, A, M]
    row_sums: str = ""  # what computed the row log-sum-exp


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
        raise BadAttention(
            f"got a tensor of shape {given} for batch {batch} and {heads} heads: expected "
            "[batch, tokens, heads * dim] or [batch, heads, tokens, dim], or a whole multiple of that batch.",
            given,
        )
    if x.shape[0] != batch:
        x = x.unflatten(0, (batch, -1)).transpose(1, 2).flatten(2, 3)
    if x.shape[1] != heads:
        x = x.repeat_interleave(heads // x.shape[1], dim=1)
    return x


@dataclass(frozen=True)
class Logits:
    """How the logits come from queries and keys.

    ``scale`` defaults to ``D ** -0.5``. ``bias`` is what attention adds to the logits, or a boolean mask of the keys
    that count; it broadcasts to ``[B, H, Nq, K]``. ``total [B, H, Nq]`` is the row log-sum-exp over all keys, where it
    is known.
    """

    scale: float | None = None
    bias: Tensor | None = None
    total: Tensor | None = None


@dataclass(frozen=True)
class Positions:
    """Which positions count, and for what.

    ``queries`` are the rows that are generated positions, N of them. ``gain`` is what a mechanism of its own softmax
    multiplies its output with, broadcast to ``[B, N]``: the share is that many times the softmax. ``scope [B, N]``
    (boolean) asks for the G2R of some positions alone, ``pair_rows [A]`` for the pair maps of some positions, numbered
    within the N.
    """

    queries: Index = field(default_factory=lambda: slice(None))
    gain: Tensor | None = None
    scope: Tensor | None = None
    pair_rows: Tensor | None = None


AS_USUAL, EVERYWHERE = Logits(), Positions()


@torch.no_grad()
def attribute(
    q: Tensor,
    k: Tensor,
    references: Sequence[TokenGroup],
    logits: Logits = AS_USUAL,
    positions: Positions = EVERYWHERE,
    chunk_bytes: int = CHUNK_BYTES,
) -> list[Marginals]:
    """Attribute one attention call, ``q [B, H, Nq, D]`` and ``k [B, H, K, D]``, to each of its references.

    A position that may look at no reference token, or whose gain is 0, does not count in the means of the paper;
    nor does a reference token that no position may look at, in R2G. Raises BadAttention for what cannot be attributed.
    """
    common = _common(q, k, logits, positions)
    row_sums = ALONE if common.total is None else GIVEN
    alone = len(references) == 1 and references[0].count == k.shape[2] and common.bias is None
    if common.total is None and not (alone and common.head_size * common.dtype.itemsize <= chunk_bytes):
        total, row_sums = row_log_sum_exp(common.q, k, common.scale, common.bias)
        common = dataclasses.replace(common, total=total)
    found = []
    for group in references:
        columns = None if common.bias is None else common.bias[..., group.index]
        reference = dataclasses.replace(common, k=_tokens_of(group, k), bias=columns)
        found.append(_placed(_marginals(reference, chunk_bytes, row_sums), group))
    if any(maps.r2g_share.isnan().any() for maps in found):
        raise BadAttention("queries or keys hold values that are not numbers, so their attention has no maps.")
    return found


def _common(q: Tensor, k: Tensor, logits: Logits, positions: Positions) -> ReferenceColumns:
    """What all references of a call share, with all its keys as columns."""
    queries, bias, total, gain = positions.queries, logits.bias, logits.total, positions.gain
    if bias is not None:
        bias = _additive(bias, q.dtype).expand(*q.shape[:3], k.shape[2])[:, :, queries]  # a view, however large
    scale = q.shape[-1] ** -0.5 if logits.scale is None else logits.scale
    q = q[:, :, queries]
    if q.shape[2] == 0:
        raise BadAttention(
            "no row of this attention call was chosen as a generated position: nothing can be attributed."
        )
    gain = torch.ones(()) if gain is None else gain
    return ReferenceColumns(
        q,
        k,
        scale,
        gain=gain.to(q.device).expand(q.shape[0], q.shape[2]),
        total=None if total is None else total[:, :, queries],
        bias=bias,
        scope=None if positions.scope is None else positions.scope.to(q.device),
        pair_rows=None if positions.pair_rows is None else positions.pair_rows.to(q.device),
    )


def _marginals(c: ReferenceColumns, chunk_bytes: int, row_sums: str) -> Marginals:
    """By products where they can be trusted, row by row elsewhere."""
    heads = c.shape[1]
    maps = c.empty()
    size = max(c.shape[3], min(heads * c.head_size, chunk_bytes // c.dtype.itemsize))
    room = torch.empty(size, dtype=c.dtype, device=c.q.device)
    together = max(1, size // c.head_size)
    counted = c.gain.any(1).nonzero().flatten().tolist()  # items with no position that counts keep maps of 0
    careful = [
        (item, head)
        for item in counted
        for start in range(0, heads, together)
        for head in products.fill(c, maps, item, slice(start, min(heads, start + together)), room)
    ]
    if careful and c.total is None:
        c = dataclasses.replace(c, total=chunked(c.q, c.k, c.scale))
    del room  # before another way takes as much
    for item, head in careful:
        for name, values in streaming.marginals(c, item, head, chunk_bytes).items():
            if name in PAIR_KEYS:
                maps[name][item] += values / heads
            else:
                maps[name][item, head] = values
    return Marginals(row_sums=row_sums, **maps)


def _placed(maps: Marginals, group: TokenGroup) -> Marginals:
    """Values of tokens at their cells, where the reference does not fill its grid."""
    if group.cells is None or group.grid is None:
        return maps
    names = [*(kind.key for kind in KINDS if kind.on_reference), *PAIR_KEYS]
    spread = {}
    for name in names:
        if (values := getattr(maps, name)) is not None:
            spread[name] = values.new_zeros(*values.shape[:-1], group.grid.cells)
            spread[name][..., group.cells.to(values.device)] = values
    return dataclasses.replace(maps, **spread)


def _tokens_of(group: TokenGroup, k: Tensor) -> Tensor:
    """The keys of a reference, ``[B, H, M, D]``."""
    found = k[:, :, group.index]
    if found.shape[2] != group.count or group.count == 0:
        raise BadAttention(
            f"reference '{group.name}' should have {group.count} tokens, but {found.shape[2]} of the {k.shape[2]} keys "
            "of this attention call are at its place.",
            found.shape[2],
        )
    return found


def _additive(bias: Tensor, dtype: torch.dtype) -> Tensor:
    dtype = torch.float64 if dtype == torch.float64 else torch.float32
    if bias.dtype == torch.bool:
        return torch.zeros(bias.shape, dtype=dtype, device=bias.device).masked_fill(~bias, -torch.inf)
    return bias.to(dtype)
