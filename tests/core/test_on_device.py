"""Attention calls on a device that runs on its own: the host waits for nothing, and the maps are those of the CPU."""

import dataclasses

import pytest
import torch
from counting_device import DEVICE, NAME, counting

from i2am_core import Logits, Positions, TokenGrid, TokenGroup, attribute, span
from i2am_core.attention import fused, logsumexp
from i2am_core.attention.marginals import share_of
from i2am_core.attention.on_device import brought
from i2am_core.attention.steered_marginals import SteeredItems
from i2am_core.attention.steering import Change, Steering
from i2am_core.kinds import KINDS, PAIR_KEYS

B, N, K, D = 2, 12, 30, 16
HALF = torch.arange(N) % 2 == 0
KEYS = [kind.key for kind in KINDS] + list(PAIR_KEYS)
TWO = [
    span("a", 10, TokenGrid(2, 3)),
    TokenGroup("b", torch.tensor([20, 22, 25]), 3, TokenGrid(2, 2), cells=torch.tensor([0, 1, 3])),
]


@pytest.fixture(autouse=True)
def kernels(monkeypatch):
    """Those of CUDA, which are proved before anything is counted."""
    monkeypatch.setattr(
        logsumexp, "_KERNELS_OF_DEVICE", logsumexp._KERNELS_OF_DEVICE | {NAME: logsumexp._KERNELS_OF_DEVICE["cuda"]}
    )


def queries_and_keys(heads=4, strength=1.0, dtype=torch.float32):
    g = torch.Generator().manual_seed(3)
    return [(strength * torch.randn(B, heads, n, D, generator=g)).to(dtype) for n in (N, K)]


def mask(hidden_rows=()):
    allowed = torch.rand(B, 1, N, K, generator=torch.Generator().manual_seed(4)) < 0.7
    allowed[:, :, list(hidden_rows)] = False
    return allowed


CALLS = {
    "plain": {},
    "half precision": {"dtype": torch.bfloat16},
    "pair maps of some rows": {"positions": Positions(pair_rows=torch.tensor([1, 5, 6]))},
    "pair maps of all rows, in scope": {"positions": Positions(pair_rows=torch.arange(N), scope=HALF.expand(B, -1))},
    "a gain": {"positions": Positions(gain=torch.linspace(0, 2, N).expand(B, -1))},
    "an item where nothing counts": {"positions": Positions(gain=torch.tensor([[1.0], [0.0]]))},
    "scattered rows": {"positions": Positions(queries=torch.arange(0, N, 2))},
    "a mask": {"bias": mask()},
    "rows masked as a whole": {"bias": mask([2, 3])},
    "a reference that is masked": {"bias": (torch.arange(K) < 10).expand(1, 1, N, K)},
    "numbers": {"bias": torch.randn(1, 4, N, K, generator=torch.Generator().manual_seed(5))},
    "large logits": {"strength": 20.0},
    "all keys": {"references": [span("all", 0, count=K)]},
    "all keys, large logits": {"references": [span("all", 0, count=K)], "strength": 60.0},
    "in blocks of rows": {"chunk_bytes": 100, "positions": Positions(pair_rows=torch.arange(N))},
    "a head at a time": {"chunk_bytes": 4 * N * 6},
}  # fmt: skip


def maps_of(device, heads=4, strength=1.0, dtype=torch.float32, references=TWO, bias=None, positions=None, **sizes):
    q, k = (x.to(device) for x in queries_and_keys(heads, strength, dtype))
    logits = Logits(bias=None if bias is None else bias.to(device))
    return attribute(q, k, references, logits, positions or Positions(), **sizes)


@pytest.mark.parametrize("name", CALLS)
def test_nobody_waits_and_the_maps_are_those_of_the_cpu(name):
    expected = maps_of("cpu", **CALLS[name])
    maps_of(DEVICE, **CALLS[name])  # proves kernels, and brings what lies on the host
    q_k_and_bias = 2 + ("bias" in CALLS[name])
    with counting() as count:
        maps = maps_of(DEVICE, **CALLS[name])
    assert count.waits.total() == q_k_and_bias, str(count)
    for one, other in zip(maps, expected, strict=True):
        assert bool(one.holds)
        for key in KEYS:
            value, wanted = getattr(one, key), getattr(other, key)
            assert (value is None) == (wanted is None)
            if value is not None:
                torch.testing.assert_close(value.cpu(), wanted, atol=2e-6, rtol=2e-4, msg=lambda m, k=key: f"{k}: {m}")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_no_number_is_said_on_the_device(value):
    q, k = queries_and_keys()
    q[0, 0, 3, 0] = value
    q, k = q.to(DEVICE), k.to(DEVICE)
    attribute(q, k, TWO)
    with counting() as count:
        maps = attribute(q, k, TWO)
    assert not count.waits, str(count)
    assert not any(bool(one.holds) for one in maps)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("device", [DEVICE, "cpu"])
