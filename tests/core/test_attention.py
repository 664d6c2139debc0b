"""The streamed estimator against loops in float64, written from the definitions alone."""

import pytest
import torch
from drawn_calls import additive, brute_force, calls, logit_rounding
from hypothesis import given, settings
from hypothesis import strategies as st

from i2am_core import Logits, Positions, TokenGrid, TokenGroup, attribute, span, split_heads
from i2am_core.attention import branchless, streaming
from i2am_core.attention.columns import ReferenceColumns

FIELDS = ("r2g_paper", "r2g_share", "g2r_paper", "g2r_share")


@settings(max_examples=120, deadline=None)
@given(calls())
def test_equals_brute_force(call):
    q, k, index, count, queries, bias, scope, scale, gain, chunk_bytes = call
    pair_rows = torch.arange(q.shape[2] - queries.start)
    (got,) = attribute(
        q,
        k,
        [TokenGroup("reference", index, count)],
        logits=Logits(scale=scale, bias=bias),
        positions=Positions(queries=queries, gain=gain, scope=scope, pair_rows=pair_rows),
        chunk_bytes=chunk_bytes,
    )
    columns = list(range(k.shape[2]))[index] if isinstance(index, slice) else index.tolist()
    rows = list(range(q.shape[2]))[queries]
    full_bias = None
    if bias is not None:
        full_bias = additive(bias).expand(*q.shape[:3], k.shape[2])
    tolerance = logit_rounding(q, k, scale)
    for b in range(q.shape[0]):
        pairs = {name: torch.zeros(len(rows), count).double() for name in ("g2r_pairs", "r2g_pairs")}
        for h in range(q.shape[1]):
            expected = brute_force(
                q[b, h], k[b, h], columns, rows, scale or q.shape[-1] ** -0.5,
                None if full_bias is None else full_bias[b, h], scope[b], None if gain is None else gain[b],
            )  # fmt: skip
            for name, total in pairs.items():
                total += torch.tensor(expected.pop(name)).double() / q.shape[1]
            for name, values in expected.items():
                torch.testing.assert_close(
                    getattr(got, name)[b, h].double(), torch.tensor(values).double(), atol=tolerance, rtol=0, msg=name
                )
        for name, total in pairs.items():
            torch.testing.assert_close(getattr(got, name)[b].double(), total, atol=tolerance, rtol=0, msg=name)


@settings(max_examples=50, deadline=None)
@given(calls())
def test_sums_and_bounds(call):
    q, k, index, count, queries, _, scope, scale, _, chunk_bytes = call
    (got,) = attribute(
        q,
        k,
        [TokenGroup("reference", index, count)],
        logits=Logits(scale=scale),
        positions=Positions(queries=queries, scope=scope),
        chunk_bytes=chunk_bytes,
    )
    ones = torch.ones(q.shape[:2])
    close = {"atol": logit_rounding(q, k, scale), "rtol": 0}
    torch.testing.assert_close(got.r2g_paper.sum(-1), ones, **close)
    torch.testing.assert_close(got.g2r_paper.sum(-1), ones, **close)
    torch.testing.assert_close(got.g2r_paper_scope.sum(-1), ones * scope.any(1)[:, None], **close)
    assert got.r2g_share.min() >= 0 and got.r2g_share.max() <= 1
    torch.testing.assert_close(got.g2r_share.sum(-1), got.r2g_share.mean(-1), **close)


def test_permuting_the_reference_permutes_g2r_and_leaves_r2g():
    q, k = torch.randn(1, 2, 12, 8), torch.randn(1, 2, 20, 8)
    order = torch.randperm(9)
    shuffled = k.clone()
    shuffled[:, :, 5:14] = k[:, :, 5:14][:, :, order]
    (straight,) = attribute(q, k, [span("reference", 5, count=9)])
    (permuted,) = attribute(q, shuffled, [span("reference", 5, count=9)])
    for name in ("g2r_paper", "g2r_share"):
        torch.testing.assert_close(getattr(permuted, name), getattr(straight, name)[..., order])
    for name in ("r2g_paper", "r2g_share"):
        torch.testing.assert_close(getattr(permuted, name), getattr(straight, name))


