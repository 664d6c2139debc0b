"""The rules of PyTorch's kernels for CUDA, imposed on the CPU: no call is lost, and kernels serve wherever they can."""

import inspect

import cuda_rules
import pytest
import torch

from i2am_core import Logits, Positions, attribute, span
from i2am_core.attention import intercept, logsumexp, marginals
from i2am_core.attention.intercept import Interceptor
from i2am_core.attention.logsumexp import PLAIN, chunked

aten = torch.ops.aten
EFFICIENT, FLASH = "scaled_dot_product_efficient_attention", "scaled_dot_product_flash_attention"
B, H, N, K = 2, 2, 37, 4096 + 77
MAPS = ("r2g_paper", "r2g_share", "g2r_paper", "g2r_share")
HALVES = [torch.float16, torch.bfloat16]


@pytest.fixture
def cuda(monkeypatch):
    """CUDA's kernels in the place of the CPU's."""
    monkeypatch.setattr(logsumexp, "_KERNELS_OF_DEVICE", {"cpu": logsumexp._KERNELS_OF_DEVICE["cuda"]})
    monkeypatch.setattr(intercept, "_same_on_request", {})
    logsumexp.is_trusted.cache_clear()
    with cuda_rules.CudaKernels() as kernels:
        yield kernels
    logsumexp.is_trusted.cache_clear()


def call(dtype, dim=64, keys=K):
    """Heads side by side, as models have them."""
    g = torch.Generator().manual_seed(1)
    q, k = (torch.randn(B, n, H * dim, generator=g).to(dtype) for n in (N, keys))
    return [x.unflatten(-1, (H, dim)).transpose(1, 2) for x in (q, k)]


def allowed(*shape):
    """A boolean mask that leaves each row some columns."""
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(2)) < 0.7
    mask[..., :8] = True
    return mask


def as_bias(mask, dtype, hidden=-torch.inf):
    return torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, hidden)


def numbers(*shape, dtype):
    return torch.randn(shape, generator=torch.Generator().manual_seed(3)).to(dtype)


BIASES = {
    "boolean, for all": lambda dtype: allowed(1, 1, 1, K),
    "boolean, an item each": lambda dtype: allowed(B, 1, 1, K),
    "boolean, a row each": lambda dtype: allowed(B, 1, N, K),
    "boolean, of two axes": lambda dtype: allowed(N, K),
    "0 and -inf in float32": lambda dtype: as_bias(allowed(B, 1, N, K), torch.float32),
    "0 and float32's lowest": lambda dtype: as_bias(allowed(1, 1, 1, K), torch.float32, torch.finfo(torch.float32).min),
    "0 and the dtype's lowest": lambda dtype: as_bias(allowed(B, 1, 1, K), dtype, torch.finfo(dtype).min),
    "numbers for all": lambda dtype: numbers(1, 1, 1, K, dtype=dtype),
    "numbers, a row each": lambda dtype: numbers(B, 1, N, K, dtype=dtype),
    "numbers of each head": lambda dtype: numbers(1, H, N, K, dtype=dtype),
    "numbers of each head for all rows": lambda dtype: numbers(1, H, 1, K, dtype=dtype),
    "expanded": lambda dtype: numbers(1, 1, N, K, dtype=dtype).expand(B, H, N, K),
    "padded and cut, as PyTorch does": lambda dtype: numbers(B, 1, N, K + 3, dtype=dtype)[..., :K],
    "cut in front": lambda dtype: numbers(B, 1, N, K + 3, dtype=dtype)[..., 3:],
    "columns before rows": lambda dtype: numbers(B, 1, K, N, dtype=dtype).mT,
    "one number a row": lambda dtype: numbers(B, 1, N, 1, dtype=dtype),
    "half of another call's precision, exact": lambda dtype: numbers(1, 1, 1, K, dtype=dtype).float(),
}


def maps_of(q, k, bias, queries=slice(None)):
    group = span("reference", 4096, count=K - 4096)
    return attribute(q, k, [group], Logits(bias=bias), Positions(queries))[0]


