"""The kernel that PyTorch has chosen for a call, called at once for those that are alike: the same to the bit."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function
from torch.utils._python_dispatch import TorchDispatchMode

from i2am_core.attention import intercept, shortcut
from i2am_core.attention.intercept import Interceptor
from i2am_core.attention.shortcut import Shortcut


def call(dtype=torch.float32, queries=40):
    """Queries, keys and values with heads side by side, as models have them, and a mask."""
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, n, 3 * 16, generator=g).to(dtype) for n in (queries, 56, 56))
    heads = (x.unflatten(-1, (3, 16)).transpose(1, 2) for x in (q, k, v))
    return *heads, torch.randn(2, 1, queries, 56, generator=g).to(dtype)


@pytest.fixture(autouse=True)
def nothing_is_known():
    shortcut._known.clear()


class Counted(Interceptor):
    """How often attention was taken apart."""

    entered = 0

    def __enter__(self):
        type(self).entered += 1
        return super().__enter__()


def attended(*args, **kwargs):
    """The output of a call, what intercepted it, and whether it was taken apart."""
    interceptor, before = Counted(), Counted.entered
    with Shortcut(interceptor):
        output = F.scaled_dot_product_attention(*args, **kwargs)
    return output, interceptor, Counted.entered > before


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("scale", [None, 0.4])
def test_a_call_that_is_alike_is_made_at_once_and_is_the_same_to_the_bit(mode, dtype, masked, scale):
    with mode():
        for number in range(3):
            q, k, v, mask = (x + number for x in call(dtype))  # other values, in other memory
            mask = mask if masked else None
            plain = F.scaled_dot_product_attention(q, k, v, mask, scale=scale)
            with Interceptor() as of_mode:
                F.scaled_dot_product_attention(q, k, v, mask, scale=scale)
            output, interceptor, taken_apart = attended(q, k, v, attn_mask=mask, scale=scale)
            assert taken_apart == (number == 0)
            assert torch.equal(output, plain) and output.stride() == plain.stride()
            assert torch.equal(interceptor.total(q, k, scale, mask), of_mode.total(q, k, scale, mask))
            assert interceptor.total(q.clone(), k, scale, mask) is None
            assert interceptor.changed_values(v) is None and interceptor.changed_values(v.clone()) is not None


def is_taken_apart(*args, **kwargs):
    """Whether a call is, and has the output that it has without us."""
    output, _, taken_apart = attended(*args, **kwargs)
    assert torch.equal(output, F.scaled_dot_product_attention(*args, **kwargs))
    return taken_apart


def test_only_calls_that_are_alike_are_made_at_once():
    q, k, v, mask = call(queries=56)
    assert is_taken_apart(q, k, v) and not is_taken_apart(q, k, v)
    assert is_taken_apart(q, k, v, mask) and not is_taken_apart(q, k, v, mask)
    assert is_taken_apart(q, k, v, mask[:1]) and is_taken_apart(q[:1], k[:1], v[:1])
    assert is_taken_apart(q, k, v, scale=0.3)
    assert is_taken_apart(q.contiguous(), k, v) and is_taken_apart(q.double(), k.double(), v.double())
    for _ in range(2):
        assert is_taken_apart(q, k, v, is_causal=True)
        assert is_taken_apart(q, k, v, mask > 0)  # it becomes another tensor
        assert is_taken_apart(q, k[:, :1], v[:, :1], enable_gqa=True)
        assert is_taken_apart(q, k, torch.nn.Parameter(v, requires_grad=False))
        assert attended(q, k, v, dropout_p=0.5)[2]


def test_those_around_are_told():
    """As of two captures on one line."""
    q, k, v, _ = call()
    for _ in range(3):
        outer, inner = Counted(), Counted()
        with Shortcut(outer):
            with Shortcut(inner):
                output = F.scaled_dot_product_attention(q, k, v)
            assert [len(x.calls) for x in (outer, inner)] == [1, 1]
            F.scaled_dot_product_attention(q[:, :, 1:], k, v)
        assert [len(x.calls) for x in (outer, inner)] == [2, 1]
        assert torch.equal(outer.calls[0].total, inner.total(q, k, None))
        assert torch.equal(output, F.scaled_dot_product_attention(q, k, v))
    assert not is_taken_apart(q, k, v)


def test_another_choice_of_kernels_is_heeded():
    q, k, v, _ = call()
    assert is_taken_apart(q, k, v) and not is_taken_apart(q, k, v)
    with sdpa_kernel(SDPBackend.MATH):
        output, interceptor, taken_apart = attended(q, k, v)
        assert taken_apart and interceptor.total(q, k, None) is None
        assert torch.equal(output, F.scaled_dot_product_attention(q, k, v))
    assert not is_taken_apart(q, k, v)


def test_tensors_that_pytorch_would_cast_are_left_to_it():
    q, k, v, _ = call(torch.bfloat16)
    assert is_taken_apart(q, k, v) and not is_taken_apart(q, k, v)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            assert is_taken_apart(q, k, v)
            assert attended(q, k, v)[0].dtype == dtype


def test_gradients_flow():
    q, k, v, _ = (x.requires_grad_() for x in call())
    for _ in range(2):
        output, interceptor, taken_apart = attended(q, k, v)
        output.sum().backward()
        assert taken_apart and interceptor.intercepted
    plain = [x.grad for x in (q, k, v)]
    for x in (q, k, v):
        x.grad = None
    F.scaled_dot_product_attention(q, k, v).sum().backward()
    for x, grad in zip((q, k, v), plain, strict=True):
        torch.testing.assert_close(2 * x.grad, grad)


class OnRequest:
    """A kernel of a CPU, as one that gives its sums on request alone; ``made`` are the requests."""

    def __init__(self, kernel):
        self.kernel, self.made = kernel, []

    def __call__(self, compute_log_sumexp, **arguments):
        self.made.append(compute_log_sumexp)
        if compute_log_sumexp == "fails":
            raise RuntimeError("No valid execution plans built")
        if compute_log_sumexp == "is short":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return self.kernel(**arguments)


@pytest.fixture
def made():
    """What intercepts a call, and the call."""
    q, k, v, _ = call()
    with Interceptor() as interceptor:
        output = F.scaled_dot_product_attention(q, k, v)
    return interceptor.calls[0], output, (q, k, v)


def test_a_kernel_that_was_called_without_its_sums_is_no_shortcut(made):
    """As cuDNN's the first time: the next call like it is made with them."""
    intercepted, output, tensors = made
    for request, known in ((False, False), (True, True)):
        of_kernel = replace(intercepted, arguments=intercepted.arguments | {shortcut.REQUEST: request})
        assert (kernel_of([of_kernel], output, *tensors) is not None) == known