def test_planted_correspondence_is_recovered():
    """Keys copied from queries in another order: every pair row peaks at its partner."""
    q = torch.nn.functional.normalize(torch.randn(1, 1, 25, 16), dim=-1) * 20
    order = torch.randperm(25)
    k = torch.cat([torch.randn(1, 1, 7, 16), q[:, :, order]], 2)
    (got,) = attribute(q, k, [span("reference", 7, TokenGrid(5, 5))], positions=Positions(pair_rows=torch.arange(25)))
    assert torch.equal(order[got.g2r_pairs[0].argmax(-1)], torch.arange(25))


def test_pair_map_over_all_positions_is_g2r_and_batches_are_independent():
    q, k = torch.randn(3, 2, 10, 4), torch.randn(3, 2, 15, 4)
    (batched,) = attribute(q, k, [span("reference", 3, count=6)], positions=Positions(pair_rows=torch.arange(10)))
    torch.testing.assert_close(batched.g2r_pairs.mean(1), batched.g2r_paper.mean(1))
    for item in range(3):
        (alone,) = attribute(q[item : item + 1], k[item : item + 1], [span("reference", 3, count=6)])
        for name in FIELDS:
            torch.testing.assert_close(getattr(alone, name)[0], getattr(batched, name)[item])


def test_several_references_share_the_competition():
    q, k = torch.randn(1, 2, 10, 4), torch.randn(1, 2, 15, 4)
    first, second = attribute(q, k, [span("a", 0, count=6), span("b", 6, count=9)])
    torch.testing.assert_close(first.r2g_share + second.r2g_share, torch.ones(1, 2, 10))


@pytest.mark.parametrize("size", [10.0, 30.0, 100.0])
def test_extreme_logits_stay_finite_and_exact(size):
    """Logits of up to 1e4, where sums underflow unless each softmax takes its own maximum."""
    q, k = torch.randn(1, 1, 6, 2) * size, torch.randn(1, 1, 9, 2) * size
    (got,) = attribute(q, k, [span("reference", 2, count=4)], positions=Positions(pair_rows=torch.arange(6)))
    expected = brute_force(q[0, 0], k[0, 0], range(2, 6), range(6), 2**-0.5, None, [True] * 6)
    for name in FIELDS:
        values = getattr(got, name)[0, 0].double()
        assert values.isfinite().all()
        torch.testing.assert_close(
            values, torch.tensor(expected[name]).double(), atol=logit_rounding(q, k, None), rtol=0, msg=name
        )


@pytest.mark.parametrize("shift", [60.0, 120.0, 1e4])
def test_a_reference_that_is_all_but_ignored_keeps_its_paper_maps(shift):
    """exp(-shift) vanishes in float32, but where the reference acts does not depend on how much."""
    q, k = torch.randn(1, 2, 12, 8), torch.randn(1, 2, 15, 8)
    bias = torch.zeros(15)
    bias[:5] = shift  # the competitors
    (got,) = attribute(q, k, [span("reference", 5, count=10)], logits=Logits(bias=bias))
    (alone,) = attribute(q, k[:, :, 5:], [span("reference", 0, count=10)])
    for name in ("r2g_paper", "g2r_paper"):
        torch.testing.assert_close(getattr(got, name), getattr(alone, name))
    assert got.r2g_share.max() < 1e-15


def test_rows_on_very_different_scales_do_not_lose_a_column():
    """A reference token that only a row of small logits looks at, beside a row of huge ones."""
    q, k = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]]), torch.tensor([[[[400.0, 0.0], [-400.0, 3.0]]]])
    (got,) = attribute(q, k, [span("reference", 0, count=2)], logits=Logits(scale=1.0))
    expected = brute_force(q[0, 0], k[0, 0], range(2), range(2), 1.0, None, [True] * 2)
    for name in FIELDS:
        torch.testing.assert_close(getattr(got, name)[0, 0].double(), torch.tensor(expected[name]).double())


