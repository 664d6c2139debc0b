"""Steered attention and its maps, against the definitions in 64 bits."""

import pytest
import torch
from by_hand import ByHand, weights
from hypothesis import given, settings
from hypothesis import strategies as st

from i2am_core import Logits, Positions, TokenGroup, span
from i2am_core.attention.marginals import attribute
from i2am_core.attention.steered_marginals import SteeredItems
from i2am_core.attention.steering import Change, Steering

B, H, N, K, D = 2, 3, 6, 7, 4


@st.composite
def changes(draw):
    """One change, and the same by hand for each item: of all or some columns, rows, heads and items."""
    columns = draw(st.sampled_from([(0,), (1, 2, 5), tuple(range(3, 7)), tuple(range(7))]))
    strength, by = draw(
        st.sampled_from([(0.0, "attention"), (0.3, "attention"), (4.0, "attention"), (-1.0, "output"), (0.0, "output"),
                         (2.5, "output"), (0.0, "values"), (1.5, "values")])
    )  # fmt: skip
    first, last = draw(st.sampled_from([(0, 1), (1, 2), (0, 2)]))
    seed = draw(st.integers(0, 99))
    some = torch.rand(2, N, generator=torch.Generator().manual_seed(seed)) < 0.5
    positions = draw(st.sampled_from([None, some[:1], some[: last - first]]))
    heads = draw(st.sampled_from([None, (0,), (1, 2)]))
    of_heads = None if heads is None else torch.tensor([head in heads for head in range(H)])
    change = Change(slice(first, last), torch.tensor(columns), strength, by, positions, of_heads)

    def of_item(item):
        if not first <= item < last:
            return None
        mask = None if positions is None else positions[item - first if len(positions) > 1 else 0]
        rows = None if mask is None else mask.nonzero().flatten().tolist()
        return ByHand(strength, columns, by, rows, heads)

    return change, of_item


def by_definition(logits, hands, item, head):
    """What each column counts in each row: ``[N, K]``."""
    rows = []
    for row in range(N):
        applied = [
            hand
            for hand in (of_item(item) for of_item in hands)
            if hand and (hand.rows is None or row in hand.rows) and (hand.heads is None or head in hand.heads)
        ]
        rows.append(weights(logits[item, head, row : row + 1], applied)[0])
    return torch.stack(rows)


def tensors(seed):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(B, H, N, D, generator=g) * 2, torch.randn(B, H, K, D, generator=g)


def logits_of(q, k):
    return q.double() @ k.double().transpose(-1, -2) * D**-0.5


some_changes = st.lists(changes(), min_size=1, max_size=3)


