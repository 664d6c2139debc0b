"""The row log-sum-exp of an attention call, overheard from the kernel that computes the call itself.

Flash kernels give it out beside their output, and PyTorch's ``scaled_dot_product_attention`` throws it away. A
dispatch mode sees the kernel run: nothing is replaced or repeated, so the output cannot change.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .logsumexp import trusts

aten = torch.ops.aten

_KERNELS = (
    aten._scaled_dot_product_flash_attention_for_cpu.default,
    aten._scaled_dot_product_flash_attention.default,
    aten._scaled_dot_product_efficient_attention.default,
)  # each takes q, k, v first, and gives the output and the log-sum-exp first
_MASK = {aten._scaled_dot_product_efficient_attention.default: 3}  # where the mask stands, if not by name


class Listener(TorchDispatchMode):
    """Remembers what the attention kernels under it gave out."""

    def __init__(self) -> None:
        super().__init__()
        self._heard: list[tuple[Tensor, Tensor, bool, float | None, Tensor]] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if operation is aten.scaled_dot_product_attention.default:  # whole in inference mode: look inside
            with self:
                return operation.decompose(*args, **kwargs)
        out = operation(*args, **kwargs)
        if operation in _KERNELS and trusts(operation, args[0].device.type, args[0].dtype, args[0].shape[-1]):
            place = _MASK.get(operation, len(args))
            masked = kwargs.get("attn_mask", args[place] if place < len(args) else None) is not None
            self._heard.append((args[0], args[1], masked, kwargs.get("scale"), out[1]))
        return out

    def total(self, q: Tensor, k: Tensor, scale: float | None, masked: bool) -> Tensor | None:
        """The log-sum-exp of exactly this call, ``[B, H, Nq]``, or None where it was not heard.

        ``q [B, H, Nq, D]`` and ``k [B, H, K, D]`` must be the memory that the one kernel read.
        """
        if len(self._heard) != 1:
            return None
        heard_q, heard_k, heard_mask, heard_scale, total = self._heard[0]
        same = all(a.shape == b.shape and a.data_ptr() == b.data_ptr() for a, b in ((q, heard_q), (k, heard_k)))
        default = q.shape[-1] ** -0.5
        if not same or masked != heard_mask or (scale or default) != (heard_scale or default):
            return None
        total = total[..., : q.shape[2]]  # some kernels pad it to their tile
        if total.shape != q.shape[:3] or not bool(total.isfinite().all()):  # not given out, or rows fully masked
            return None
        return total
