"""The fused kernels, interpreted on the CPU, against float64; and that they serve only where they are proved."""

import dataclasses
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from unittest import mock

import pytest
import torch
from drawn_calls import additive, brute_force, calls, logit_rounding
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from i2am_core import Logits, Positions, TokenGroup, attribute, span
from i2am_core.attention import fused
from i2am_core.attention.columns import ReferenceColumns
from i2am_core.attention.fused import Case, computed, disproof, trial
from i2am_core.attention.marginals import share_of
from i2am_core.kinds import PAIR_KEYS

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
CPU, HALVES = torch.device("cpu"), [torch.float16, torch.bfloat16]
MAPS = ("r2g_paper", "r2g_share", "g2r_paper", "g2r_share")
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="Triton is for Linux"),
    pytest.mark.filterwarnings("ignore:divide by zero encountered in log2"),  # of the interpreter, where a sum is lost
]


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    """Kernels serve calls on the CPU, where Triton interprets them."""
    monkeypatch.setattr(fused, "DEVICES", ["cpu"])
    monkeypatch.setattr(fused, "_refused", set())
    caches = fused._serves, fused.is_proved, fused._kernels
    [cache.cache_clear() for cache in caches]
    yield
    [cache.cache_clear() for cache in caches]


def of_plain_float32(monkeypatch, *call):
    """The maps of each reference without the kernels."""
    with monkeypatch.context() as patch:
        patch.setattr(fused, "possible", lambda c: False)
        return attribute(*call)


def call(dtype=torch.bfloat16, dim=40, n=150, keys=170):
    """Heads side by side, as models have them."""
    g = torch.Generator().manual_seed(1)
    q, k = (torch.randn(2, x, 2 * dim, generator=g).to(dtype) for x in (n, keys))
    return [x.unflatten(-1, (2, dim)).transpose(1, 2) for x in (q, k)]


@settings(max_examples=40, deadline=None)
@given(calls(), st.sampled_from(HALVES))
def test_equals_brute_force(call, dtype):
    """In float64, over the numbers that half precision has made of queries and keys."""
    q, k, index, count, queries, bias, scope, scale, gain, chunk_bytes = call
    q, k = q.to(dtype), k.to(dtype)
    rows, columns = list(range(q.shape[2]))[queries], torch.arange(k.shape[2])[index].tolist()
    positions = Positions(queries, gain, scope, torch.arange(len(rows)))
    group = TokenGroup("reference", index, count)
    full_bias = None if bias is None else additive(bias).expand(*q.shape[:3], k.shape[2])
    total = None  # else that of float64: kernels of the CPU have exponentials in half precision
    if count < k.shape[2]:
        sums = (q.double() @ k.double().mT) * (scale or q.shape[-1] ** -0.5) + (0 if bias is None else full_bias)
        total = sums.logsumexp(-1).float()
    with mock.patch.object(fused, "is_proved", lambda case: True):  # each case would take its own time
        (maps,) = attribute(q, k, [group], Logits(scale, bias, total), positions, chunk_bytes)
    assert maps.arithmetic == fused.NAME
    tolerance = {"atol": logit_rounding(q.float(), k.float(), scale), "rtol": 0}
    for b in range(q.shape[0]):
        pairs = {name: torch.zeros(len(rows), count).double() for name in PAIR_KEYS}
        for h in range(q.shape[1]):
            expected = brute_force(
                q[b, h], k[b, h], columns, rows, scale or q.shape[-1] ** -0.5,
                None if full_bias is None else full_bias[b, h], scope[b], None if gain is None else gain[b],
            )  # fmt: skip
            for name, total in pairs.items():
                total += torch.tensor(expected.pop(name)).double() / q.shape[1]
            for name, values in expected.items():
                values = torch.tensor(values).double()
                torch.testing.assert_close(getattr(maps, name)[b, h].double(), values, **tolerance, msg=name)
        for name, total in pairs.items():
            torch.testing.assert_close(getattr(maps, name)[b].double(), total, **tolerance, msg=name)


