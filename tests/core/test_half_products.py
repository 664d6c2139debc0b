"""Products in half precision with sums in float32, played on the CPU by CUDA's rules: proved before they serve."""

import dataclasses

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from i2am_core.attention import branchless, fused, half_products
from i2am_core.kinds import PAIR_KEYS

aten = torch.ops.aten
HALVES = [torch.float16, torch.bfloat16]


class Played(TorchDispatchMode):
    """CUDA's product of halves (aten/src/ATen/native/cuda/Blas.cpp, ``bmm_dtype_out_cuda``), by ``product``."""

    def __init__(self, product):
        super().__init__()
        self.product, self.run = product, 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation != aten.bmm.dtype:
            return operation(*args, **(kwargs or {}))
        a, b, dtype = args
        if a.dtype != b.dtype or a.dtype not in HALVES or dtype != torch.float32:
            raise RuntimeError("out_dtype only supported for torch.float32 output with float16/bfloat16 inputs")
        self.run += 1
        return self.product(a, b)


def in_float32(a, b):
    return a.float() @ b.float()


def in_half(a, b):
    return (a @ b).float()


def in_10_bits(a, b):
    """As where sums are in less, or TF32 is taken for halves that were made float32."""
    return a.float() * (1 + 2**-11) @ b.float()


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(half_products, "DEVICES", ["cpu"])
    half_products.is_proved.cache_clear()
    yield
    half_products.is_proved.cache_clear()


def call(dtype, dim=40):
    bias = (torch.float32, True, True, False)
    return fused.trial(fused.Case(torch.device("cpu"), dtype, dim, bias, all_keys=False, scoped=True, paired=True))


def maps_of(c, chunk_bytes=2**26):
    maps = c.empty()
    return maps, branchless.fill(c, maps, chunk_bytes)


@pytest.mark.parametrize("chunk_bytes", [2**14, 2**26])
@pytest.mark.parametrize("dim", [40, 72])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_the_maps_are_those_of_float64(dtype, dim, chunk_bytes):
    c = call(dtype, dim)
    with Played(in_float32) as played:
        maps, name = maps_of(c, chunk_bytes)
    assert name == half_products.NAME and played.run > 1
    exact = dataclasses.replace(c, q=c.q.double(), k=c.k.double(), total=c.total.double())
    expected, _ = maps_of(exact)
    assert set(PAIR_KEYS) < set(maps)
    for key, values in maps.items():
        torch.testing.assert_close(values.double(), expected[key], atol=1e-7, rtol=2e-4)


@pytest.mark.parametrize("product", [in_half, in_10_bits])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_products_that_are_wrong_do_not_serve(product, dtype, caplog):
    with Played(product) as played:
        maps, name = maps_of(call(dtype))
    assert (name, played.run) == (half_products.OTHER, 1)
    assert "are wrong" in caplog.text
    expected, _ = maps_of(call(dtype))
    assert all(torch.equal(values, expected[key]) for key, values in maps.items())


def test_where_there_are_none_float32_serves():
    """As on this CPU."""
    assert maps_of(call(torch.float16))[1] == half_products.OTHER


def test_where_memory_is_short_they_are_tried_again():
    short = [1]

    def out_of_memory(a, b):
        if short:
            short.pop()
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return in_float32(a, b)

    q = torch.zeros(1, 1, 1, 40).half()
    with Played(out_of_memory):
        assert [half_products.serve(q, q) for _ in range(2)] == [False, True]


def test_other_dtypes_and_devices_have_none(monkeypatch):
    q = torch.zeros(1, 1, 1, 40)
    with Played(in_float32):
        assert half_products.serve(q.half(), q.half())
        assert not half_products.serve(q, q) and not half_products.serve(q.half(), q.bfloat16())
        monkeypatch.setattr(half_products, "DEVICES", ["cuda"])
        assert not half_products.serve(q.half(), q.half())
