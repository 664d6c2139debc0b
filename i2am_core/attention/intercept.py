"""The row log-sum-exp of an attention call, overheard from the kernel that computes the call itself.

Flash kernels give it out beside their output, and PyTorch's ``scaled_dot_product_attention`` throws it away. A
dispatch mode sees the kernel run: nothing is replaced or repeated, so the output cannot change.
"""

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .logsumexp import KERNELS, trusts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Heard:
    q: Tensor
    k: Tensor
    bias: Tensor | None
    scale: float
    total: Tensor


class Interceptor(TorchDispatchMode):
    """Remembers what the attention kernels that run under it gave out."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._heard: list[_Heard] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: that would import PyTorch's compiler, a second and 76 MB. Callers keep this out of compiled graphs."""
        return False

    def __torch_dispatch__(self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if operation is torch.ops.aten.scaled_dot_product_attention.default:  # whole in inference mode: look inside
            with self:
                return operation.decompose(*args, **kwargs)
        out = operation(*args, **kwargs)
        if operation in KERNELS:
            try:
                self._hear(operation, _by_name(operation, args) | kwargs, out[1])
            except Exception as error:  # a kernel of another shape in another PyTorch: the output matters more
                log.debug("%s could not be overheard: %s", operation, error)
        return out

    def _hear(self, operation: Any, given: dict[str, Any], total: Tensor) -> None:
        q, k, bias = given["query"], given["key"], given.get("attn_mask", given.get("attn_bias"))
        if not given.get("is_causal") and trusts(operation, q.device.type, q.dtype, q.shape[-1], bias is not None):
            self._heard.append(_Heard(q, k, bias, given.get("scale") or q.shape[-1] ** -0.5, total))

    @property
    def silent(self) -> bool:
        """Whether no kernel ran that gives its sums out."""
        return not self._heard

    def total(self, q: Tensor, k: Tensor, scale: float | None, bias: Tensor | None = None) -> Tensor | None:
        """The log-sum-exp of exactly this call, ``[B, H, Nq]``, or None where it was not heard.

        ``q [B, H, Nq, D]``, ``k [B, H, K, D]`` and ``bias`` (of any shape) must be the memory that the one kernel read.
        """
        if len(self._heard) != 1:
            return None
        (heard,) = self._heard
        if not (_same(q, heard.q) and _same(k, heard.k) and _same_memory(bias, heard.bias)):
            return None
        if (scale or q.shape[-1] ** -0.5) != heard.scale:
            return None
        total = heard.total[..., : q.shape[2]]  # some kernels pad it to their tile
        if total.shape != q.shape[:3] or not bool(total.isfinite().all()):  # not given out, or rows that see nothing
            return None
        return total


def _by_name(operation: Any, args: tuple) -> dict[str, Any]:
    return {parameter.name: value for parameter, value in zip(operation._schema.arguments, args, strict=False)}


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are one piece of memory, read in one order."""
    strides = ((x, y) for x, y, size in zip(a.stride(), b.stride(), a.shape, strict=False) if size > 1)
    return a.shape == b.shape and _same_memory(a, b) and all(x == y for x, y in strides)


def _same_memory(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.data_ptr() == b.data_ptr() and a.dtype == b.dtype
