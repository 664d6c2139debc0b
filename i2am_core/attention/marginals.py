"""From queries and keys to attribution: exact, in float32, and without a matrix of all queries and keys.

With ``S = scale * q k^T + bias``, ``L[i]`` the log-sum-exp of row i over *all* keys, and ``E = exp(S - L)`` for
the reference columns alone, the four maps of I2AM (Park & Jang, ICLR 2025, section 3) are products with
the same E:

    share R2G = E 1                       the attention of each position that went to the reference
    share G2R = 1/N 1^T E
    paper G2R = 1/N (1 / E 1)^T E         rows renormalized to the reference
    paper R2G = 1/M w * E (1 / c)         columns renormalized to the positions: w = exp(L - max L), c = w^T E

One product of queries and reference keys, one exponential, a few thin products; a few heads at a time.
L comes from a kernel (``logsumexp``). Where the reference's tokens are all keys of the call, as in a softmax of its
own, each row's maximum takes the place of L, and the share is 1.
Where numbers would leave the range of float32 (a reference that gets next to no attention, masks, rows on very
different scales), ``streaming`` computes the same row by row, which is slower and always in range. To know where is to
wait for a device: on those that run on their own, ``fused`` kernels without E in memory, or else ``branchless``, are
right for any numbers, and ``Marginals.holds`` says on the device what is an error on the CPU.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import BadAttention
from ..kinds import KINDS, PAIR_KEYS
from ..tokens import Index, TokenGroup
from . import branchless, fused, products, streaming
from .columns import ReferenceColumns, unexpanded
from .logsumexp import agreed, chunked, row_log_sum_exp
from .on_device import brought, indexing, runs_alone
from .precision import full_float32

# What is said of the row log-sum-exp in the summary of a run, beside the names of kernels.
ROW_SUMS_NOT_NEEDED = "not needed: the reference's tokens are all keys of the call"
ROW_SUMS_INTERCEPTED = "intercepted from the attention kernel that computed the call"
NO_NUMBERS = "queries or keys hold values that are not numbers, so their attention has no maps."
CHUNK_BYTES = 64 * 2**20  # of E at a time: one head of 4096 positions and 4096 reference tokens


@dataclass(frozen=True)
class Marginals:
    """The maps of one attention call for one reference, for each of B batch items and H heads (float32 or float64).

    N generated positions, M reference tokens. Maps in the ``paper`` normalization sum to 1; those in ``share`` are
    parts of the attention, in [0, 1] times the gain. ``*_scope`` is the mean over the positions in scope. Pair maps are
    means over heads, for the A positions of ``Positions.pair_rows``: ``g2r_pairs`` is ``softmax_j S[i, j]``, and
    ``r2g_pairs`` is ``softmax_i S[i, j]`` over all N (Park & Jang, section 3).
    """

    r2g_paper: Tensor  # [B, H, N]
    r2g_share: Tensor  # [B, H, N], in [0, 1] times the gain
    g2r_paper: Tensor  # [B, H, M]
    g2r_share: Tensor  # [B, H, M]
    g2r_paper_scope: Tensor | None = None  # [B, H, M]
    g2r_share_scope: Tensor | None = None  # [B, H, M]
    g2r_pairs: Tensor | None = None  # [B, A, M]
    r2g_pairs: Tensor | None = None  # [B, A, M]
    row_sums: str = ""  # what computed the row log-sum-exp: the name of a kernel, or a ROW_SUMS text
    arithmetic: str = ""  # what computed the maps, where a device has a choice
    total: Tensor | None = None  # [B, H, N], the row log-sum-exp over all keys, where it was needed
    holds: Tensor | None = None  # 0-dim, boolean, on another device than the CPU: whether these are numbers


def split_heads(x: Tensor, heads: int, batch: int) -> Tensor:
    """Queries or keys in any of the usual layouts to ``[batch, heads, tokens, dim]``.

    Takes ``[b, tokens, heads * dim]`` or ``[b, heads, tokens, dim]``. Where b is a multiple of ``batch``, as
    when several references are extra rows of the batch, neighbouring rows are joined into one longer list
    of tokens; where there are fewer heads than ``heads`` (grouped queries), they are repeated. Raises BadAttention
    for any other shape.
    """
    shape = tuple(x.shape)
    if x.ndim == 3 and shape[-1] % heads == 0:
        x = x.unflatten(-1, (heads, -1)).transpose(1, 2)
    if x.ndim != 4 or x.shape[0] % batch or heads % x.shape[1]:
        raise BadAttention(
            f"got a tensor of shape {shape} for batch {batch} and {heads} heads: expected "
            "[batch, tokens, heads * dim] or [batch, heads, tokens, dim], or a whole multiple of that batch.",
            shape,
        )
    if x.shape[0] != batch:
        x = x.unflatten(0, (batch, -1)).transpose(1, 2).flatten(2, 3)
    if x.shape[1] != heads:
        x = x.repeat_interleave(heads // x.shape[1], dim=1)
    return x


@dataclass(frozen=True)
class Logits:
    """How the logits of an attention call follow from its queries and keys: ``scale * q k^T + bias``.

    ``scale`` defaults to ``D ** -0.5``. ``bias`` is what attention adds to the logits, or a boolean mask of the keys
    that count; it broadcasts to ``[B, H, Nq, K]``. ``total [B, H, Nq]`` is the row log-sum-exp over all keys, where it
    is known (see ``Interceptor``); otherwise it is computed. Of a row that is masked as a whole it may be anything.
    """

    scale: float | None = None
    bias: Tensor | None = None
    total: Tensor | None = None


@dataclass(frozen=True)
class Positions:
    """Which positions count, and for what.

    ``queries`` are the rows that are generated positions, N of them: by default all. ``gain`` is what a softmax of its
    own multiplies its output with, broadcast to ``[B, N]``: the share is that many times the softmax. ``scope [B, N]``
    (boolean) requests G2R maps of these positions alone beside those of all, ``pair_rows [A]`` the pair maps of these
    positions, which are numbered within the N.
    """

    queries: Index = field(default_factory=lambda: slice(None))
    gain: Tensor | None = None
    scope: Tensor | None = None
    pair_rows: Tensor | None = None


DEFAULT_LOGITS, ALL_POSITIONS = Logits(), Positions()


@torch.no_grad()
def attribute(
    q: Tensor,
    k: Tensor,
    references: Sequence[TokenGroup],
    logits: Logits = DEFAULT_LOGITS,
    positions: Positions = ALL_POSITIONS,
    chunk_bytes: int = CHUNK_BYTES,
) -> list[Marginals]:
    """The maps of one attention call, ``q [B, H, Nq, D]`` and ``k [B, H, K, D]``: one Marginals for each reference.

    ``references`` are the groups of keys, numbered within the K. A position that may attend to no reference token, or
    whose gain is 0, does not count in the means of the paper; nor does a reference token that no position may attend
    to, in R2G. About ``chunk_bytes`` of memory are used at a time. Raises BadAttention for what cannot be attributed.
    On a device that is not the CPU nothing waits for it, and ``Marginals.holds`` says whether values are numbers.
    """
    with full_float32(q.device):
        return _attributed(k, references, _all_columns(q, k, logits, positions), chunk_bytes)


@torch.no_grad()
def share_of(
    q: Tensor,
    k: Tensor,
    columns: Index,
    total: Tensor,
    logits: Logits = DEFAULT_LOGITS,
    queries: Index = ALL_POSITIONS.queries,
) -> Tensor:
    """The part of each position's attention that goes to some ``columns`` of a call, as a mean over heads: ``[B, N]``.

    ``total [B, H, N]`` is the row log-sum-exp of the positions (``Marginals.total``). One product, of which nothing but
    its sums stays.
    """
    with full_float32(q.device):
        call = _all_columns(q, k, logits, Positions(queries))
        columns = indexing(columns, k.device)
        keys = k[:, :, columns]
        bias = None if call.bias is None else _at(call.bias, 3, columns, keys.shape[2])
        by_head = fused.share(dataclasses.replace(call, k=keys, bias=bias, total=total))
        if by_head is not None:
            return by_head.mean(1)
        total = torch.where(total > -torch.inf, total, torch.inf)  # a row that may look at nothing has no share
        keys = keys.to(call.dtype)
        size = call.dtype.itemsize * q.shape[0] * call.q.shape[2] * keys.shape[2]
        share = total.new_zeros(q.shape[0], call.q.shape[2])
        heads = max(1, CHUNK_BYTES // max(1, size))
        for start in range(0, q.shape[1], heads):
            part = slice(start, start + heads)
            scores = call.q[:, part].to(call.dtype) * call.scale @ keys[:, part].transpose(-1, -2)
            scores -= total[:, part, :, None]
            if bias is not None:
                scores += bias[:, part]
            share += scores.exp_().sum((1, 3))
        return share / q.shape[1]


def _attributed(
    k: Tensor, references: Sequence[TokenGroup], call: ReferenceColumns, chunk_bytes: int
) -> list[Marginals]:
    """The same of the generated positions alone, which ``call`` has with all ``k`` as columns."""
    total = None if call.total is None else agreed(call.total, call.bias)
    row_sums = ROW_SUMS_NOT_NEEDED if total is None else ROW_SUMS_INTERCEPTED
    all_keys = len(references) == 1 and references[0].count == k.shape[2] and call.bias is None
    fits = runs_alone(k) or call.head_size * call.dtype.itemsize <= chunk_bytes
    if total is None and not (all_keys and fits):
        total, row_sums = row_log_sum_exp(call.q, k, call.scale, call.bias)
    call = dataclasses.replace(call, total=total)
    marginals = []
    for group in references:
        keys = _keys_of(group, k)
        bias = None if call.bias is None else _at(call.bias, 3, group.index, group.count)
        columns = dataclasses.replace(call, k=keys, bias=bias)
        maps = dataclasses.replace(_marginals(columns, chunk_bytes, row_sums), total=call.total)
        marginals.append(_on_grid(maps, group))
    if runs_alone(k):
        (holds,) = are_numbers(marginals, 1)
        return [dataclasses.replace(maps, holds=holds) for maps in marginals]
    if any(maps.r2g_share.isnan().any() for maps in marginals):
        raise BadAttention(NO_NUMBERS)
    return marginals


def are_numbers(marginals: Sequence[Marginals], calls: int) -> tuple[Tensor, ...]:
    """Of each of so many calls, whose items follow each other, whether its maps of all references are numbers: 0-dim.

    A sum of shares is no number where any of them is none.
    """
    sums = [maps.r2g_share.unflatten(0, (calls, -1)).flatten(1).sum(1) for maps in marginals]
    total = sums[0] if len(sums) == 1 else torch.stack(sums).sum(0)
    return (total == total).unbind()


def _all_columns(q: Tensor, k: Tensor, logits: Logits, positions: Positions) -> ReferenceColumns:
    """The generated positions of a call, with all its keys as columns: each reference takes its own from these."""
    bias, total, gain = logits.bias, logits.total, positions.gain
    queries = indexing(positions.queries, q.device)
    all_rows = None if bias is None else additive(bias, q.dtype).expand(*q.shape[:3], k.shape[2])
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
        gain=brought(gain, q.device).expand(q.shape[0], q.shape[2]),
        total=None if total is None else total[:, :, queries],
        bias=None if all_rows is None else _at(all_rows, 2, queries, q.shape[2]),
        scope=None if positions.scope is None else brought(positions.scope, q.device),
        pair_rows=None if positions.pair_rows is None else brought(positions.pair_rows, q.device),
    )


def _at(bias: Tensor, axis: int, index: Index, size: int) -> Tensor:
    """So many rows or columns of a bias ``[B, H, N, K]``: where it is only repeated, they take no memory either."""
    own = unexpanded(bias)
    if own.shape[axis] == bias.shape[axis]:
        own = own[(slice(None),) * axis + (indexing(index, bias.device),)]
    return own.expand(*bias.shape[:axis], size, *bias.shape[axis + 1 :])


def _marginals(c: ReferenceColumns, chunk_bytes: int, row_sums: str) -> Marginals:
    """The maps of one reference, by what is best for the device: here it is chosen."""
    if (by_kernels := fused.maps(c, chunk_bytes)) is not None:
        return Marginals(row_sums=row_sums, arithmetic=fused.NAME, **by_kernels)
    maps, arithmetic = c.empty(), ""
    if runs_alone(c.q):
        arithmetic = branchless.fill(c, maps, chunk_bytes)
    else:
        _by_products(c, maps, chunk_bytes)
    return Marginals(row_sums=row_sums, arithmetic=arithmetic, **maps)


def _by_products(c: ReferenceColumns, maps: dict[str, Tensor], chunk_bytes: int) -> None:
    """By products for the heads in which they stay in range, row by row for the others."""
    heads = c.shape[1]
    size = max(c.shape[3], min(heads * c.head_size, chunk_bytes // c.dtype.itemsize))
    buffer = torch.empty(size, dtype=c.dtype, device=c.q.device)
    heads_at_once = max(1, size // c.head_size)
    items = c.gain.any(1).nonzero().flatten().tolist()  # an item in which no position counts keeps maps of 0
    out_of_range = [
        (item, head)
        for item in items
        for start in range(0, heads, heads_at_once)
        for head in products.fill(c, maps, item, slice(start, min(heads, start + heads_at_once)), buffer)
    ]
    if out_of_range and c.total is None:
        c = dataclasses.replace(c, total=chunked(c.q, c.k, c.scale))
    del buffer  # streaming takes as much memory again
    for item, head in out_of_range:
        for name, values in streaming.marginals(c, item, head, chunk_bytes).items():
            if name in PAIR_KEYS:
                maps[name][item] += values / heads
            else:
                maps[name][item, head] = values


def _on_grid(maps: Marginals, group: TokenGroup) -> Marginals:
    """Values of tokens put into their cells, where the tokens do not fill the grid of the reference."""
    if group.cells is None or group.grid is None:
        return maps
    names = [*(kind.key for kind in KINDS if kind.on_reference), *PAIR_KEYS]
    by_cell = {}
    for name in names:
        if (values := getattr(maps, name)) is not None:
            by_cell[name] = values.new_zeros(*values.shape[:-1], group.grid.cells)
            by_cell[name][..., brought(group.cells, values.device)] = values
    return dataclasses.replace(maps, **by_cell)


def _keys_of(group: TokenGroup, k: Tensor) -> Tensor:
    """The keys of a reference, ``[B, H, M, D]``."""
    keys = k[:, :, indexing(group.index, k.device)]
    if keys.shape[2] != group.count or group.count == 0:
        raise BadAttention(
            f"reference '{group.name}' should have {group.count} tokens, but {keys.shape[2]} of the {k.shape[2]} keys "
            "of this attention call are at its place.",
            keys.shape[2],
        )
    return keys


def additive(bias: Tensor, dtype: torch.dtype) -> Tensor:
    """A bias, or a boolean mask, of logits in ``dtype``, as what is added to them, in a dtype that says it exactly.

    That is the logits' own for a mask, so that kernels take it; else the bias's own, or float32 where only float64 or
    a dtype that does not promote would hold it.
    """
    if bias.dtype == torch.bool:
        return torch.zeros(bias.shape, dtype=dtype, device=bias.device).masked_fill(~bias, -torch.inf)
    if bias.dtype in (torch.float16, torch.bfloat16, torch.float32):
        return bias
    return bias.to(torch.float64 if dtype == torch.float64 else torch.float32)