@pytest.mark.parametrize("request_is", [True, "fails", "is short"])
def test_a_shortcut_that_fails_is_tried_once_and_one_for_which_memory_is_short_again(made, request_is):
    intercepted, output, tensors = made
    kernel, arguments = OnRequest(intercepted.operation), intercepted.arguments | {shortcut.REQUEST: request_is}
    of_kernel = replace(intercepted, operation=kernel, arguments=arguments)
    shortcut._known[shortcut._Call(*tensors).likeness] = kernel_of([of_kernel], output, *tensors)
    for _ in range(2):
        same, interceptor, taken_apart = attended(*tensors)
        assert torch.equal(same, output) and interceptor.total(*tensors[:2], None) is not None
        assert taken_apart == (request_is != True)  # noqa: E712
    assert kernel.made == {True: [True, True], "fails": ["fails"], "is short": 2 * ["is short"]}[request_is]


def kernel_of(calls, output, *tensors):
    return shortcut._Kernel.of(calls, shortcut._Call(*tensors), output)


def test_a_kernel_of_other_tensors_is_no_shortcut(made):
    intercepted, output, (q, k, v) = made
    mask = call()[3]
    assert kernel_of([intercepted], output, q, k, v) is not None
    assert kernel_of([intercepted], output.clone(), q, k, v) is None
    assert kernel_of([intercepted], output, q.clone(), k, v) is None
    assert kernel_of([intercepted], output, q, k, v.clone()) is None
    assert kernel_of([intercepted], output, q, k, v, mask) is None
    assert kernel_of([intercepted, intercepted], output, q, k, v) is None
    more = intercepted.arguments | {"dropout_mask": mask}
    assert kernel_of([replace(intercepted, arguments=more)], output, q, k, v) is None


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_calls_that_cannot_be_read_are_not_lost():
    """Tensors that have no memory of their own."""
    q, k, v, _ = call()
    nested = [torch.nested.nested_tensor([x[0].mT.contiguous().mT, x[1]]) for x in (q, k, v)]
    for _ in range(2):
        with Shortcut(Interceptor()):
            outputs = torch.vmap(F.scaled_dot_product_attention)(q, k, v)
            of_nested = F.scaled_dot_product_attention(*(x.transpose(1, 2).transpose(1, 2) for x in nested))
        torch.testing.assert_close(outputs, F.scaled_dot_product_attention(q, k, v))
        assert of_nested.is_nested