@settings(max_examples=60, deadline=None)
@given(calls(), st.booleans())
def test_products_and_streaming_agree(call, kernel):
    """Row log-sum-exp from a kernel or plainly, maps by products, in blocks of rows or row by row: one result."""
    q, k, index, count, queries, bias, scope, scale, gain, _ = call
    rows = torch.arange(q.shape[2] - queries.start)
    positions = Positions(queries, gain, scope, rows)
    group = TokenGroup("reference", index, count)
    tolerance = logit_rounding(q, k, scale)
    columns = ReferenceColumns(
        q[:, :, queries],
        k[:, :, index],
        scale or q.shape[-1] ** -0.5,
        gain=torch.ones(q.shape[0], len(rows)) if gain is None else gain,
        total=row_sums(q, k, scale, bias)[:, :, queries],
        bias=None if bias is None else additive(bias).expand(*q.shape[:3], k.shape[2])[:, :, queries][..., index],
        scope=scope,
        pair_rows=rows,
    )
    by_row = row_by_row(columns)
    for chunk_bytes in (10**9, 200, 1):
        maps = columns.empty()
        branchless.fill(columns, maps, chunk_bytes)
        for name, values in maps.items():
            torch.testing.assert_close(values, by_row[name], atol=tolerance, rtol=0, msg=name)
    for chunk_bytes in (10**9, 1):
        total = None if kernel else row_sums(q, k, scale, bias)
        (fast,) = attribute(q, k, [group], Logits(scale, bias, total), positions, chunk_bytes)
        for name in (*FIELDS, "g2r_paper_scope", "g2r_share_scope", "g2r_pairs", "r2g_pairs"):
            torch.testing.assert_close(getattr(fast, name), by_row[name], atol=tolerance, rtol=0, msg=name)


def row_by_row(columns):
    batch, heads = columns.shape[:2]
    maps = {}
    for item in range(batch):
        parts = [streaming.marginals(columns, item, head, 200) for head in range(heads)]
        for name in parts[0]:
            values = torch.stack([part[name] for part in parts])
            maps.setdefault(name, []).append(values.mean(0) if name.endswith("_pairs") else values)
    return {name: torch.stack(values) for name, values in maps.items()}


def row_sums(q, k, scale, bias):
    logits = q @ k.transpose(-1, -2) * (scale or q.shape[-1] ** -0.5)
    return torch.logsumexp(logits if bias is None else logits + additive(bias), -1)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([torch.float16, torch.bfloat16]), st.sampled_from([8, 64, 128]), st.sampled_from([0.3, 1, 4]),
       st.booleans(), st.integers(0, 2**31))  # fmt: skip
def test_half_precision_is_summed_in_float32(dtype, dim, strength, masked, seed):
    """Against float64 over the same rounded q and k: 1e-4 of each value, and what float32 loses in a logit."""
    g = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(1, 2, n, dim, generator=g).mul(strength).to(dtype) for n in (64, 80))
    bias = torch.randn(64, 80, generator=g) if masked else None
    (half,) = attribute(q, k, [span("reference", 16, count=64)], logits=Logits(bias=bias))
    logits = q.double() @ k.double().transpose(-1, -2) * dim**-0.5 + (0 if bias is None else bias.double())
    share, columns = logits.softmax(-1)[..., 16:], logits[..., 16:]
    expected = {
        "r2g_share": share.sum(-1),
        "g2r_share": share.mean(-2),
        "g2r_paper": columns.softmax(-1).mean(-2),
        "r2g_paper": columns.softmax(-2).mean(-1),
    }
    for name, values in expected.items():
        assert getattr(half, name).dtype == torch.float32
        torch.testing.assert_close(
            getattr(half, name).double(), values, atol=logit_rounding(q.float(), k.float(), None) * 0.1, rtol=2e-4
        )


def test_one_token_has_a_trivial_g2r():
    (got,) = attribute(torch.randn(1, 1, 5, 4), torch.randn(1, 1, 3, 4), [span("token", 1, count=1)])
    torch.testing.assert_close(got.g2r_paper, torch.ones(1, 1, 1))
    torch.testing.assert_close(got.r2g_paper.sum(-1), torch.ones(1, 1))


@pytest.mark.parametrize(
    ("shape", "batch", "heads", "expected"),
    [
        ((2, 5, 12), 2, 3, (2, 3, 5, 4)),
        ((2, 3, 5, 4), 2, 3, (2, 3, 5, 4)),
        ((6, 5, 12), 2, 3, (2, 3, 15, 4)),
        ((2, 1, 5, 4), 2, 3, (2, 3, 5, 4)),
    ],
)
def test_split_heads_takes_every_layout(shape, batch, heads, expected):
    assert split_heads(torch.randn(shape), heads, batch).shape == expected