def expected_of(monkeypatch, q, k, bias, queries=slice(None)):
    with monkeypatch.context() as patch:
        patch.setattr(logsumexp, "_KERNELS_OF_DEVICE", {})
        return maps_of(q, k, bias, queries)


def assert_same(maps, expected):
    for name in MAPS:
        torch.testing.assert_close(getattr(maps, name), getattr(expected, name), atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32], ids=str)
@pytest.mark.parametrize("name", BIASES)
def test_with_any_mask_the_kernel_serves(cuda, monkeypatch, name, dtype):
    q, k = call(dtype)
    bias = BIASES[name](dtype)
    maps = maps_of(q, k, bias)
    assert maps.row_sums == EFFICIENT
    assert_same(maps, expected_of(monkeypatch, q, k, bias))


@pytest.mark.parametrize("queries", [slice(5, 32), torch.arange(0, N, 2)], ids=["neighbours", "scattered"])
@pytest.mark.parametrize("name", ["boolean, for all", "numbers, a row each", "expanded"])
def test_of_some_rows(cuda, monkeypatch, name, queries):
    q, k = call(torch.bfloat16)
    bias = BIASES[name](torch.bfloat16)
    maps = maps_of(q, k, bias, queries)
    assert maps.row_sums == EFFICIENT
    assert_same(maps, expected_of(monkeypatch, q, k, bias, queries))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_numbers_that_half_precision_cannot_say_are_not_rounded(cuda, monkeypatch, dtype):
    q, k = call(dtype)
    bias = 3 * numbers(1, 1, 1, K, dtype=torch.float32)
    maps = maps_of(q, k, bias)
    assert maps.row_sums == PLAIN
    assert_same(maps, expected_of(monkeypatch, q, k, bias))


def test_rows_that_are_masked_as_a_whole_lose_no_call(cuda, monkeypatch):
    q, k = call(torch.bfloat16)
    mask = allowed(B, 1, N, K)
    mask[:, :, 5] = False
    maps = maps_of(q, k, mask)
    assert maps.row_sums == PLAIN
    assert EFFICIENT in cuda.run
    assert_same(maps, expected_of(monkeypatch, q, k, mask))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_rows_that_finite_numbers_hide_as_a_whole_keep_their_softmax(cuda, monkeypatch, dtype):
    q, k = call(dtype)
    mask = allowed(1, 1, N, K)
    mask[:, :, 5] = False
    bias = as_bias(mask, torch.float32, torch.finfo(torch.float32).min)
    maps = maps_of(q, k, bias)
    assert maps.r2g_share[:, :, 5].gt(0).all()
    assert_same(maps, expected_of(monkeypatch, q, k, bias))


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32], ids=str)
@pytest.mark.parametrize("dim", [20, 72, 128, 320])
def test_without_a_mask_the_best_kernel_serves(cuda, monkeypatch, dim, dtype):
    q, k = call(dtype, dim)
    maps = maps_of(q, k, None)
    assert maps.row_sums == (FLASH if dtype in HALVES and dim <= 256 else EFFICIENT)
    assert_same(maps, expected_of(monkeypatch, q, k, None))


def test_a_kernel_that_raises_in_a_real_call_is_given_up_and_the_call_is_kept(cuda, monkeypatch, caplog):
    q, k = call(torch.float16)
    operation = aten._scaled_dot_product_efficient_attention.default
    efficient, refused = cuda.played[operation], []

    def full(query, key, *args, **kwargs):
        if key.shape[2] == K:
            refused.append(1)
            raise RuntimeError("CUDA error: too many resources requested for launch")
        return efficient(query, key, *args, **kwargs)

    monkeypatch.setitem(cuda.played, operation, full)
    monkeypatch.setattr(logsumexp, "_refused", set())
    mask = allowed(1, 1, 1, K)
    first, second = maps_of(q, k, mask), maps_of(q, k, mask)
    assert first.row_sums == second.row_sums == PLAIN
    assert len(refused) == 1
    assert "too many resources" in caplog.text
    assert_same(first, expected_of(monkeypatch, q, k, mask))


