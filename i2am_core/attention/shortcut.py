"""The kernel that PyTorch's attention has chosen before, called at once for a call that is alike.

``scaled_dot_product_attention`` chooses a kernel by the shapes and strides of its tensors, and by settings of PyTorch.
Where it has given a kernel just the tensors that it was given, and returned the kernel's output as it came, a call
that is alike is that kernel. So it need not be taken apart in a dispatch mode, which costs the host several times as
much as the rest of the call.
"""

import logging
import threading
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .intercept import MOST_REMEMBERED, REQUEST, InterceptedCall, Interceptor, identity
from .logsumexp import row_sums

log = logging.getLogger(__name__)

ATTENTION = torch._C._nn.scaled_dot_product_attention
MASKS = ("attn_mask", "attn_bias")  # what it is called among the parameters of kernels
# By which PyTorch chooses; some are not in every PyTorch.
SETTINGS = [
    getattr(torch._C, name)
    for name in (
        *("_get_flash_sdp_enabled", "_get_mem_efficient_sdp_enabled", "_get_math_sdp_enabled"),
        *("_get_cudnn_sdp_enabled", "_get_overrideable_sdp_enabled", "_get_sdp_priority_order"),
        *("_get_deterministic_algorithms", "_get_cudnn_enabled", "is_grad_enabled", "is_inference_mode_enabled"),
    )
    if hasattr(torch._C, name)
]
OF_EACH_DEVICE = torch.is_autocast_enabled, torch.is_autocast_cpu_enabled
AUTOCASTS = [torch._C._is_any_autocast_enabled] if hasattr(torch._C, "_is_any_autocast_enabled") else OF_EACH_DEVICE

_known: "dict[Hashable, _Kernel]" = {}  # by the likeness of calls


@dataclass(frozen=True)
class _Kernel:
    """A kernel that returns its sums, and all that it is given beside tensors."""

    operation: Any
    others: Mapping[str, Any]
    mask: str  # what the mask is called among its parameters; "" where the call has none
    scale: float


class _Innermost(threading.local):
    """The shortcut of this thread inside all others."""

    shortcut: "Shortcut | None" = None


_innermost = _Innermost()


class Shortcut(TorchFunctionMode):
    """A context in which PyTorch's attention is intercepted by ``interceptor``, the shortest way that is known.

    What is called at once those around this one do not see: they are told of it.
    """

    def __init__(self, interceptor: Interceptor) -> None:
        super().__init__()
        self._interceptor = interceptor
        self._around: Shortcut | None = None

    def __enter__(self) -> "Shortcut":
        self._around, _innermost.shortcut = _innermost.shortcut, self
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        _innermost.shortcut, self._around = self._around, None

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if function is not ATTENTION:
            return function(*args, **kwargs)
        likeness = _likeness(*args, **kwargs)
        kernel = None if likeness is None else _known.get(likeness)
        if kernel is not None:
            try:
                return self._at_once(kernel, *args, **kwargs)
            except Exception as error:  # as where memory is short for the sums: PyTorch makes the call without them
                log.debug("%s could not be called at once: %s", kernel.operation, error)
        before = len(self._interceptor.calls)
        with self._interceptor:
            output = function(*args, **kwargs)
        if likeness is not None and kernel is None:
            _remember(likeness, _kernel_of(self._interceptor.calls[before:], output, *args, **kwargs))
        return output

    def _at_once(
        self, kernel: _Kernel, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *args: Any,
        **kwargs: Any,
    ) -> Tensor:  # fmt: skip
        tensors = {"query": query, "key": key, "value": value} | ({kernel.mask: attn_mask} if kernel.mask else {})
        arguments = {**kernel.others, **tensors}
        output: Tensor
        output, sums, *_ = kernel.operation(**arguments)
        if (total := row_sums(sums, query)) is not None:
            made = (query, key, value, attn_mask, kernel.scale, total, kernel.operation, arguments, identity(output))
            self._add(InterceptedCall(*made))
        return output

    def _add(self, call: InterceptedCall) -> None:
        self._interceptor.add(call)
        if self._around is not None:
            self._around._add(call)


def _likeness(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False, **others: Any,
) -> Hashable | None:  # fmt: skip
    """What decides which kernel computes a call, and how; None of one that is left to PyTorch."""
    given = query, key, value, attn_mask
    if others or is_causal or enable_gqa or dropout_p or any(x is not None and type(x) is not Tensor for x in given):
        return None
    if any(x is not None and x.requires_grad for x in given) or any(is_on() for is_on in AUTOCASTS):
        return None
    tensors = [x if x is None else (x.dtype, x.device, x.shape, x.stride(), x.data_ptr() % 16) for x in given]
    return (*tensors, scale, *(tuple(x) if isinstance(x := setting(), list) else x for setting in SETTINGS))


def _kernel_of(
    calls: Sequence[InterceptedCall], output: Tensor, query: Tensor, key: Tensor, value: Tensor,
    attn_mask: Tensor | None = None, *args: Any, **kwargs: Any,
) -> _Kernel | None:  # fmt: skip
    """The kernel that computed a call alone, of the same tensors, and whose output was returned as it came."""
    if len(calls) != 1 or calls[0].output != identity(output):
        return None
    (call,) = calls
    tensors = {name: x for name, x in call.arguments.items() if isinstance(x, Tensor)}
    mask = next((name for name in MASKS if name in tensors), "")
    given = {"query": query, "key": key, "value": value} | ({} if attn_mask is None else {mask: attn_mask})
    if tensors.keys() != given.keys() or any(identity(x) != identity(given[name]) for name, x in tensors.items()):
        return None
    others = {name: x for name, x in call.arguments.items() if name not in tensors}
    if others.get(REQUEST) is False:  # it is made with the request later on, if that leaves the output as it is
        return None
    return _Kernel(call.operation, others, mask, call.scale)


def _remember(likeness: Hashable, kernel: _Kernel | None) -> None:
    if kernel is None:
        return
    if len(_known) >= MOST_REMEMBERED:
        _known.clear()
    _known[likeness] = kernel
