"""The kernel that PyTorch's attention has chosen before, called at once for a call that is alike.

``scaled_dot_product_attention`` chooses a kernel by the shapes and strides of its tensors, and by settings of PyTorch.
Where it has given a kernel just the tensors that it was given, and returned the kernel's output as it came, a call
that is alike is that kernel. So it need not be taken apart in a dispatch mode (``intercept``): see
benchmarks/README.md, "What the host does".
"""

import logging
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

from .intercept import REQUEST, InterceptedCall, Interceptor, Remembered, identity, likeness_of
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
        *("_get_fa3_sdp_enabled", "_get_rocm_fa_preferred_backend"),
        *("_get_deterministic_algorithms", "_get_cudnn_enabled", "is_grad_enabled", "is_inference_mode_enabled"),
    )
    if hasattr(torch._C, name)
]
OF_EACH_DEVICE = torch.is_autocast_enabled, torch.is_autocast_cpu_enabled  # of CUDA and the CPU, in an older PyTorch
AUTOCASTS = [torch._C._is_any_autocast_enabled] if hasattr(torch._C, "_is_any_autocast_enabled") else OF_EACH_DEVICE

_known: "Remembered[_Kernel | None]" = Remembered()  # by the likeness of calls; None where its kernel has failed


class _Call(NamedTuple):
    """A call of ``scaled_dot_product_attention``."""

    query: Any
    key: Any
    value: Any
    attn_mask: Any = None
    dropout_p: float = 0.0
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False

    def tensors(self, mask: str) -> dict[str, Any]:
        """By their names, a mask by this one; without a mask that is not there."""
        given = {"query": self.query, "key": self.key, "value": self.value}
        return given if self.attn_mask is None else {**given, mask: self.attn_mask}

    @property
    def likeness(self) -> Hashable | None:
        """What decides which kernel computes it, and how; None of one that is left to PyTorch."""
        given = self.tensors("mask").values()
        if self.is_causal or self.enable_gqa or self.dropout_p or any(type(x) is not Tensor for x in given):
            return None
        if self.scale is not None and type(self.scale) not in (int, float):  # a tensor may have another value by then
            return None
        if any(x.requires_grad for x in given) or any(is_on() for is_on in AUTOCASTS):
            return None
        settings = (tuple(x) if isinstance(x := setting(), list) else x for setting in SETTINGS)
        return (*map(likeness_of, given), self.scale, *settings)


@dataclass(frozen=True)
class _Kernel:
    """A kernel that returns its sums, and all that it is given beside tensors."""

    operation: Any
    others: Mapping[str, Any]
    mask: str  # what the mask is called among its parameters; "" where the call has none
    scale: float

    @classmethod
    def of(cls, calls: Sequence[InterceptedCall], call: _Call, output: Tensor) -> "_Kernel | None":
        """That which computed a call alone, of the same tensors, and whose output was returned as it came."""
        if len(calls) != 1 or calls[0].output != identity(output):
            return None
        arguments = calls[0].arguments
        tensors = {name: x for name, x in arguments.items() if isinstance(x, Tensor)}
        mask = next((name for name in MASKS if name in tensors), "")
        given = call.tensors(mask)
        if tensors.keys() != given.keys() or any(identity(x) != identity(given[name]) for name, x in tensors.items()):
            return None
        if arguments.get(REQUEST) is False:  # it is made with the request later on, if its output stays as it is
            return None
        others = {name: x for name, x in arguments.items() if name not in tensors}
        return cls(calls[0].operation, others, mask, calls[0].scale)

    def run(self, call: _Call) -> tuple[Tensor, InterceptedCall | None]:
        """The output of a call, and what is intercepted of it."""
        arguments = {**self.others, **call.tensors(self.mask)}
        output, sums, *_ = self.operation(**arguments)
        if (total := row_sums(sums, call.query)) is None:
            return output, None
        intercepted = InterceptedCall(
            q=call.query, k=call.key, v=call.value, bias=call.attn_mask, scale=self.scale, total=total,
            operation=self.operation, arguments=arguments, output=identity(output),
        )  # fmt: skip
        return output, intercepted


class Shortcut(TorchFunctionMode):
    """A context in which PyTorch's attention is intercepted by ``interceptor``, the shortest way that is known.

    For code that calls attention by this function: what calls a kernel itself is not seen, and what PyTorch makes
    faster where there is no mode (``MultiheadAttention``) goes another way. Entered once. A caller has to keep it out
    of compiled graphs. Modes around it would not see what is called at once: other shortcuts are notified of it, and
    where there are modes of others, nothing is called at once.
    """

    def __init__(self, interceptor: Interceptor) -> None:
        super().__init__()
        self._interceptor = interceptor

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if function is not ATTENTION:
            return function(*args, **kwargs)
        around = _get_current_function_mode_stack()  # without this one, while it handles a call
        call, likeness = self._readable(around, args, kwargs)
        if call is not None and (kernel := _known.get(likeness)) is not None:
            try:
                output, intercepted = kernel.run(call)
            except torch.cuda.OutOfMemoryError:  # PyTorch makes the call without its sums, which takes less
                pass
            except Exception as error:
                log.debug("%s could not be called at once: %s", kernel.operation, error)
                _known[likeness] = None
            else:
                for shortcut in (self, *around) if intercepted else ():
                    shortcut._interceptor.add(intercepted)
                return output
        before = len(self._interceptor.calls)
        with self._interceptor:
            output = function(*args, **kwargs)
        if call is not None and likeness not in _known:
            self._learn(call, likeness, before, output)
        return output

    def _readable(self, around: list, args: tuple, kwargs: dict) -> "tuple[_Call | None, Hashable]":
        """A call and its likeness; (None, None) of one that is left to PyTorch, which must not be lost."""
        try:
            others = any(not isinstance(mode, Shortcut) for mode in around)
            call = None if others or torch._C._len_torch_dispatch_stack() else _Call(*args, **kwargs)
            likeness = None if call is None else call.likeness
        except Exception as error:  # as of a tensor that has no memory of its own
            log.debug("a call of attention cannot be read: %s", error)
            return None, None
        return (call, likeness) if likeness is not None else (None, None)

    def _learn(self, call: _Call, likeness: Hashable, before: int, output: Tensor) -> None:
        """Remember which kernel computed a call, whose output must not be lost."""
        try:
            kernel = _Kernel.of(self._interceptor.calls[before:], call, output)
        except Exception as error:
            log.debug("it is not known what computed a call of attention: %s", error)
            return
        if kernel is not None and call.likeness == likeness:  # else another thread has changed PyTorch's settings
            _known[likeness] = kernel
