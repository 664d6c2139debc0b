"""The log-sum-exp intercepted from an attention kernel: the same output, the right sums, and only of that call."""

import pytest
import torch
import torch.nn.functional as F

from i2am_core import Logits, attribute, span
from i2am_core.attention.intercept import Interceptor
from i2am_core.attention.logsumexp import KERNELS, PLAIN, chunked, is_trusted, row_log_sum_exp

FLASH_ON_CPU = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default


def call(dtype=torch.float32, queries=40, keys=56):
    g = torch.Generator().manual_seed(0)
    # heads side by side, as models have them
    q, k, v = (
        torch.randn(2, n, 3 * 16, generator=g).to(dtype).unflatten(-1, (3, 16)).transpose(1, 2)
        for n in (queries, keys, keys)
    )
    return q, k, v, torch.randn(2, 1, queries, keys, generator=g).to(dtype)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("scale", [None, 0.4])
def test_the_kernel_is_intercepted_and_its_output_is_the_same(mode, dtype, masked, scale):
    q, k, v, mask = call(dtype)
    mask = mask if masked else None
    with mode():
        plain = F.scaled_dot_product_attention(q, k, v, mask, scale=scale)
        with Interceptor() as interceptor:
            intercepted = F.scaled_dot_product_attention(q, k, v, mask, scale=scale)
        total = interceptor.total(q, k, scale, mask)
    assert torch.equal(plain, intercepted)
    assert total is not None
    expected = chunked(q, k, scale or 16**-0.5, mask)
    torch.testing.assert_close(total, expected, atol=1e-4, rtol=1e-4)


def test_another_call_than_the_one_that_was_intercepted_has_no_total():
    q, k, v, mask = call()
    with Interceptor() as interceptor:
        F.scaled_dot_product_attention(q, k, v)
    assert interceptor.intercepted and interceptor.total(q, k, None) is not None
    assert interceptor.total(q.clone(), k, None) is None
    assert interceptor.total(q, k[:, :, :-1], None) is None
    assert interceptor.total(q, k, 0.3) is None
    assert interceptor.total(q, k, None, mask) is None
    with Interceptor() as interceptor:
        F.scaled_dot_product_attention(q, k, v, mask)
    assert interceptor.total(q, k, None, mask) is not None
    assert interceptor.total(q, k, None, mask.clone()) is None
    assert interceptor.total(q, k, None) is None


def test_other_repeated_and_causal_calls_have_no_total():
    q, k, v, _ = call(queries=40, keys=40)
    with Interceptor() as other:
        (q @ k.transpose(-1, -2)).softmax(-1) @ v
    with Interceptor() as twice:
        F.scaled_dot_product_attention(q, k, v)
        F.scaled_dot_product_attention(q, k, v)
    with Interceptor() as causal:
        F.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert [x.total(q, k, None) for x in (other, twice, causal)] == [None, None, None]
    assert [x.intercepted for x in (other, twice, causal)] == [False, True, False]


def test_rows_that_are_masked_as_a_whole_have_the_same_maps_whatever_the_kernel_says_of_them():
    q, k, v, mask = call()
    mask[:, :, 3] = -torch.inf
    with Interceptor() as interceptor:
        F.scaled_dot_product_attention(q, k, v, mask)
    group = span("reference", 8, count=20)
    intercepted, plain = (
        attribute(q, k, [group], logits=Logits(bias=mask, total=total))[0]
        for total in (interceptor.total(q, k, None, mask), chunked(q, k, 16**-0.5, mask))
    )
    assert plain.r2g_share[:, :, 3].eq(0).all()
    for name in ("r2g_paper", "r2g_share", "g2r_paper", "g2r_share"):
        torch.testing.assert_close(getattr(intercepted, name), getattr(plain, name), atol=1e-6, rtol=1e-4)


def test_a_kernel_that_is_wrong_is_not_trusted(monkeypatch, caplog):
    right = KERNELS[FLASH_ON_CPU]
    monkeypatch.setitem(KERNELS, FLASH_ON_CPU, lambda *call: right(*call) + 1e-3)
    is_trusted.cache_clear()
    try:
        q, k, v, _ = call()
        with Interceptor() as interceptor:
            F.scaled_dot_product_attention(q, k, v)
        assert interceptor.total(q, k, None) is None
        total, name = row_log_sum_exp(q, k, 16**-0.5)
        assert name == PLAIN
        torch.testing.assert_close(total, chunked(q, k, 16**-0.5), atol=0, rtol=0)
        assert "is wrong" in caplog.text
    finally:
        is_trusted.cache_clear()
