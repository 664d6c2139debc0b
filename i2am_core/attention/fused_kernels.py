"""The Triton kernels of ``fused``: logits in tiles, of which only sums leave the chip.

Nothing but ``fused`` imports this file, and only where Triton is installed. Exponents, logits and log-sum-exps are in
base 2, which GPUs compute. What does not count is given the log-sum-exp inf, so that its exponentials are 0 unasked.

In the sweeps a program has some rows of one head of one item, and walks over all columns. What it sums over rows of a
column it writes as its own part, which ``column_log_sums`` and ``means`` add up: without atomics, so that the same call
has the same maps each time.

The first sweep is ``sums_by_total`` where that can be, and ``sums_by_maxima`` where not, and for what the other loses.
They are two kernels, as one that could do both would keep registers for what it hardly ever does.

A kernel gets all it knows as numbers and addresses, so that its parameters are many; they are named alike in all: B
items, H heads, N positions, M reference tokens, a head size D, and strides as ``q_n``, of the queries' positions.
"""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
LEAST, MOST = tl.constexpr(2.0**-90), tl.constexpr(2.0**90)  # of a sum in float32 that has lost nothing that counts
# In base 2. A softmax below 2**-126 becomes 0, and is multiplied by 2**(2 * FAR) at most: less than 2**-46 is lost.
FAR = tl.constexpr(40.0)
WARPS = tl.constexpr(4)  # of a program, which share its rows: as in ``fused.LAUNCH``; ``_over_rows`` adds up as many


@triton.jit
def _head(q, k, bias, first, H, q_b, q_h, k_b, k_h, bias_b, bias_h):
    """The number of a program's head, of B * H; its item; and where the queries, keys and biases of that head begin."""
    number = tl.program_id(1).to(tl.int64) + first
    item, head = number // H, number % H
    return number, item, q + item * q_b + head * q_h, k + item * k_b + head * k_h, bias + item * bias_b + head * bias_h


@triton.jit
def _rows(q, gain, N, gain_n, q_n, q_d, D: tl.constexpr, WIDTH: tl.constexpr, UPCAST: tl.constexpr, ROWS: tl.constexpr):
    """Of a program's rows of one head: their places, gains, whether they count, and their queries."""
    places = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    factor = tl.load(gain + places * gain_n, mask=places < N, other=0.0).to(tl.float32)
    counts = factor != 0
    return places, factor, counts, _queries(q, places, counts, q_n, q_d, D, WIDTH, UPCAST)


@triton.jit
def _queries(q, places, counts, q_n, q_d, D: tl.constexpr, WIDTH: tl.constexpr, UPCAST: tl.constexpr):
    """The queries of some rows of one head, ``[rows, WIDTH]``: 0 where a row does not count.

    Heads of any size ``D`` are filled up with zeros to ``WIDTH``, a power of two. Loaded before a loop over columns,
    they stay on the chip: Triton does not take loads out of loops that store.
    """
    channels = tl.arange(0, WIDTH)
    own = counts[:, None] & (channels < D)[None, :]
    rows = tl.load(q + places[:, None] * q_n + channels[None, :] * q_d, mask=own, other=0.0)
    return rows.to(tl.float32) if UPCAST else rows


@triton.jit
def _part(M):
    """Where what a program sums over its rows begins, of M columns for each block of rows of a launch's heads."""
    return (tl.program_id(1).to(tl.int64) * tl.num_programs(0) + tl.program_id(0)) * M