@pytest.mark.parametrize("in_self_test", [False, True])
def test_a_kernel_for_which_memory_is_short_is_tried_again(cuda, monkeypatch, in_self_test):
    q, k = call(torch.float16)
    operation = aten._scaled_dot_product_flash_attention.default
    flash, short = cuda.played[operation], [1]

    def out_of_memory(query, key, *args, **kwargs):
        if (key.shape[2] != K) == in_self_test and short:
            short.pop()
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return flash(query, key, *args, **kwargs)

    monkeypatch.setitem(cuda.played, operation, out_of_memory)
    assert maps_of(q, k, None).row_sums == EFFICIENT
    assert maps_of(q, k, None).row_sums == FLASH


@pytest.mark.parametrize("where", ["_trial", "kernel_bias"])
def test_where_memory_is_short_beside_the_kernel_no_call_is_lost_and_none_given_up(cuda, monkeypatch, where):
    """ComfyUI fills the memory with models: of the self-test, too, that says nothing of the kernel."""
    q, k = call(torch.float16)
    mask, function, short = allowed(1, 1, 1, K), getattr(logsumexp, where), [1]

    def out_of_memory(*args):
        if short:
            short.pop()
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return function(*args)

    monkeypatch.setattr(logsumexp, where, out_of_memory)
    first, second = maps_of(q, k, mask), maps_of(q, k, mask)
    assert (first.row_sums, second.row_sums) == (PLAIN, EFFICIENT)
    assert_same(first, second)