def test_whatever_a_kernel_says_of_rows_that_are_masked_as_a_whole_the_maps_are_the_same(device, value):
    hidden = mask([2, 3])
    expected = maps_of("cpu", bias=hidden)
    q, k = (x.to(device) for x in queries_and_keys())
    total = expected[0].total.clone()
    total[:, :, 2:4] = value
    maps = attribute(q, k, TWO, Logits(bias=hidden.to(device), total=total.to(device)))
    for one, other in zip(maps, expected, strict=True):
        assert one.holds is None or bool(one.holds)
        for key in ("r2g_paper", "r2g_share", "g2r_paper", "g2r_share"):
            torch.testing.assert_close(getattr(one, key).cpu(), getattr(other, key), atol=2e-6, rtol=2e-4)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_sums_that_are_no_numbers_are_not_believed(value):
    """On the device that is said; on the host they are worked out once more."""
    q, k = queries_and_keys()
    expected = attribute(q, k, TWO)
    total = expected[0].total.clone()
    total[1, 2, 7] = value
    for one, other in zip(attribute(q, k, TWO, Logits(total=total)), expected, strict=True):
        torch.testing.assert_close(one.r2g_share, other.r2g_share, atol=2e-6, rtol=2e-4)
    sees_no_reference = torch.zeros(1, 1, N, K)
    sees_no_reference[..., 7, 10:26] = -torch.inf
    for bias in (None, sees_no_reference.to(DEVICE)):
        maps = attribute(q.to(DEVICE), k.to(DEVICE), TWO, Logits(bias=bias, total=total.to(DEVICE)))
        assert not any(bool(one.holds) for one in maps)


def kernels_of(heads, chunk_bytes=2**20, positions=None):
    maps_of(DEVICE, heads, positions=positions)
    with counting() as count:
        maps_of(DEVICE, heads, positions=positions, chunk_bytes=chunk_bytes)
    return count.kernels


@pytest.mark.parametrize("positions", [Positions(), Positions(pair_rows=torch.arange(N), scope=HALF.expand(B, -1))])
def test_kernels_do_not_grow_with_heads(positions):
    """As many heads as fit are worked on together."""
    assert kernels_of(2, positions=positions) == kernels_of(24, positions=positions)
    assert kernels_of(24, 4 * N * 6) > kernels_of(24)


class Launches:
    """In the place of Triton's kernels: each is counted and started nowhere."""

    INTERPRETED, count = False, 0

    def __getattr__(self, name):
        return self

    def __getitem__(self, grid):
        return lambda *given, **named: setattr(Launches, "count", Launches.count + 1)


def test_kernels_of_a_call_with_triton_and_without(monkeypatch):
    """As many as ``captured.NO_TRITON`` says, where one head fills what is worked on at a time, as Kontext's do."""
    q, k = (x[:1].to(DEVICE) for x in queries_and_keys(24))
    (alone,) = attribute(q, k, TWO[:1])
    known = Logits(total=alone.total)

    def kernels():
        Launches.count = 0
        with counting() as count:
            attribute(q, k, TWO[:1], known, chunk_bytes=4 * N * TWO[0].count)
        return count.kernels + Launches.count

    assert 1700 < kernels() < 1900
    monkeypatch.setattr(fused, "_kernels", Launches)
    monkeypatch.setattr(fused, "_where_proved", lambda call, compute: compute())
    monkeypatch.setattr(fused._Sweeps, "launches", lambda sweeps, *sizes: [(0, sweeps.total_heads)])
    assert kernels() == 9


def test_the_text_beside_them_waits_for_nothing():
    q, k = (x.to(DEVICE) for x in queries_and_keys())
    (maps,) = attribute(q, k, TWO[:1])
    columns = torch.tensor([0, 1, 2, 7])
    share_of(q, k, columns, maps.total)
    with counting() as count:
        share = share_of(q, k, columns, maps.total)
    assert not count.waits
    expected = share_of(*queries_and_keys(), columns, maps.total.cpu())
    torch.testing.assert_close(share.cpu(), expected)


STEERED = {
    "by attention": [Change(slice(0, B), torch.tensor([11, 12]), 3.0)],
    "for some rows and heads": [
        Change(slice(0, 1), torch.tensor([11, 12]), 3.0, positions=HALF[None], heads=torch.tensor([1, 0, 0, 1]) > 0)
    ],
    "by output": [Change(slice(0, B), torch.tensor([11, 12]), -1.0, "output")],
    "by values, in some rows": [Change(slice(0, B), torch.tensor([11, 12]), 2.0, "values", positions=HALF[None])],
}


@pytest.mark.parametrize("name", STEERED)
def test_steered_calls(name):
    def steered(device):
        steering = SteeredItems(Steering(tuple(STEERED[name])), slice(0, B), (B, 4, N, K))
        q, k = (x.to(device) for x in queries_and_keys())
        return steering.attribute(q, k, TWO, Logits(), Positions(pair_rows=torch.arange(N)))

    expected = steered("cpu")
    steered(DEVICE)
    with counting() as count:
        maps = steered(DEVICE)
    assert count.waits.total() == 2, str(count)  # q and k
    for one, other in zip(maps, expected, strict=True):
        assert bool(one.holds)
        for field in dataclasses.fields(other):
            if field.name in KEYS and (wanted := getattr(other, field.name)) is not None:
                torch.testing.assert_close(getattr(one, field.name).cpu(), wanted, atol=2e-6, rtol=2e-4)


@pytest.mark.parametrize(
    "x",
    [torch.arange(5), torch.rand(2, 3), torch.rand(3) < 0.5, torch.ones(()), torch.rand(4).bfloat16(), torch.zeros(0)],
)
def test_what_is_brought_is_the_same_and_comes_once(x):
    first = brought(x, DEVICE)
    assert first.device == DEVICE and first.dtype == x.dtype and torch.equal(first.cpu(), x)
    with counting() as count:
        again = brought(x.clone(), DEVICE)
    assert (again is first or not x.numel()) and (not count.waits or not x.numel())
    assert brought(x, torch.device("cpu")) is x
    other = x.clone().view(-1)
    if len(other):
        other[-1] = 1 - other[-1].to(x.dtype) if x.dtype != torch.bool else ~other[-1]
        assert torch.equal(brought(other.view_as(x), DEVICE).cpu(), other.view_as(x))