def test_a_scale_that_may_have_another_value_by_then_is_left_to_pytorch():
    q, k, v, _ = call()
    scale = torch.tensor(0.4)
    assert is_taken_apart(q, k, v, scale=scale)
    scale.fill_(2)
    assert is_taken_apart(q, k, v, scale=scale) and not shortcut._known


def test_what_is_learned_while_settings_change_is_not_remembered():
    """By another thread, between the choice of a kernel and the end of the call."""
    q, k, v, _ = call()
    before = torch.backends.cuda.flash_sdp_enabled()

    class Changing(Interceptor):
        def __exit__(self, *error):
            torch.backends.cuda.enable_flash_sdp(not before)
            return super().__exit__(*error)

    try:
        with Shortcut(Changing()):
            F.scaled_dot_product_attention(q, k, v)
    finally:
        torch.backends.cuda.enable_flash_sdp(before)
    assert not shortcut._known


class Functions(TorchFunctionMode):
    """Of another pack: ``seen`` are the names of what is called in it."""

    def __init__(self, seen):
        self.seen = seen

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.seen.append(function.__name__)
        return function(*args, **(kwargs or {}))


class Operations(TorchDispatchMode):
    """The same of operations."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.seen.append(operation.name())
        return operation(*args, **(kwargs or {}))


def test_a_mode_within_a_call_that_is_handled_is_seen():
    """Where a shortcut is out of the stack since it handles a call, and another one is in that call."""
    q, k, v, _ = call()
    seen = []

    def attention(x):
        if has_torch_function((x,)):
            return handle_torch_function(attention, (x,), x)
        with Functions(seen), Shortcut(Interceptor()):
            return F.scaled_dot_product_attention(x, k, v)

    plain = F.scaled_dot_product_attention(q, k, v)
    for _ in range(3):
        seen.clear()
        with Shortcut(Interceptor()):
            assert torch.equal(attention(q), plain)
        assert "scaled_dot_product_attention" in seen


def test_modes_of_others_see_every_call():
    q, k, v, _ = call()
    seen = []
    assert is_taken_apart(q, k, v) and not is_taken_apart(q, k, v)
    for mode in (Functions, Operations):
        for _ in range(2):
            seen.clear()
            with mode(seen), torch.inference_mode():
                assert attended(q, k, v)[2]
            assert "scaled_dot_product" in "".join(seen)
    assert not is_taken_apart(q, k, v)


def test_an_error_in_the_context_leaves_no_mode():
    q, k, v, _ = call()
    modes = torch._C._len_torch_function_stack()
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), Shortcut(Interceptor()), Shortcut(Interceptor()):
            F.scaled_dot_product_attention(q, k, v)
            raise error
        assert torch._C._len_torch_function_stack() == modes


def test_nothing_of_a_call_is_remembered_but_its_likeness(made):
    q, k, v, mask = call()
    attended(q, k, v, mask)
    (likeness,), (kernel,) = shortcut._known.keys(), shortcut._known.values()
    assert not any(isinstance(x, torch.Tensor) for x in (*likeness, *kernel.others.values()))


def test_not_more_is_remembered_than_is_allowed(monkeypatch):
    monkeypatch.setattr(intercept, "MOST_REMEMBERED", 2)
    for queries in (3, 4, 5):
        q, k, v, _ = call(queries=queries)
        assert is_taken_apart(q, k, v)
    assert len(shortcut._known) == 1