BIASES = {
    "none": None,
    "for all": (torch.float32, True, True, True),
    "an item each": (torch.float16, False, True, True),
    "a row each": (torch.bfloat16, True, True, False),
    "a row of each item": (torch.float32, False, True, False),
    "all": (torch.float16, False, False, False),
}
# Pairs, not all combinations: each head size of a model in both dtypes, each bias, each set of maps.
SIZES = (64, 64, 72, 80, 96, 120, 128, 128, 256, 40, 8, 160)
CASES = [
    Case(CPU, HALVES[n % 2], dim, bias, all_keys=bias is None and n == 6, scoped=n % 3 > 0, paired=n % 4 > 1)
    for n, (dim, bias) in enumerate(zip(SIZES, 2 * list(BIASES.values()), strict=True))
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_case_is_proved(case):
    assert not disproof(case)


WRONG = {
    "products of 10 bits": lambda c: dataclasses.replace(c, q=c.q + c.q * 2**-9),
    "gains": lambda c: dataclasses.replace(c, gain=torch.where(c.gain == 0, 0, 1)),
    "positions that do not count": lambda c: dataclasses.replace(c, gain=torch.where(c.gain == 0, 1e-9, c.gain)),
    "the bias of all rows": lambda c: dataclasses.replace(c, bias=c.bias[:, :, :1].expand_as(c.bias)),
    "one item's bias for both": lambda c: dataclasses.replace(c, bias=c.bias[:1].expand_as(c.bias)),
    "the scope": lambda c: dataclasses.replace(c, scope=torch.ones_like(c.scope)),
    "the total": lambda c: dataclasses.replace(c, total=c.total + 1e-3),
    "pair rows": lambda c: dataclasses.replace(c, pair_rows=c.pair_rows - 1),
    "one head's keys for all": lambda c: dataclasses.replace(c, k=c.k[:, :1].expand_as(c.k)),
    "keys of the wrong place": lambda c: dataclasses.replace(c, k=c.k.roll(1, 2)),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_proof_notices(name, monkeypatch, caplog):
    case = Case(CPU, torch.float16, 64, BIASES["all"], all_keys=False, scoped=True, paired=True)
    monkeypatch.setattr(fused, "computed", lambda c, chunk_bytes: computed(WRONG[name](c), chunk_bytes))
    assert not fused.is_proved(case)
    assert "is wrong by up to" in caplog.text


def test_a_proof_notices_sums_that_leave_float32(monkeypatch):
    """Which a sweep by maxima makes anew: without it, those of one head of the trial are 0."""
    import triton.language as tl

    case = Case(CPU, torch.float16, 64, None, all_keys=False, scoped=False, paired=False)
    assert not disproof(case)
    monkeypatch.setattr(fused._kernels(), "LEAST", tl.constexpr(-1.0))
    assert "r2g_paper is wrong" in disproof(case) and "g2r_paper is wrong" in disproof(case)


def lost_beside_others():
    """A call of 3 blocks of rows, of which one head of one item has a row whose shares leave float32, in the second."""
    q, k = call(n=300)
    total = (q.double() * 40**-0.5 @ k.double().mT).logsumexp(-1).float()
    total[0, 1, 200] += 120
    return ReferenceColumns(q, k[:, :, 3:93], 40**-0.5, gain=torch.ones(2, 300), total=total)


def row_log_sums(c, monkeypatch, **limits):
    """Of the first sweep, ``[B, H, N]``: with other limits of what is lost."""
    import triton.language as tl

    sweeps = fused._Sweeps(c)
    batch, heads, n, m = c.shape
    with monkeypatch.context() as patch:
        for name, limit in limits.items():
            patch.setattr(fused._kernels(), name, tl.constexpr(limit))
        sweeps.rows_and_columns(0, batch * heads, sweeps.new(2, batch, heads, n), sweeps.new(2, batch, heads, m))
    return sweeps.row_log_sum.view(batch, heads, n)


def test_a_block_that_is_lost_beside_others_is_right():
    c = lost_beside_others()
    maps, expected = computed(c, 2**30), fused._exact(c)
    for name in MAPS:
        torch.testing.assert_close(maps[name].double(), expected[name], atol=fused.ATOL, rtol=fused.RTOL, msg=name)


def test_only_a_block_that_is_lost_is_made_by_maxima(monkeypatch):
    c = lost_beside_others()
    log_sums = row_log_sums(c, monkeypatch)
    by_total = row_log_sums(c, monkeypatch, LEAST=-1.0, MOST=torch.inf)
    by_maxima = row_log_sums(c, monkeypatch, LEAST=torch.inf)
    assert by_total[0, 1, 200] == -torch.inf and by_maxima.isfinite().all()
    repaired = torch.zeros(2, 2, 300, dtype=torch.bool)
    repaired[0, 1, 128:256] = True
    assert torch.equal(log_sums, torch.where(repaired, by_maxima, by_total))
    for block in range(0, 300, 128):  # else the last line says nothing
        assert not torch.equal(by_total[..., block : block + 128], by_maxima[..., block : block + 128])


def test_of_shares_alone_nothing_is_made_twice(monkeypatch):
    """Those that are lost are 0."""
    c = lost_beside_others()
    monkeypatch.delattr(fused._kernels(), "sums_by_maxima")
    shares = fused.row_share(c)
    assert shares[0, 1, 200] == 0
    torch.testing.assert_close(shares.double(), fused._exact(c)["r2g_share"], atol=fused.ATOL, rtol=fused.RTOL)


def test_a_trial_has_sums_that_are_near_to_one_and_sums_that_are_far():
    """So a proof is one of both ways to the softmaxes over rows."""
    c = fused.trial(Case(CPU, torch.float16, 64, None, all_keys=False, scoped=False, paired=False))
    sweeps = fused._Sweeps(c)
    sweeps.rows_and_columns(0, 4, sweeps.new(2, 2, 2, 153), sweeps.new(2, 2, 2, 77))
    far = torch.where(c.gain[:, None] == 0, 0.0, sweeps.row_log_sum.view(2, 2, 153)).abs() > fused._kernels().FAR.value
    assert far[0, 1].any(-1) and not far[0, 0].any() and not far[1].any()


@pytest.mark.parametrize("way", [True, False])
@pytest.mark.parametrize("scoped", [True, False])
def test_sums_of_columns_are_the_same_whatever_way_they_go(way, scoped, monkeypatch):
    """That of a Hopper, which is that of all other tests; that of other GPUs, and that of the interpreter."""
    import triton.language as tl

    q, k = (x[:1, :1] for x in call(dim=16, n=9, keys=12))
    scope = torch.arange(9)[None] < 4 if scoped else None
    total = (q.double() / 4 @ k.double().mT).logsumexp(-1).float()
    c = ReferenceColumns(q, k[:, :, 2:11], 0.25, gain=torch.linspace(-1, 2, 9)[None], total=total, scope=scope)
    of_hopper = computed(c, 2**30)
    monkeypatch.setattr(fused, "_is_as_hopper", lambda device: False)
    monkeypatch.setattr(fused._kernels(), "AT_ONCE", tl.constexpr(way))
    others = computed(c, 2**30)
    assert len(others) == (6 if scoped else 4)
    for name, values in others.items():
        torch.testing.assert_close(of_hopper[name], values, atol=1e-6, rtol=1e-5, msg=name)


# How far the logits of all rows and columns are shifted, in base e, and of one column alone; whether that is near.
SHIFTS = [
    (0.0, 0.0, True),
    (19.0, 0.0, True),
    (29.0, 0.0, False),
    (-40.0, 0.0, False),
    (-31.0, 0.0, True),
    (15.0, -60.0, False),
]


@pytest.mark.parametrize(("of_all", "of_one", "is_near"), SHIFTS)
def test_one_exponential_for_two_softmaxes_is_as_good(of_all, of_one, is_near, monkeypatch):
    """Near to the limit; and beyond it, by rows or by a column alone, where each softmax has its own."""
    import triton.language as tl

    q, k = call(dim=64)
    q[..., 63], k[..., 63] = 8, of_all
    k[:, :, 50, 63] += of_one
    total = (q.double() / 8 @ k.double().mT).logsumexp(-1).float()
    c = ReferenceColumns(q, k[:, :, 3:93], 0.125, gain=torch.ones(len(q), q.shape[2]), total=total)
    as_it_is, expected = computed(c, 2**30), fused._exact(c)
    monkeypatch.setattr(fused._kernels(), "FAR", tl.constexpr(-1.0))
    of_their_own = computed(c, 2**30)
    monkeypatch.setattr(fused._kernels(), "FAR", tl.constexpr(1e9))
    of_one_exponential = computed(c, 2**30)
    other = of_their_own if is_near else of_one_exponential
    assert not torch.equal(as_it_is["r2g_paper"], other["r2g_paper"])  # it went the other way
    for name in MAPS:
        torch.testing.assert_close(as_it_is[name].double(), expected[name], atol=1e-7, rtol=1e-4, msg=name)
        torch.testing.assert_close(as_it_is[name], of_their_own[name], atol=1e-8, rtol=2e-5, msg=name)


def test_a_program_has_the_warps_that_it_sums_by():
    assert fused._kernels().WARPS.value == fused.LAUNCH["num_warps"]


def test_a_last_tile_that_is_left_out_is_noticed(monkeypatch):
    """By lengths that fill no tile: of rows, and of columns."""
    case = Case(CPU, torch.float16, 64, None, all_keys=False, scoped=False, paired=False)
    c = trial(case)
    for n, m in ((128, c.shape[3]), (c.shape[2], 64)):

        def cut(c, chunk_bytes, n=n, m=m):
            bias = torch.zeros(c.shape)
            bias[:, :, n:], bias[..., m:] = -torch.inf, -torch.inf
            return computed(dataclasses.replace(c, bias=bias), chunk_bytes)

        monkeypatch.setattr(fused, "computed", cut)
        assert disproof(case)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_several_references_scattered_columns_and_rows(dtype, monkeypatch):
    q, k = call(dtype)
    references = [span("near", 3, count=90), TokenGroup("scattered", torch.arange(100, 170, 3), 24)]
    given = (q, k, references, Logits(), Positions(torch.arange(0, 150, 2)))
    for maps, expected in zip(attribute(*given), of_plain_float32(monkeypatch, *given), strict=True):
        assert (maps.arithmetic, expected.arithmetic) == (fused.NAME, "")
        for name in MAPS:
            torch.testing.assert_close(getattr(maps, name), getattr(expected, name), atol=1e-6, rtol=1e-4)


def test_of_all_keys_the_share_is_1_and_of_positions_that_do_not_count_0(monkeypatch):
    q, k = call()
    gain = torch.ones(2, q.shape[2])
    gain[0], gain[1, :5] = 0, 0
    given = (q, k, [span("reference", 0, count=170)], Logits(), Positions(gain=gain))
    (maps,), (expected,) = attribute(*given), of_plain_float32(monkeypatch, *given)
    assert maps.total is None
    assert torch.equal(maps.r2g_share, gain[:, None].expand(2, 2, -1))
    for name in MAPS:
        torch.testing.assert_close(getattr(maps, name), getattr(expected, name), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("masked", [False, True])
def test_the_share_of_any_columns(masked, monkeypatch):
    q, k = call(torch.float16)
    mask = torch.rand(2, 1, q.shape[2], k.shape[2], generator=torch.Generator().manual_seed(2)) < 0.7
    mask[0, :, 5] = False
    logits = Logits(bias=mask if masked else None)
    (maps,) = attribute(q, k, [span("reference", 3, count=90)], logits)
    given = (q, k, torch.arange(100, 170, 3), maps.total, logits)
    shares, launched = share_of(*given), []
    with monkeypatch.context() as patch:
        patch.setattr(fused, "possible", lambda c: launched.append(1))
        expected = share_of(*given)
    assert launched
    torch.testing.assert_close(shares, expected, atol=1e-6, rtol=1e-4)
    assert not torch.equal(shares, expected)  # made by other products


def test_a_row_whose_sum_is_no_number_has_no_share():
    c = trial(Case(CPU, torch.float16, 64, None, all_keys=False, scoped=False, paired=False))
    c.total[1, 0, 2] = torch.nan
    assert computed(c, 2**30)["r2g_share"].isnan().nonzero().tolist() == [[1, 0, 2]]


@pytest.mark.filterwarnings("ignore:All-NaN slice")  # of the interpreter
def test_values_that_are_not_numbers_are_refused():
    q, k = call()
    q[0, 0, 2, 1] = torch.nan
    with pytest.raises(ValueError, match="values that are not numbers"):
        attribute(q, k, [span("reference", 3, count=90)])


def test_in_several_launches_the_maps_are_the_same_to_the_bit():
    c = trial(Case(CPU, torch.float16, 64, None, all_keys=False, scoped=True, paired=True))
    once, again, in_parts = computed(c, 2**30), computed(c, 2**30), computed(c, 1)
    for name, values in once.items():
        assert torch.equal(values, again[name]) and torch.equal(values, in_parts[name])


class LargestMade(TorchDispatchMode):
    """The number of elements of the largest tensor that an operation has made."""

    numel = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        made = operation(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and not operation.is_view:
            self.numel = max(self.numel, made.numel())
        return made


def test_no_matrix_of_positions_and_tokens_is_in_memory(monkeypatch):
    q, k = (x[:1, :1].contiguous() for x in call(dim=8, n=300, keys=320))
    given = (q, k, [span("reference", 10, count=300)], Logits(total=torch.full((1, 1, 300), 9.0)))
    attribute(*given)  # proved
    with LargestMade() as largest:
        attribute(*given)
    with LargestMade() as of_products:
        of_plain_float32(monkeypatch, *given)
    assert largest.numel < 300 * 300 / 10 < of_products.numel


def test_a_case_is_proved_once_and_said_once(caplog):
    q, k = call()
    with caplog.at_level("INFO", fused.log.name):
        for _ in range(3):
            assert attribute(q, k, [span("reference", 3, count=90)])[0].arithmetic == fused.NAME
    assert caplog.text.count("agrees") == 1


def test_kernels_that_are_wrong_do_not_serve(monkeypatch, caplog):
    q, k = call()
    right = fused.computed
    wrong = {"r2g_paper": 1 + 1e-3}
    monkeypatch.setattr(
        fused, "computed", lambda c, size: {name: x * wrong.get(name, 1) for name, x in right(c, size).items()}
    )
    given = (q, k, [span("reference", 3, count=90)])
    (maps,), (expected,) = attribute(*given), of_plain_float32(monkeypatch, *given)
    assert maps.arithmetic == ""
    assert torch.equal(maps.r2g_paper, expected.r2g_paper)
    assert "r2g_paper is wrong by up to" in caplog.text


@pytest.mark.parametrize("error", [RuntimeError("out of resource: shared memory"), AssertionError("a compiler's")])
def test_kernels_that_raise_in_a_real_call_are_given_up_and_the_call_is_kept(error, monkeypatch, caplog):
    q, k = call()
    right, raised = fused.computed, []

    def raising(c, chunk_bytes):
        if c.shape[2] == 150:
            raised.append(1)
            raise error
        return right(c, chunk_bytes)

    monkeypatch.setattr(fused, "computed", raising)
    assert [attribute(q, k, [span("reference", 3, count=90)])[0].arithmetic for _ in range(2)] == ["", ""]
    assert len(raised) == 1
    assert str(error) in caplog.text


@pytest.mark.parametrize("in_proof", [True, False])
def test_kernels_for_which_memory_is_short_are_tried_again(in_proof, monkeypatch):
    q, k = call()
    right, short = fused.computed, [1]

    def out_of_memory(c, chunk_bytes):
        if (c.shape[2] != 150) == in_proof and short:
            short.pop()
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return right(c, chunk_bytes)

    monkeypatch.setattr(fused, "computed", out_of_memory)
    assert [attribute(q, k, [span("reference", 3, count=90)])[0].arithmetic for _ in range(2)] == ["", fused.NAME]


@pytest.mark.parametrize(
    ("q", "k"),
    [((torch.float32, 64), (torch.float32, 64)), ((torch.float16, 320), (torch.float16, 320)),
     ((torch.float16, 64), (torch.bfloat16, 64))],
)  # fmt: skip
def test_calls_for_which_there_is_no_kernel(q, k):
    c = trial(Case(CPU, torch.float16, 64, None, all_keys=False, scoped=False, paired=False))
    q, k = (torch.zeros(2, 2, n, x[1], dtype=x[0]) for n, x in ((153, q), (77, k)))
    assert fused.possible(c) and not fused.possible(dataclasses.replace(c, q=q, k=k))


@pytest.mark.parametrize(("capability", "interpreted", "serves"), [
    ((7, 5), False, False), ((8, 0), False, True), ((9, 0), False, True), ((9, 0), True, False),
])  # fmt: skip
def test_on_cuda_compiled_kernels_serve_from_ampere_on(capability, interpreted, serves, monkeypatch):
    monkeypatch.setattr(fused, "DEVICES", ["cuda"])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(fused, "_kernels", lambda: types.SimpleNamespace(INTERPRETED=interpreted))
    fused._serves.cache_clear()
    assert fused._serves(torch.device("cuda", 0)) is serves
    assert not fused._serves(CPU)


WITHOUT = """
import sys
import torch
from i2am_core import attribute, span
from i2am_core.attention import fused

def arithmetic():
    q = torch.randn(1, 2, 20, 8).half()
    return attribute(q, q, [span("reference", 3, count=9)])[0].arithmetic

assert arithmetic() == ""
assert not [name for name in sys.modules if name.split(".")[0] == "triton"]
sys.modules["triton"] = None  # as if it were not installed
fused.DEVICES.append("cpu")
fused._serves.cache_clear(), fused._kernels.cache_clear()
assert arithmetic() == ""
"""


def test_triton_is_not_imported_on_the_cpu_nor_missed_where_it_is_not():
    out = subprocess.run([sys.executable, "-c", WITHOUT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr


def test_the_kernels_compile_for_gpus_and_fit_them(tmp_path):
    """By Triton's own compilers, which need no GPU: half precision on tensor cores, in the memory of the smallest."""
    env = {
        "PYTHONPATH": ":".join([str(ROOT), *sys.path]),
        "TRITON_CACHE_DIR": str(tmp_path),
        "PATH": os.environ["PATH"],
    }
    out = subprocess.run(
        [sys.executable, TESTS / "compiled_kernels.py"], env=env, capture_output=True, text=True, check=False
    )
    assert out.returncode == 0, out.stderr
    compiled = json.loads(out.stdout.splitlines()[-1])
    sweeps = {"sums_by_total", "sums_by_maxima", "weights", "pairs"}
    assert {x["kernel"] for x in compiled} == sweeps | {"column_log_sums", "means"}
    for kernel in compiled:
        assert kernel["products"] == (kernel["kernel"] in sweeps), kernel
        assert kernel["shared"] <= {80: 101376, 90: 232448}[kernel["capability"]], kernel  # of an RTX 30, and an H100
