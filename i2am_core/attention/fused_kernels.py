"""The Triton kernels of ``fused``: logits in tiles, of which only sums leave the chip.

Nothing but ``fused`` imports this file, and only where Triton is installed. All kernels get their logits from
``_logits``, so that a number that one sweep has subtracted is, to the bit, the one that the next sweep sees.

In the sweeps a program has some rows of one head of one item, and walks over all columns. What it sums over rows of a
column it writes as its own part, which ``column_softmax`` and ``means`` add up: without atomics, so that the same call
has the same maps each time.

A kernel gets all it knows as numbers and addresses, so that its parameters are many; they are named alike in all: B
items, H heads, N positions, M reference tokens, a head size D, and strides as ``q_n``, of the queries' positions.
"""

import triton
import triton.language as tl


@triton.jit
def _logits(
    q, k, bias, places, columns, counts, M, scale, q_n, q_d, k_m, k_d, bias_n, bias_m,
    D: tl.constexpr, WIDTH: tl.constexpr, BIASED: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """``scale q k^T + bias`` of some rows and columns of one head; -inf where a row does not count or a column is not.

    Heads of any size ``D`` are filled up with zeros to ``WIDTH``, a power of two.
    """
    channels = tl.arange(0, WIDTH)
    here = columns < M
    own = counts[:, None] & (channels < D)[None, :]
    rows = tl.load(q + places[:, None] * q_n + channels[None, :] * q_d, mask=own, other=0.0)
    own = (channels < D)[:, None] & here[None, :]
    keys = tl.load(k + columns[None, :] * k_m + channels[:, None] * k_d, mask=own, other=0.0)
    if UPCAST:
        rows, keys = rows.to(tl.float32), keys.to(tl.float32)
    logits = tl.dot(rows, keys, input_precision="ieee") * scale
    counted = counts[:, None] & here[None, :]
    if BIASED:
        at = bias + places[:, None] * bias_n + columns[None, :] * bias_m
        logits += tl.load(at, mask=counted, other=0.0).to(tl.float32)
    return tl.where(counted, logits, -float("inf"))


@triton.jit
def _finite(highest):
    """A maximum that can be subtracted: 0 where all is masked."""
    return tl.where(highest == -float("inf"), 0.0, highest)


@triton.jit
def _inverse(counts, total):
    """What an exponential is multiplied with: 0 where all is masked."""
    return tl.where(counts, 1 / tl.where(counts, total, 1.0), 0.0)


@triton.jit(do_not_specialize=["first", "H", "N", "M", "size"])
def highest_and_sums(
    q, k, bias, gain, total_of_all, scope, row_base, row_inverse, share, gained, row_counts, column_highest, column_sum,
    first, H, N, M, size, scale, gain_b, gain_n, q_b, q_h, q_n, q_d, k_b, k_h, k_m, k_d, bias_b, bias_h, bias_n, bias_m,
    D: tl.constexpr, WIDTH: tl.constexpr, BIASED: tl.constexpr, UPCAST: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, OF_COLUMNS: tl.constexpr, ALL_KEYS: tl.constexpr, SCOPED: tl.constexpr,
):  # fmt: skip
    """First sweep: the highest logit and the sum of ``exp(logit - highest)`` of each row, and of each column.

    Of rows ``[B * H, N]``: what a logit is lessened by and what its exponential is multiplied with
    (``row_base``, ``row_inverse``); the part of the attention that goes to the columns (``share``), and that at most 1,
    times the gain (``gained``). ``total_of_all [B * H, N]`` is the row log-sum-exp over all keys. ``row_counts
    [3, B * H, blocks of rows]``, each of ``size`` numbers: how many rows attend, are in scope, and both.
    Of columns, of this launch's heads, from number ``first`` of B * H: ``[heads, blocks of rows, M]``. A row counts
    where its ``gain [B, N]`` is not 0.
    """
    block, of_launch = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    number = of_launch + first
    item, head = number // H, number % H
    q, k, bias = q + item * q_b + head * q_h, k + item * k_b + head * k_h, bias + item * bias_b + head * bias_h
    places = block * ROWS + tl.arange(0, ROWS)
    here = places < N
    factor = tl.load(gain + item * gain_b + places * gain_n, mask=here, other=0.0).to(tl.float32)
    counts = factor != 0
    part = (of_launch * tl.num_programs(0) + block) * M
    highest = tl.full([ROWS], -float("inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    for start in range(0, M, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        logits = _logits(
            q, k, bias, places, columns, counts, M, scale, q_n, q_d, k_m, k_d, bias_n, bias_m, D, WIDTH, BIASED, UPCAST
        )
        raised = tl.maximum(highest, tl.max(logits, 1))
        base = _finite(raised)
        total = total * tl.exp(highest - base) + tl.sum(tl.exp(logits - base[:, None]), 1)
        highest = raised
        if OF_COLUMNS:
            top = tl.max(logits, 0)
            of_column = tl.sum(tl.exp(logits - _finite(top)[None, :]), 0)
            tl.store(column_highest + part + columns, top, mask=columns < M)
            tl.store(column_sum + part + columns, of_column, mask=columns < M)
    attending = highest > -float("inf")
    base = _finite(highest)
    if ALL_KEYS:
        shares = tl.where(total == total, attending.to(tl.float32), total)  # what is no number stays so
    else:
        shares = total * tl.exp(base - _finite(tl.load(total_of_all + number * N + places, mask=here, other=0.0)))
    tl.store(share + number * N + places, shares, mask=here)
    if OF_COLUMNS:
        tl.store(row_base + number * N + places, base, mask=here)
        tl.store(row_inverse + number * N + places, _inverse(attending, total), mask=here)
        tl.store(gained + number * N + places, tl.where(shares > 1, 1.0, shares) * factor, mask=here)
        count = row_counts + number * tl.num_programs(0) + block
        tl.store(count, tl.sum(attending.to(tl.int32), 0))
        if SCOPED:
            inside = tl.load(scope + item * N + places, mask=here, other=0) != 0
            tl.store(count + size, tl.sum(inside.to(tl.int32), 0))
            tl.store(count + 2 * size, tl.sum((inside & attending).to(tl.int32), 0))


@triton.jit(do_not_specialize=["first", "M", "blocks"])
def column_softmax(
    column_highest, column_sum, column_base, column_inverse, attended, first, M, blocks, COLUMNS: tl.constexpr
):  # fmt: skip
    """What all rows give of each column: ``column_base`` and ``column_inverse [B * H, M]``, as those of rows.

    ``attended [B * H, tiles of columns]`` is how many columns any row attends to.
    """
    of_launch = tl.program_id(1).to(tl.int64)
    number = of_launch + first
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    here = columns < M
    highest = tl.full([COLUMNS], -float("inf"), tl.float32)
    total = tl.zeros([COLUMNS], tl.float32)
    for block in range(0, blocks):
        part = (of_launch * blocks + block) * M + columns
        top = tl.load(column_highest + part, mask=here, other=-float("inf"))
        raised = tl.maximum(highest, top)
        base = _finite(raised)
        own = tl.load(column_sum + part, mask=here, other=0.0)
        total = total * tl.exp(highest - base) + own * tl.exp(top - base)
        highest = raised
    is_attended = highest > -float("inf")
    tl.store(column_base + number * M + columns, _finite(highest), mask=here)
    tl.store(column_inverse + number * M + columns, _inverse(is_attended, total), mask=here)
    tl.store(attended + number * tl.num_programs(0) + tl.program_id(0), tl.sum(is_attended.to(tl.int32), 0))


@triton.jit(do_not_specialize=["first", "H", "N", "M", "size", "tiles"])
def weights(
    q, k, bias, gain, row_base, row_inverse, column_base, column_inverse, share, scope, attended, over_columns, sums,
    first, H, N, M, size, tiles, scale, gain_b, gain_n,
    q_b, q_h, q_n, q_d, k_b, k_h, k_m, k_d, bias_b, bias_h, bias_n, bias_m,
    D: tl.constexpr, WIDTH: tl.constexpr, BIASED: tl.constexpr, UPCAST: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, SCOPED: tl.constexpr,
):  # fmt: skip
    """Second sweep: softmaxes over columns and over rows, summed over the other axis.

    ``over_columns [B * H, N]`` are means of softmaxes over rows, over the columns that are ``attended`` to (counts in
    so many ``tiles``). ``sums [2 or 4, heads, blocks of rows, M]``, each of ``size`` numbers, are those of softmaxes
    over columns: times ``share [B * H, N]`` and the gain, as they are, and both again where ``scope [B, N]`` is.
    """
    block, of_launch = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    number = of_launch + first
    item, head = number // H, number % H
    q, k, bias = q + item * q_b + head * q_h, k + item * k_b + head * k_h, bias + item * bias_b + head * bias_h
    places = block * ROWS + tl.arange(0, ROWS)
    here = places < N
    factor = tl.load(gain + item * gain_b + places * gain_n, mask=here, other=0.0).to(tl.float32)
    counts = factor != 0
    base = tl.load(row_base + number * N + places, mask=here, other=0.0)
    inverse = tl.load(row_inverse + number * N + places, mask=here, other=0.0)
    of_share = tl.load(share + number * N + places, mask=here, other=0.0) * factor
    part = sums + (of_launch * tl.num_programs(0) + block) * M
    total = tl.zeros([ROWS], tl.float32)
    for start in range(0, M, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        within = columns < M
        logits = _logits(
            q, k, bias, places, columns, counts, M, scale, q_n, q_d, k_m, k_d, bias_n, bias_m, D, WIDTH, BIASED, UPCAST
        )
        of_column = tl.load(column_base + number * M + columns, mask=within, other=0.0)
        by_column = tl.load(column_inverse + number * M + columns, mask=within, other=0.0)
        total += tl.sum(tl.exp(logits - of_column[None, :]) * by_column[None, :], 1)
        softmax = tl.exp(logits - base[:, None]) * inverse[:, None]
        shares = softmax * of_share[:, None]
        tl.store(part + columns, tl.sum(shares, 0), mask=within)
        tl.store(part + size + columns, tl.sum(softmax, 0), mask=within)
        if SCOPED:
            inside = (tl.load(scope + item * N + places, mask=here, other=0) != 0).to(tl.float32)[:, None]
            tl.store(part + 2 * size + columns, tl.sum(shares * inside, 0), mask=within)
            tl.store(part + 3 * size + columns, tl.sum(softmax * inside, 0), mask=within)
    count = _sum(attended + number * tiles, tiles)
    tl.store(over_columns + number * N + places, total / count, mask=here)


@triton.jit
def _sum(counts, many):
    """Of so many counts, and 1 at least."""
    total = 0
    for place in range(0, many):
        total += tl.load(counts + place)
    return tl.maximum(total, 1).to(tl.float32)


@triton.jit(do_not_specialize=["first", "N", "M", "size", "blocks", "heads", "columns_of_all"])
def means(
    sums, row_counts, maps, first, N, M, size, blocks, heads, columns_of_all,
    COLUMNS: tl.constexpr, SCOPED: tl.constexpr,
):  # fmt: skip
    """The ``sums`` of the second sweep as means over all N rows, over those that attend, and over the same in scope.

    ``maps [2 or 4, B * H, M]``, each of ``columns_of_all`` numbers. ``row_counts`` are of the first sweep, of all
    ``heads``.
    """
    of_launch = tl.program_id(1).to(tl.int64)
    number = of_launch + first
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    here = columns < M
    into = maps + number * M + columns
    part, counts = sums + of_launch * blocks * M + columns, row_counts + number * blocks
    of_all = (heads * blocks).to(tl.int64)
    tl.store(into, _column_sums(part, blocks, M, here, COLUMNS) / N, mask=here)
    mean = _column_sums(part + size, blocks, M, here, COLUMNS) / _sum(counts, blocks)
    tl.store(into + columns_of_all, mean, mask=here)
    if SCOPED:
        mean = _column_sums(part + 2 * size, blocks, M, here, COLUMNS) / _sum(counts + of_all, blocks)
        tl.store(into + 2 * columns_of_all, mean, mask=here)
        mean = _column_sums(part + 3 * size, blocks, M, here, COLUMNS) / _sum(counts + 2 * of_all, blocks)
        tl.store(into + 3 * columns_of_all, mean, mask=here)


@triton.jit
def _column_sums(part, blocks, M, here, COLUMNS: tl.constexpr):
    total = tl.zeros([COLUMNS], tl.float32)
    for block in range(0, blocks):
        total += tl.load(part + block * M, mask=here, other=0.0)
    return total


@triton.jit(do_not_specialize=["H", "N", "M", "A"])
def pairs(
    q, k, bias, gain, row_base, row_inverse, column_base, column_inverse, pair_rows, by_row, by_column,
    H, N, M, A, scale, gain_b, gain_n, q_b, q_h, q_n, q_d, k_b, k_h, k_m, k_d, bias_b, bias_h, bias_n, bias_m,
    D: tl.constexpr, WIDTH: tl.constexpr, BIASED: tl.constexpr, UPCAST: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The softmaxes themselves, over columns and over rows, of ``pair_rows [A]``: ``[B, A, M]``, sums over heads."""
    item = tl.program_id(2).to(tl.int64)
    chosen = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    within = columns < M
    places = tl.load(pair_rows + chosen, mask=chosen < A, other=0)
    counts = (tl.load(gain + item * gain_b + places * gain_n).to(tl.float32) != 0) & (chosen < A)
    over_columns = tl.zeros([ROWS, COLUMNS], tl.float32)
    over_rows = tl.zeros([ROWS, COLUMNS], tl.float32)
    for head in range(0, H):
        number = item * H + head
        logits = _logits(
            q + item * q_b + head * q_h, k + item * k_b + head * k_h, bias + item * bias_b + head * bias_h,
            places, columns, counts, M, scale, q_n, q_d, k_m, k_d, bias_n, bias_m, D, WIDTH, BIASED, UPCAST,
        )  # fmt: skip
        base, inverse = tl.load(row_base + number * N + places), tl.load(row_inverse + number * N + places)
        over_columns += tl.exp(logits - base[:, None]) * inverse[:, None]
        of_column = tl.load(column_base + number * M + columns, mask=within, other=0.0)
        inverse = tl.load(column_inverse + number * M + columns, mask=within, other=0.0)
        over_rows += tl.exp(logits - of_column[None, :]) * inverse[None, :]
    at = (item * A + chosen[:, None]) * M + columns[None, :]
    own = (chosen < A)[:, None] & within[None, :]
    tl.store(by_row + at, over_columns, mask=own)
    tl.store(by_column + at, over_rows, mask=own)


INTERPRETED = not isinstance(_logits, triton.runtime.JITFunction)  # with TRITON_INTERPRET=1: on the CPU, in NumPy