@pytest.mark.parametrize("kernel", ["efficient", "cudnn"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("gradients", [False, True])
def test_a_kernel_is_intercepted_also_where_it_gives_sums_on_request_alone(cuda, kernel, masked, gradients):
    q, k = call(torch.bfloat16)
    bias = logsumexp.kernel_bias(None, q, k, BIASES["numbers, a row each"](torch.bfloat16)) if masked else None
    operation = getattr(aten, f"_scaled_dot_product_{kernel}_attention")
    plain = operation(q, k, k, bias, gradients)[0]
    made = []
    for _ in range(3):
        with Interceptor() as interceptor:
            before = len(cuda.run)
            output = operation(q, k, k, bias, gradients)[0]
        made.append(len(cuda.run) - before)
        assert torch.equal(output, plain)
        total = interceptor.total(q, k, None, bias)
        torch.testing.assert_close(total, chunked(q, k, 64**-0.5, bias), atol=1e-4, rtol=1e-5)
    assert made[1:] == [1, 1] and made[0] == (2 if gradients else 3)  # its trial; and once more where it is new


def played_else(cuda, monkeypatch, on_request):
    """A kernel in whose place ``on_request`` is, where sums are requested; and what there is without."""
    operation = aten._scaled_dot_product_cudnn_attention.default
    cudnn = cuda.played[operation]

    def played(query, key, value, bias, request, *args, **kwargs):
        result = cudnn(query, key, value, bias, request, *args, **kwargs)
        return on_request(query, result) if request else result

    monkeypatch.setitem(cuda.played, operation, played)
    return operation


def test_a_kernel_whose_output_is_another_one_on_request_is_not_requested(cuda, monkeypatch):
    operation = played_else(cuda, monkeypatch, lambda query, result: (result[0] * 1.01, *result[1:]))
    q, k = call(torch.float16)
    plain, made = operation(q, k, k, None, False)[0], []
    for _ in range(3):
        with Interceptor() as interceptor:
            before = len(cuda.run)
            assert torch.equal(operation(q, k, k, None, False)[0], plain)
        made.append(len(cuda.run) - before)
        assert not interceptor.intercepted
    assert made == [3, 1, 1]


@pytest.mark.parametrize("in_comparison", [False, True])
def test_a_request_for_which_memory_is_short_is_made_again_and_the_call_is_not_lost(cuda, monkeypatch, in_comparison):
    short, same_bits = [], intercept._same_bits

    def out_of_memory(query, result):
        if short and query.shape[2] == N and not in_comparison:
            short.pop()
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return result

    def compared(*outputs):
        if short and in_comparison:
            short.pop()
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return same_bits(*outputs)

    operation = played_else(cuda, monkeypatch, out_of_memory)
    monkeypatch.setattr(intercept, "_same_bits", compared)
    q, k = call(torch.float16)
    plain, intercepted = operation(q, k, k, None, False)[0], []
    short.append(1)
    for _ in range(2):
        with Interceptor() as interceptor:
            assert torch.equal(operation(q, k, k, None, False)[0], plain)
        intercepted.append(interceptor.intercepted)
    assert intercepted == [False, True] and not short


def test_a_kernel_that_raises_on_request_loses_no_call(cuda, monkeypatch):
    def refuse(query, result):
        if query.shape[0] == B and query.shape[2] == N and refusing:
            raise RuntimeError("No valid execution plans built")
        return result

    operation, refusing = played_else(cuda, monkeypatch, refuse), []
    q, k = call(torch.float16)
    plain, intercepted = operation(q, k, k, None, False)[0], []
    for refusing[:] in ([], [1], [1]):
        with Interceptor() as interceptor:
            assert torch.equal(operation(q, k, k, None, False)[0], plain)
        intercepted.append(interceptor.intercepted)
    assert intercepted == [True, False, False]


@pytest.mark.parametrize("operation", cuda_rules.CudaKernels().played, ids=lambda operation: operation.name())
def test_what_is_played_takes_and_returns_what_pytorch_says(operation):
    """By name, as calls are intercepted; sums come second."""
    played, schema = cuda_rules.CudaKernels().played[operation], operation._schema
    assert list(inspect.signature(played).parameters) == [argument.name for argument in schema.arguments]
    assert schema.returns[1].name.replace("_", "") == "logsumexp"
    q, k = call(torch.float16)
    arguments = {x.name: x.default_value for x in schema.arguments if x.has_default_value()}
    arguments |= {"query": q, "key": k, "value": k, "attn_bias": None, "compute_log_sumexp": True}
    assert len(played(**{x.name: arguments[x.name] for x in schema.arguments})) == len(schema.returns)


def test_a_kernel_with_wrong_sums_is_silent(cuda, monkeypatch):
    operation = aten._scaled_dot_product_cudnn_attention.default
    cudnn = cuda.played[operation]

    def in_base_2(*args, **kwargs):
        output, total, *others = cudnn(*args, **kwargs)
        return output, total * torch.tensor(2.0).log(), *others

    monkeypatch.setitem(cuda.played, operation, in_base_2)
    q, k = call(torch.float16)
    with Interceptor() as interceptor:
        operation(q, k, k, None, True)
    assert not interceptor.intercepted


def test_a_kernel_whose_keys_heads_share_is_silent(cuda):
    """The call's own are repeated, which is other memory: to listen on would be in vain."""
    q, k = call(torch.float16)
    with Interceptor() as interceptor:
        aten._scaled_dot_product_flash_attention(q, k[:, :1], k[:, :1])
    assert not interceptor.intercepted


@pytest.mark.parametrize("queries", [slice(5, 32), torch.arange(0, N, 2)], ids=["neighbours", "scattered"])
@pytest.mark.parametrize(("shape", "size"), [((1, 1, 1, K), K), ((B, 1, N, K), B * N * K)])
def test_the_bias_of_all_heads_is_never_made(monkeypatch, shape, size, queries):
    q, k = call(torch.float16)
    made = []
    monkeypatch.setattr(marginals, "row_log_sum_exp", lambda *call: made.append(call[3]) or (chunked(*call), "plain"))
    maps_of(q, k, allowed(*shape), queries)
    assert made[0].shape == (B, H, len(range(N)[queries] if isinstance(queries, slice) else queries), K)
    assert made[0].untyped_storage().nbytes() <= 2 * size


def test_a_bias_that_is_repeated_takes_no_memory(cuda):
    q, k = call(torch.float16)
    operation = aten._scaled_dot_product_efficient_attention.default
    for name in ("numbers for all", "numbers, a row each", "expanded"):
        bias = logsumexp.kernel_bias(operation, q, k, BIASES[name](torch.float16))
        rows = 1 if name == "numbers for all" else N * (B if name == "numbers, a row each" else 1)
        assert bias.untyped_storage().nbytes() <= rows * (K + 3) * 2
