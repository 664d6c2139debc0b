"""The row log-sum-exp of an attention call, intercepted from the kernel that computes the call itself.

Flash kernels return it beside their output, and PyTorch's ``scaled_dot_product_attention`` throws it away. A
dispatch mode is called for each kernel that runs: the output is the kernel's own.

Other kernels return it only on request, which PyTorch makes where it wants gradients. Of a call whose like has not been
there, both are made: the output stays that of the call without the request. Only where both outputs are the same to the
bit, later calls like it are made with the request, and once.
"""

import functools
import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .logsumexp import KERNELS, Case, is_trusted, row_sums

log = logging.getLogger(__name__)

REQUEST = "compute_log_sumexp"  # the parameter of kernels that return their sums on request
MOST_REMEMBERED = 512  # kinds of calls
T = TypeVar("T")


class Remembered(dict[Hashable, T]):
    """What is known by the likeness of calls, of as many as are worth it."""

    def __setitem__(self, likeness: Hashable, value: T) -> None:
        if len(self) >= MOST_REMEMBERED:
            self.clear()
        super().__setitem__(likeness, value)


_same_on_request: Remembered[bool] = Remembered()  # whether the request leaves their output as it is


@dataclass(frozen=True)
class InterceptedCall:
    """A call that a kernel has computed, and its row log-sum-exp ``total [B, H, Nq]``."""

    q: Tensor
    k: Tensor
    v: Tensor
    bias: Tensor | None
    scale: float
    total: Tensor
    operation: Any  # the kernel
    arguments: dict[str, Any]  # all that it was given; without a request where its sums are of a call made once more
    output: tuple  # its output's ``identity``