@settings(max_examples=150, deadline=None)
@given(some_changes, st.integers(0, 99))
def test_every_row_is_a_sum_of_softmaxes_that_counts_each_column_as_it_should(drawn, seed):
    steering, hands = Steering(tuple(change for change, _ in drawn)), [of_item for _, of_item in drawn]
    logits = logits_of(*tensors(seed))
    made = torch.full((B, H, N, K), torch.nan, dtype=torch.float64)
    for rows in steering.rows((B, H, N, K)):
        positions = torch.arange(N) if rows.positions is None else rows.positions
        for item in rows.items.tolist():
            part = torch.zeros(H, len(positions), K, dtype=torch.float64)
            for softmax in rows.softmaxes:
                bias = torch.zeros(1, K) if softmax.bias is None else softmax.bias
                gain = torch.ones(1) if softmax.gain is None else softmax.gain
                factor = torch.ones(1, K) if softmax.factor is None else softmax.factor
                weighed = (logits[item][:, positions] + bias[:, None]).softmax(-1) * factor[:, None]
                part += weighed * gain[:, None, None]
            assert made[item][:, positions].isnan().all()  # each row is in one part
            made[item, :, positions] = part
    for item in range(B):
        for head in range(H):
            torch.testing.assert_close(made[item, head], by_definition(logits, hands, item, head), rtol=1e-5, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(some_changes, st.integers(0, 99), st.booleans())
def test_shares_are_of_what_was_computed(drawn, seed, scoped):
    steering, hands = Steering(tuple(change for change, _ in drawn)), [of_item for _, of_item in drawn]
    q, k = tensors(seed)
    logits = logits_of(q, k)
    queries = slice(1, N)
    groups = [span("first", 0, count=3), TokenGroup("second", torch.tensor([4, 6]), 2)]
    scope = torch.tensor([[True, False, True, True, False]] * B) if scoped else None
    gain = torch.tensor([[1.0, 0.5, 1.0, 2.0, 1.0]] * B)
    for item in range(B):
        items = slice(item, item + 1)
        maps = SteeredItems(steering, items, (B, H, N, K)).attribute(
            q[items],
            k[items],
            groups,
            Logits(),
            Positions(queries, gain[items], None if scope is None else scope[items]),
        )
        for group, of_group in zip(groups, maps, strict=True):
            for head in range(H):
                counted = by_definition(logits, hands, item, head)[queries][:, group.index] * gain[item][:, None]
                expected = {"r2g_share": counted.sum(1), "g2r_share": counted.mean(0)}
                if scope is not None:
                    expected["g2r_share_scope"] = counted[scope[item]].mean(0)
                for name, values in expected.items():
                    got = getattr(of_group, name)[0, head].double()
                    torch.testing.assert_close(got, values, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("strength", [0.0, 0.3, 4.0])
def test_maps_of_the_paper_are_of_the_weighed_logits(strength):
    """A bias on the rows and columns that a change chooses, as a matrix that ``attribute`` gets: the same maps."""
    q, k = tensors(5)
    columns, rows = torch.tensor([1, 2, 5]), torch.tensor([True, False, True, True, False, False])
    heads = torch.tensor([False, True, True])
    steering = Steering((Change(slice(0, B), columns, strength, "attention", rows[None], heads),))
    bias = torch.zeros(B, H, N, K)
    log = torch.tensor(strength).log()
    for head in (1, 2):
        for row in rows.nonzero().flatten():
            bias[:, head, row, columns] = log
    groups = [span("first", 0, count=3), span("second", 3, count=4)]
    positions = Positions(pair_rows=torch.tensor([0, 3]))
    expected = attribute(q, k, groups, Logits(bias=bias), positions)
    got = SteeredItems(steering, slice(0, B), (B, H, N, K)).attribute(q, k, groups, Logits(), positions)
    names = ("r2g_paper", "g2r_paper", "r2g_share", "g2r_share", "g2r_pairs", "r2g_pairs")
    for one, other in zip(got, expected, strict=True):
        for name in names:
            torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=1e-5, atol=1e-6)


def test_columns_that_all_heads_leave_out_need_no_bias():
    columns = torch.tensor([0, 6])
    (rows,) = Steering((Change(slice(0, B), columns, 0.0),)).rows((B, H, N, K))
    assert rows.softmaxes[0].columns_left.tolist() == [1, 2, 3, 4, 5] and rows.positions is None
    weighed = Change(slice(0, B), torch.tensor([1]), 0.5)
    (rows,) = Steering((Change(slice(0, B), columns, 0.0), weighed)).rows((B, H, N, K))
    assert rows.softmaxes[0].columns_left is None


def test_items_that_are_steered_alike_are_one_part():
    """Both branches of a batch are one call of the kernel, as they are without steering."""
    columns, positions = torch.tensor([3]), torch.tensor([[True] * 2 + [False] * 4])
    halves = [Change(slice(n, n + 1), columns, 0.3, positions=positions) for n in range(B)]
    parts = Steering(tuple(halves)).rows((B, H, N, K))
    assert sorted((part.items.tolist(), part.positions.tolist()) for part in parts) == [
        ([0, 1], [0, 1]),
        ([0, 1], [2, 3, 4, 5]),
    ]


@pytest.mark.parametrize("heads", [None, torch.tensor([True, False, True])])
@pytest.mark.parametrize("by", ["attention", "output"])
def test_where_several_changes_leave_no_column_the_output_is_0(by, heads):
    first, rest = torch.arange(3), torch.arange(3, K)
    whole = slice(0, B)
    steering = Steering((Change(whole, first, 0.0), Change(whole, rest, 0.0, by, heads=heads)))
    hands = [ByHand(0.0, range(3)), ByHand(0.0, range(3, K), by, None, None if heads is None else [0, 2])]
    logits = logits_of(*tensors(3))
    (rows,) = steering.rows((B, H, N, K))
    made = torch.zeros(H, N, K, dtype=torch.float64)
    for softmax in rows.softmaxes:
        bias = torch.zeros(1, K) if softmax.bias is None else softmax.bias
        gain = torch.ones(1) if softmax.gain is None else softmax.gain
        made += (logits[0] + bias[:, None]).softmax(-1) * gain[:, None, None]
    for head in range(H):
        expected = by_definition(logits, [lambda item, hand=hand: hand for hand in hands], 0, head)
        torch.testing.assert_close(made[head], expected, rtol=1e-5, atol=1e-6)


def test_items_that_are_steered_in_other_heads_are_parts_of_their_own():
    columns, heads = torch.tensor([3]), torch.eye(H, dtype=torch.bool)
    steering = Steering(tuple(Change(slice(n, n + 1), columns, 0.3, heads=heads[n]) for n in range(B)))
    assert [part.items.tolist() for part in steering.rows((B, H, N, K))] == [[0], [1]]


def test_maps_in_half_precision_are_of_the_bias_that_the_kernel_got():
    """A strength of 3 is log 3 = 1.0986 on a column, which bfloat16 says as 1.1016."""
    q, k = (x.bfloat16() for x in tensors(0))
    columns = torch.tensor((1, 2, 5))
    steering = Steering((Change(slice(0, B), columns, 3.0),))
    group = TokenGroup("reference", columns, 3)
    maps = SteeredItems(steering, slice(0, B), (B, H, N, K)).attribute(q, k, [group], Logits(), Positions())[0]
    bias = torch.zeros(K, dtype=torch.float64)
    bias[columns] = torch.tensor(3.0).log().bfloat16().double()
    attention = (logits_of(q, k) + bias).softmax(-1)
    torch.testing.assert_close(maps.r2g_share.double(), attention[..., columns].sum(-1), atol=1e-6, rtol=1e-4)
    rounding = (logits_of(q, k) + bias * (torch.tensor(3.0).log().item() / bias.max())).softmax(-1)
    assert ((attention - rounding).abs().max() / 1e-6) > 100, "else rounding would not show"