@triton.jit
def _logits(
    rows, k, bias, places, columns, counts, M, scale, k_m, k_d, bias_n, bias_m,
    D: tl.constexpr, WIDTH: tl.constexpr, BIASED: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """``scale q k^T + bias`` of these queries and some columns of one head, in base 2; any numbers beyond the last."""
    channels = tl.arange(0, WIDTH)
    own = (channels < D)[:, None] & (columns < M)[None, :]
    keys = tl.load(k + columns[None, :] * k_m + channels[:, None] * k_d, mask=own, other=0.0)
    logits = tl.dot(rows, keys.to(tl.float32) if UPCAST else keys, input_precision="ieee") * (scale * LOG2E)
    if BIASED:
        at = bias + places[:, None] * bias_n + columns[None, :] * bias_m
        logits += tl.load(at, mask=counts[:, None] & (columns < M)[None, :], other=0.0).to(tl.float32) * LOG2E
    return logits


@triton.jit
def _finite(highest):
    """A maximum that can be subtracted: 0 where all is masked."""
    return tl.where(highest == -float("inf"), 0.0, highest)


@triton.jit
def _of_warps(tile, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The sums of a tile's columns over the rows of each warp, ``[WARPS, COLUMNS]``: no warp waits for another one.

    A Hopper lays out a product of 64 rows so that each warp has 16 of them, and a thread two, 8 apart. What a thread
    has is summed first, then that of 8 threads.
    """
    by_thread = tl.reshape(tile, [ROWS // 64, WARPS, 2, 8, COLUMNS])
    return tl.sum(tl.sum(tl.sum(by_thread, 2), 0), 1)


@triton.jit
def _added(pairs):
    """What is beside each other on the last axis, added."""
    one, other = tl.split(pairs)
    return one + other


@triton.jit
def _over_rows(tile, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BY_WARPS: tl.constexpr):
    """The sums of a tile over its rows. ``BY_WARPS``: the sums of warps are added up in one exchange."""
    if BY_WARPS:
        of_warps = tl.permute(_of_warps(tile, ROWS, COLUMNS), (1, 0))
        return _added(_added(tl.reshape(of_warps, [COLUMNS, 2, 2])))
    return tl.sum(tile, 0)


@triton.jit
def _two_over_rows(a, b, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BY_WARPS: tl.constexpr):
    """The same of two tiles, which cross the warps at once."""
    if BY_WARPS:
        both = tl.join(_of_warps(a, ROWS, COLUMNS), _of_warps(b, ROWS, COLUMNS))
        return tl.split(_added(_added(tl.reshape(tl.permute(both, (1, 2, 0)), [COLUMNS, 2, 2, 2]))))
    if AT_ONCE:
        return tl.reduce((a, b), 0, _add_two)
    return tl.sum(a, 0), tl.sum(b, 0)


@triton.jit
def _add_two(a, b, x, y):
    return a + x, b + y


@triton.jit
def _log_sum(counts, base, total):
    """The logarithm of a sum of exponentials that were lessened by ``base``; inf where nothing counts.

    So that all that is lessened by it has the exponential 0.
    """
    return tl.where(counts, base + tl.log2(tl.where(counts, total, 1.0)), float("inf"))


@triton.jit(do_not_specialize=["first", "H", "N", "M", "size"])
def sums_by_total(
    q, k, bias, gain, total_of_all, scope, lost, row_log_sum, share, gained, row_counts, column_base, column_sum,
    first, H, N, M, size, scale, gain_b, gain_n, q_b, q_h, q_n, q_d, k_b, k_h, k_m, k_d, bias_b, bias_h, bias_n, bias_m,
    D: tl.constexpr, WIDTH: tl.constexpr, BIASED: tl.constexpr, UPCAST: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BY_WARPS: tl.constexpr, OF_COLUMNS: tl.constexpr, SCOPED: tl.constexpr,
):  # fmt: skip
    """First sweep, where the sums over all keys are known and there is no bias: see ``sums_by_maxima``.

    It takes the same as that one, so that the host has one list for both.

    No logit is higher than the logarithm of its row's sum, so that one exponential serves rows and columns. ``lost
    [B * H, blocks of rows]`` is whether a sum of the block is out of range: then ``sums_by_maxima`` has to repair it.
    """
    number, item, q, k, bias = _head(q, k, bias, first, H, q_b, q_h, k_b, k_h, bias_b, bias_h)
    places, factor, counts, rows = _rows(q, gain + item * gain_b, N, gain_n, q_n, q_d, D, WIDTH, UPCAST, ROWS)
    of_all = tl.load(total_of_all + number * N + places, mask=places < N, other=0.0) * LOG2E
    base = tl.where(counts, of_all, float("inf"))
    top = tl.max(tl.where(counts, of_all, -float("inf")), 0)
    weight = tl.exp2(tl.where(counts, of_all, -float("inf")) - _finite(top))
    part = _part(M)
    total = tl.zeros([ROWS], tl.float32)
    least = tl.full([COLUMNS], float("inf"), tl.float32)
    for start in range(0, M, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        within = columns < M
        logits = _logits(
            rows, k, bias, places, columns, counts, M, scale, k_m, k_d, bias_n, bias_m, D, WIDTH, BIASED, UPCAST
        )
        parts = tl.exp2(logits - base[:, None] - tl.where(within, 0.0, float("inf"))[None, :])
        total += tl.sum(parts, 1)
        if OF_COLUMNS:
            of_column = _over_rows(parts * weight[:, None], ROWS, COLUMNS, BY_WARPS)
            least = tl.minimum(least, tl.where(within, of_column, float("inf")))
            tl.store(column_base + part + columns, tl.zeros([COLUMNS], tl.float32) + top, mask=within)
            tl.store(column_sum + part + columns, of_column, mask=within)
    if OF_COLUMNS:
        sums = tl.where(counts, total, 1.0)
        rows_lost = (tl.min(sums, 0) < LEAST) | (tl.max(sums, 0) > MOST)
        columns_lost = (tl.min(least, 0) < LEAST) & (top > -float("inf"))
        tl.store(lost + number * tl.num_programs(0) + tl.program_id(0), (rows_lost | columns_lost).to(tl.int32))
    attending = counts & (of_all > -float("inf"))
    _write_rows(
        row_log_sum, share, gained, row_counts, scope + item * N, number, places, N, size, tl.where(counts, total, 0.0),
        factor, attending, _log_sum(attending, of_all, total), OF_COLUMNS, SCOPED,
    )  # fmt: skip


@triton.jit(do_not_specialize=["first", "H", "N", "M", "size"])
def sums_by_maxima(
    q, k, bias, gain, total_of_all, scope, lost, row_log_sum, share, gained, row_counts, column_base, column_sum,
    first, H, N, M, size, scale, gain_b, gain_n, q_b, q_h, q_n, q_d, k_b, k_h, k_m, k_d, bias_b, bias_h, bias_n, bias_m,
    D: tl.constexpr, WIDTH: tl.constexpr, BIASED: tl.constexpr, UPCAST: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BY_WARPS: tl.constexpr, OF_COLUMNS: tl.constexpr, SCOPED: tl.constexpr,
    ALL_KEYS: tl.constexpr, REPAIRS: tl.constexpr,
):  # fmt: skip
    """First sweep: sums of exponentials of each row, and of each column, lessened by the maxima, so that none is lost.

    ``BY_WARPS`` is of ``sums_by_total``, which takes the same.

    Of rows ``[B * H, N]``: the log-sum-exp over the columns (``row_log_sum``), the part of the attention that goes to
    them (``share``), and that at most 1, times the gain (``gained``). ``total_of_all [B * H, N]`` is the row
    log-sum-exp over all keys. ``row_counts [3, B * H, blocks of rows]``, each of ``size`` numbers: how many rows
    attend, are in scope, and both. Of columns, of this launch's heads, from number ``first`` of B * H, what logits were
    lessened by and the sum of exponentials: ``[heads, blocks of rows, M]``. A row counts where its ``gain [B, N]`` is
    not 0. ``REPAIRS``: of blocks alone that ``sums_by_total`` has ``lost``.
    """
    number, item, q, k, bias = _head(q, k, bias, first, H, q_b, q_h, k_b, k_h, bias_b, bias_h)
    if REPAIRS:
        is_lost = tl.load(lost + number * tl.num_programs(0) + tl.program_id(0))
        if is_lost == 0:
            return
    places, factor, counts, rows = _rows(q, gain + item * gain_b, N, gain_n, q_n, q_d, D, WIDTH, UPCAST, ROWS)
    part = _part(M)
    highest = tl.full([ROWS], -float("inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    for start in range(0, M, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        within = columns < M
        logits = _logits(
            rows, k, bias, places, columns, counts, M, scale, k_m, k_d, bias_n, bias_m, D, WIDTH, BIASED, UPCAST
        )
        logits = tl.where(counts[:, None] & within[None, :], logits, -float("inf"))
        raised = tl.maximum(highest, tl.max(logits, 1))
        base = _finite(raised)
        total = total * tl.exp2(highest - base) + tl.sum(tl.exp2(logits - base[:, None]), 1)
        highest = raised
        if OF_COLUMNS:
            base_of_column = tl.max(logits, 0)
            of_column = tl.sum(tl.exp2(logits - _finite(base_of_column)[None, :]), 0)
            tl.store(column_base + part + columns, base_of_column, mask=within)
            tl.store(column_sum + part + columns, of_column, mask=within)
    attending = counts & (highest > -float("inf"))
    base = _finite(highest)
    if ALL_KEYS:
        shares = tl.where(total == total, attending.to(tl.float32), total)  # what is no number stays so
    else:
        of_all = tl.load(total_of_all + number * N + places, mask=places < N, other=0.0) * LOG2E
        shares = tl.where(counts, total * tl.exp2(base - _finite(of_all)), 0.0)
    _write_rows(
        row_log_sum, share, gained, row_counts, scope + item * N, number, places, N, size, shares,
        factor, attending, _log_sum(attending, base, total), OF_COLUMNS, SCOPED,
    )  # fmt: skip


@triton.jit
def _write_rows(
    row_log_sum, share, gained, row_counts, scope, number, places, N, size, shares, factor, attending, log_sum,
    OF_COLUMNS: tl.constexpr, SCOPED: tl.constexpr,
):  # fmt: skip
    """What the first sweep has of its rows."""
    here = places < N
    tl.store(share + number * N + places, shares, mask=here)
    if OF_COLUMNS:
        tl.store(row_log_sum + number * N + places, log_sum, mask=here)
        tl.store(gained + number * N + places, tl.where(shares > 1, 1.0, shares) * factor, mask=here)
        count = row_counts + number * tl.num_programs(0) + tl.program_id(0)
        tl.store(count, tl.sum(attending.to(tl.int32), 0))
        if SCOPED:
            inside = tl.load(scope + places, mask=here, other=0) != 0
            tl.store(count + size, tl.sum(inside.to(tl.int32), 0))
            tl.store(count + 2 * size, tl.sum((inside & attending).to(tl.int32), 0))


@triton.jit(do_not_specialize=["first", "M", "blocks"])
def column_log_sums(
    column_base, column_sum, column_log_sum, column_weight, attended, far, first, M, blocks, COLUMNS: tl.constexpr
):  # fmt: skip
    """The log-sum-exp of each column over all rows, ``[B * H, M]``, in base 2, and ``column_weight``, 1 over the sum.

    ``attended`` and ``far [B * H, tiles of columns]`` are how many columns any row attends to, and of how many of them
    the log-sum-exp is too far from 0 for the weight.
    """
    of_launch = tl.program_id(1).to(tl.int64)
    number = of_launch + first
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    here = columns < M
    highest = tl.full([COLUMNS], -float("inf"), tl.float32)
    total = tl.zeros([COLUMNS], tl.float32)
    for block in range(0, blocks):
        part = (of_launch * blocks + block) * M + columns
        top = tl.load(column_base + part, mask=here, other=-float("inf"))
        raised = tl.maximum(highest, top)
        base = _finite(raised)
        own = tl.load(column_sum + part, mask=here, other=0.0)
        total = total * tl.exp2(highest - base) + own * tl.exp2(top - base)
        highest = raised
    is_attended = (highest > -float("inf")) & (total != 0)
    log_sum = _log_sum(is_attended, _finite(highest), total)
    tl.store(column_log_sum + number * M + columns, log_sum, mask=here)
    tl.store(column_weight + number * M + columns, tl.exp2(-log_sum), mask=here)
    tile = number * tl.num_programs(0) + tl.program_id(0)
    tl.store(attended + tile, tl.sum(is_attended.to(tl.int32), 0))
    tl.store(far + tile, tl.sum((is_attended & (tl.abs(log_sum) > FAR)).to(tl.int32), 0))


@triton.jit(do_not_specialize=["first", "H", "N", "M", "size", "tiles"])
def weights(
    q, k, bias, gain, row_log_sum, column_log_sum, column_weight, share, scope, attended, far, over_columns, sums,
    first, H, N, M, size, tiles, scale, gain_b, gain_n,
    q_b, q_h, q_n, q_d, k_b, k_h, k_m, k_d, bias_b, bias_h, bias_n, bias_m,
    D: tl.constexpr, WIDTH: tl.constexpr, BIASED: tl.constexpr, UPCAST: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BY_WARPS: tl.constexpr, SCOPED: tl.constexpr,
):  # fmt: skip
    """Second sweep: softmaxes over columns and over rows, summed over the other axis.

    ``over_columns [B * H, N]`` are means of softmaxes over rows, over the columns that are ``attended`` to (counts in
    so many ``tiles``). ``sums [2 or 4, heads, blocks of rows, M]``, each of ``size`` numbers, are those of softmaxes
    over columns: times ``share [B * H, N]`` and the gain, as they are, and both again where ``scope [B, N]`` is.

    A softmax over rows is the one over columns, times the sum of the row, times the ``column_weight``: one exponential
    serves both, where no sum is ``far`` from 1.
    """
    number, item, q, k, bias = _head(q, k, bias, first, H, q_b, q_h, k_b, k_h, bias_b, bias_h)
    places, factor, counts, rows = _rows(q, gain + item * gain_b, N, gain_n, q_n, q_d, D, WIDTH, UPCAST, ROWS)
    here = places < N
    of_row = tl.load(row_log_sum + number * N + places, mask=here, other=float("inf"))
    of_share = tl.load(share + number * N + places, mask=here, other=0.0) * factor
    inside = tl.load(scope + item * N + places, mask=here, other=0) != 0 if SCOPED else counts  # else not read
    attending = of_row < float("inf")
    farthest = tl.max(tl.where(attending, tl.abs(of_row), 0.0), 0)
    if (_sum(far + number * tiles, tiles) == 0) & (farthest <= FAR):
        total = _weighted(
            rows, k, bias, places, counts, of_row, column_weight + number * M, of_share, inside, sums + _part(M),
            M, size, scale, k_m, k_d, bias_n, bias_m, D, WIDTH, BIASED, UPCAST, ROWS, COLUMNS, BY_WARPS, SCOPED, True,
        )  # fmt: skip
        total *= tl.exp2(tl.where(attending, of_row, -float("inf")))
    else:
        total = _weighted(
            rows, k, bias, places, counts, of_row, column_log_sum + number * M, of_share, inside, sums + _part(M),
            M, size, scale, k_m, k_d, bias_n, bias_m, D, WIDTH, BIASED, UPCAST, ROWS, COLUMNS, BY_WARPS, SCOPED, False,
        )  # fmt: skip
    count = _divisor(attended + number * tiles, tiles)
    tl.store(over_columns + number * N + places, tl.where(counts, total / count, 0.0), mask=here)


@triton.jit
def _weighted(
    rows, k, bias, places, counts, of_row, of_columns, of_share, inside, part,
    M, size, scale, k_m, k_d, bias_n, bias_m,
    D: tl.constexpr, WIDTH: tl.constexpr, BIASED: tl.constexpr, UPCAST: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BY_WARPS: tl.constexpr, SCOPED: tl.constexpr, NEAR: tl.constexpr,
):  # fmt: skip
    """The second sweep of a program's rows. Writes what it sums over rows; returns what it sums over columns.

    ``NEAR``: ``of_columns`` are weights, and what is returned lacks the sum of its row; else they are log-sum-exps.
    """
    total = tl.zeros([ROWS], tl.float32)
    for start in range(0, M, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        within = columns < M
        logits = _logits(
            rows, k, bias, places, columns, counts, M, scale, k_m, k_d, bias_n, bias_m, D, WIDTH, BIASED, UPCAST
        )
        softmax = tl.exp2(logits - of_row[:, None])
        if NEAR:
            total += tl.sum(softmax * tl.load(of_columns + columns, mask=within, other=0.0)[None, :], 1)
        else:
            of_column = tl.load(of_columns + columns, mask=within, other=float("inf"))
            total += tl.sum(tl.exp2(logits - of_column[None, :]), 1)
        shares = softmax * of_share[:, None]
        of_shares, of_softmax = _two_over_rows(shares, softmax, ROWS, COLUMNS, BY_WARPS)
        tl.store(part + columns, of_shares, mask=within)
        tl.store(part + size + columns, of_softmax, mask=within)
        if SCOPED:
            own = inside.to(tl.float32)[:, None]
            of_shares, of_softmax = _two_over_rows(shares * own, softmax * own, ROWS, COLUMNS, BY_WARPS)
            tl.store(part + 2 * size + columns, of_shares, mask=within)
            tl.store(part + 3 * size + columns, of_softmax, mask=within)
    return total


@triton.jit
def _sum(counts, many):
    """Of so many counts."""
    total = 0
    for place in range(0, many):
        total += tl.load(counts + place)
    return total


@triton.jit
def _divisor(counts, many):
    """The sum of so many counts, 1 at least."""
    return tl.maximum(_sum(counts, many), 1).to(tl.float32)


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
    mean = _column_sums(part + size, blocks, M, here, COLUMNS) / _divisor(counts, blocks)
    tl.store(into + columns_of_all, mean, mask=here)
    if SCOPED:
        mean = _column_sums(part + 2 * size, blocks, M, here, COLUMNS) / _divisor(counts + of_all, blocks)
        tl.store(into + 2 * columns_of_all, mean, mask=here)
        mean = _column_sums(part + 3 * size, blocks, M, here, COLUMNS) / _divisor(counts + 2 * of_all, blocks)
        tl.store(into + 3 * columns_of_all, mean, mask=here)


@triton.jit
def _column_sums(part, blocks, M, here, COLUMNS: tl.constexpr):
    total = tl.zeros([COLUMNS], tl.float32)
    for block in range(0, blocks):
        total += tl.load(part + block * M, mask=here, other=0.0)
    return total


@triton.jit(do_not_specialize=["H", "N", "M", "A"])
def pairs(
    q, k, bias, gain, row_log_sum, column_log_sum, pair_rows, by_row, by_column,
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
        rows = _queries(q + item * q_b + head * q_h, places, counts, q_n, q_d, D, WIDTH, UPCAST)
        logits = _logits(
            rows, k + item * k_b + head * k_h, bias + item * bias_b + head * bias_h,
            places, columns, counts, M, scale, k_m, k_d, bias_n, bias_m, D, WIDTH, BIASED, UPCAST,
        )  # fmt: skip
        over_columns += tl.exp2(logits - tl.load(row_log_sum + number * N + places)[:, None])
        of_column = tl.load(column_log_sum + number * M + columns, mask=within, other=float("inf"))
        over_rows += tl.where(counts[:, None], tl.exp2(logits - of_column[None, :]), 0.0)
    at = (item * A + chosen[:, None]) * M + columns[None, :]
    own = (chosen < A)[:, None] & within[None, :]
    tl.store(by_row + at, over_columns, mask=own)
    tl.store(by_column + at, over_rows, mask=own)


INTERPRETED = not isinstance(_logits, triton.runtime.JITFunction)  # with TRITON_INTERPRET=1: on the CPU, in NumPy
AT_ONCE = tl.constexpr(not INTERPRETED)  # the interpreter goes through a tuple of tiles number by number