def test_joined_rows_keep_their_order():
    """ComfyUI reads k of three images per item as one list: rows 0-2 belong to item 0."""
    k = torch.arange(6.0)[:, None, None].expand(6, 2, 4)
    joined = split_heads(k, 1, 2)
    assert joined[0, 0, :, 0].tolist() == [0, 0, 1, 1, 2, 2]


def test_a_layout_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"shape \(3, 5, 12\) for batch 2"):
        split_heads(torch.randn(3, 5, 12), 3, 2)
    with pytest.raises(ValueError, match="do not fill a grid of 4x3"):
        TokenGroup("reference", slice(0, 10), 10, TokenGrid(3, 4))


@pytest.mark.parametrize("with_scope", [False, True])
def test_a_reference_that_is_all_there_is(with_scope):
    """Decoupled attention: its softmax is the whole softmax, so share and paper G2R are one, and R2G share is 1."""
    q, k = torch.randn(2, 3, 12, 8) * 4, torch.randn(2, 3, 9, 8) * 4
    scope = torch.rand(2, 12) < 0.5 if with_scope else None
    (alone,) = attribute(
        q, k, [span("reference", 0, count=9)], positions=Positions(scope=scope, pair_rows=torch.arange(12))
    )
    hidden = torch.full((10,), -torch.inf)
    hidden[:9] = 0
    (joint,) = attribute(
        q,
        torch.cat([k, k[:, :, :1]], 2),
        [span("reference", 0, count=9)],
        logits=Logits(bias=hidden),
        positions=Positions(scope=scope, pair_rows=torch.arange(12)),
    )
    for name, values in vars(joint).items():
        if isinstance(values, torch.Tensor) and name != "total":  # which is not needed where nothing else is there
            torch.testing.assert_close(
                getattr(alone, name), values, atol=logit_rounding(q, k, None), rtol=1e-4, msg=name
            )
    assert alone.r2g_share.eq(1).all()
    torch.testing.assert_close(alone.g2r_share, alone.g2r_paper)


@pytest.mark.parametrize("index", [slice(4, 4), torch.tensor([], dtype=torch.long), slice(5, 8)])
def test_an_empty_or_missing_reference_is_refused(index):
    with pytest.raises(ValueError, match="reference 'it' should have"):
        attribute(torch.randn(1, 1, 5, 4), torch.randn(1, 1, 6, 4), [TokenGroup("it", index, 3)])


def test_no_generated_position_is_refused():
    with pytest.raises(ValueError, match="no row of this attention call"):
        attribute(
            torch.randn(1, 1, 5, 4),
            torch.randn(1, 1, 6, 4),
            [span("it", 0, count=2)],
            positions=Positions(queries=slice(5, 9)),
        )


def test_an_empty_scope_and_no_pair_rows_give_zero_and_nothing():
    (got,) = attribute(
        torch.randn(1, 2, 5, 4),
        torch.randn(1, 2, 6, 4),
        [span("it", 0, count=2)],
        positions=Positions(scope=torch.zeros(1, 5, dtype=torch.bool), pair_rows=torch.tensor([], dtype=torch.long)),
    )
    assert got.g2r_paper_scope.eq(0).all() and got.g2r_share_scope.eq(0).all()
    assert got.g2r_pairs.shape == got.r2g_pairs.shape == (1, 0, 2)


def test_grouped_queries_and_joined_references():
    """Fewer key heads than query heads, and k with several rows for each row of q."""
    q, k = torch.randn(2, 4, 9, 8), torch.randn(6, 2, 5, 8)
    (got,) = attribute(q, split_heads(k, 4, 2), [span("it", 3, count=8)])
    for item in range(2):
        for head in range(4):
            keys = k[3 * item : 3 * item + 3, head // 2].flatten(0, 1)
            expected = brute_force(q[item, head], keys, range(3, 11), range(9), 8**-0.5, None, [True] * 9)
            for name in FIELDS:
                torch.testing.assert_close(
                    getattr(got, name)[item, head], torch.tensor(expected[name]), atol=1e-5, rtol=0
                )


def test_values_that_are_not_numbers_are_refused():
    q, k = torch.randn(1, 1, 5, 4), torch.randn(1, 1, 6, 4)
    q[0, 0, 2, 1] = torch.nan
    for count in (3, 6):
        with pytest.raises(ValueError, match="values that are not numbers"):
            attribute(q, k, [span("reference", 0, count=count)])