class Interceptor(TorchDispatchMode):
    """A context that keeps the row log-sum-exp of every attention kernel that runs in it.

    Only kernels of PyTorch that return it (``logsumexp.KERNELS``) are intercepted, where they are trusted.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._calls: list[InterceptedCall] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False, since True would import PyTorch's compiler, which takes a second and 76 MB.

        So a caller has to keep this mode out of compiled graphs.
        """
        return False

    def __torch_dispatch__(self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if operation is torch.ops.aten.scaled_dot_product_attention.default:
            with self:  # inference mode hands over the whole operation: the kernel only shows when it is taken apart
                return operation.decompose(*args, **kwargs)
        if operation not in KERNELS:
            return operation(*args, **kwargs)
        arguments = _by_name(operation, args) | kwargs
        likeness = self._requestable(operation, arguments)
        out = _on_request(operation, arguments, likeness) if _same_on_request.get(likeness) else None
        if out is not None:
            self._intercept(operation, arguments | {REQUEST: True}, out)
            return out
        out = operation(*args, **kwargs)
        if likeness and likeness not in _same_on_request:
            self._intercept(operation, arguments, (out[0], _sums_if_same(operation, arguments, likeness, out[0])))
        else:
            self._intercept(operation, arguments, out)
        return out

    def _requestable(self, operation: Any, arguments: dict[str, Any]) -> tuple:
        """The likeness of a call whose sums must be requested, and could be kept; else ()."""
        if arguments.get(REQUEST) is not False or arguments.get("dropout_p"):
            return ()
        try:
            return _likeness(operation, arguments) if _is_readable(operation, arguments) else ()
        except Exception as error:  # another PyTorch may have changed the kernel; its output must not be lost
            log.debug("%s could not be intercepted: %s", operation, error)
            return ()

    def _intercept(self, operation: Any, arguments: dict[str, Any], returned: Sequence[Any]) -> None:
        """``returned`` are the output of a kernel, and its sums."""
        try:
            q, k, bias = _inputs(arguments)
            total = row_sums(returned[1], q)
            if total is not None and _is_readable(operation, arguments):
                v, scale, output = arguments["value"], _scale(arguments.get("scale"), q), identity(returned[0])
                self.add(InterceptedCall(q, k, v, bias, scale, total, operation, arguments, output))
        except Exception as error:  # as above
            log.debug("%s could not be intercepted: %s", operation, error)

    def add(self, call: InterceptedCall) -> None:
        """One more call."""
        self._calls.append(call)

    @property
    def calls(self) -> Sequence[InterceptedCall]:
        """All that were intercepted so far."""
        return self._calls

    @property
    def intercepted(self) -> bool:
        """Whether any kernel ran whose row log-sum-exp could be kept."""
        return bool(self._calls)

    def changed_values(self, v: Tensor) -> Tensor | None:
        """The values ``[B, H, K, D]`` that the only kernel read, where these are other memory than ``v``; else None."""
        if len(self._calls) != 1 or self._calls[0].v.shape != v.shape or _same(self._calls[0].v, v):
            return None
        return self._calls[0].v

    def total(self, q: Tensor, k: Tensor, scale: float | None, bias: Tensor | None = None) -> Tensor | None:
        """The row log-sum-exp of exactly this call, ``[B, H, Nq]``, or None where it was not intercepted.

        ``q [B, H, Nq, D]``, ``k [B, H, K, D]`` and ``bias`` (of any shape) must be the memory that the kernel read,
        and it must have been the only kernel. ``scale`` None stands for ``D ** -0.5``. Of rows that are masked as a
        whole, or hold no numbers, there may be anything in it: see ``logsumexp.agreed``.
        """
        totals = self.totals([(q, k, scale, bias)])
        return None if totals is None else totals[0]

    def totals(self, calls: Sequence[tuple[Tensor, Tensor, float | None, Tensor | None]]) -> list[Tensor] | None:
        """The same of several calls, each with its q, k, scale and bias, which were all kernels, in this order."""
        if len(self._calls) != len(calls):
            return None
        if not all(_is_of(call, *given) for call, given in zip(self._calls, calls, strict=True)):
            return None
        return [call.total for call in self._calls]


def _is_of(call: InterceptedCall, q: Tensor, k: Tensor, scale: float | None, bias: Tensor | None) -> bool:
    """Whether a call was made of exactly these."""
    same = _same(q, call.q) and _same(k, call.k) and _same_memory(bias, call.bias)
    return same and _scale(scale, q) == call.scale


def _scale(scale: float | None, q: Tensor) -> float:
    return q.shape[-1] ** -0.5 if scale is None else scale


def _inputs(arguments: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor | None]:
    return arguments["query"], arguments["key"], arguments.get("attn_mask", arguments.get("attn_bias"))


def _likeness(operation: Any, arguments: dict[str, Any]) -> tuple:
    """Of calls that a kernel computes in one way: all but the values of their tensors."""
    return operation, *(
        (name, likeness_of(x) if isinstance(x, Tensor) else x) for name, x in arguments.items() if name != REQUEST
    )


def likeness_of(x: Tensor) -> Hashable:
    """All of a tensor that a kernel is chosen by: its values and its place in memory are not."""
    return x.dtype, x.device, x.shape, x.stride(), x.data_ptr() % 16


def _is_readable(operation: Any, arguments: dict[str, Any]) -> bool:
    """Whether the sums of a call are of all that it computes, and trusted."""
    q, k, bias = _inputs(arguments)
    if arguments.get("is_causal"):  # its mask is not among the arguments
        return False
    if q.shape[:2] != k.shape[:2]:  # keys that heads share: those of the call are repeated, which is other memory
        return False
    return is_trusted(Case.of(operation, q, k, bias))


def _on_request(operation: Any, arguments: dict[str, Any], likeness: tuple) -> Any:
    """What a kernel returns with its sums; None where it raises, and then calls like it are made without."""
    try:
        return operation(**(arguments | {REQUEST: True}))
    except torch.cuda.OutOfMemoryError:
        return None
    except Exception as error:
        log.debug("%s gives no sums on request: %s", operation, error)
        _same_on_request[likeness] = False
        return None


def _sums_if_same(operation: Any, arguments: dict[str, Any], likeness: tuple, output: Tensor) -> Any:
    """The sums of a call that is made once more, to request them, if that leaves its output as it is; else None.

    Waits for the device, once for each likeness. Where memory is short, nothing is known, and it is tried again.
    """
    again = _on_request(operation, arguments, likeness)
    if again is None:
        return None
    try:
        same = _same_bits(output, again[0])
    except torch.cuda.OutOfMemoryError:
        return None
    _same_on_request[likeness] = same
    return again[1] if same else None


def _same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether outputs are the same to the bit. Waits for the device."""
    return torch.equal(*(x.contiguous().view(torch.uint8) for x in (a, b)))


def _by_name(operation: Any, args: tuple) -> dict[str, Any]:
    return dict(zip(_names(operation), args, strict=False))


@functools.cache
def _names(operation: Any) -> list[str]:
    """Of its parameters. PyTorch makes a new list of them whenever it is asked."""
    return [parameter.name for parameter in operation._schema.arguments]


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are one piece of memory, read in one order."""
    if a.shape != b.shape or not _same_memory(a, b):
        return False
    ours, others = a.stride(), b.stride()
    return ours == others or all(x == y for x, y, size in zip(ours, others, a.shape, strict=True) if size > 1)


def identity(x: Tensor) -> tuple:
    """What tells tensors apart that are alive: their memory, and the order in which it is read."""
    return x.data_ptr(), x.dtype, x.shape, x.stride()


def _same_memory(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.data_ptr() == b.data_ptr() and a.dtype == b.dtype
