"""The row log-sum-exp of an attention call: the logarithm of what the softmax divides a row by.

Attention kernels compute it anyway and can return it. A kernel is trusted only after it has agreed, once for each
device, dtype and head size, with the plain computation in float32; otherwise the plain computation is used.
"""

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)
aten = torch.ops.aten

CHUNK_BYTES = 32 * 2**20
PLAIN = "plain computation in float32"
TOLERANCE = {torch.float32: 1e-5, torch.float16: 1e-4, torch.bfloat16: 1e-4, torch.float64: 1e-12}


def row_log_sum_exp(q: Tensor, k: Tensor, scale: float, bias: Tensor | None = None) -> tuple[Tensor, str]:
    """``log sum_j exp(scale * q_i k_j + bias_ij)``, ``[B, H, N]``, and the name of what computed it.

    ``q [B, H, N, D]`` and ``k [B, H, K, D]``; ``bias`` is additive and broadcasts to ``[B, H, N, K]``. float32, or
    float64 for float64 inputs. A row whose keys are all masked gets -inf or 0: no map depends on it.
    """
    for operation in _KERNELS_OF_DEVICE.get(q.device.type, ()):
        if is_trusted(operation, q.device.type, q.dtype, q.shape[-1], bias is not None):
            total = KERNELS[operation](q, k, scale, bias)
            if bias is None or bool(total.isfinite().all()):  # of a row that is masked as a whole, some return NaN
                return total, name_of(operation)
    return chunked(q, k, scale, bias), PLAIN


def chunked(q: Tensor, k: Tensor, scale: float, bias: Tensor | None = None) -> Tensor:
    """The plain computation, a few rows at a time, so that no more than ``CHUNK_BYTES`` of logits exist at once."""
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    columns = k.to(dtype).transpose(-1, -2)
    rows = max(1, CHUNK_BYTES // max(1, columns.element_size() * q.shape[0] * q.shape[1] * k.shape[2]))
    out = torch.empty(q.shape[:3], dtype=dtype, device=q.device)
    for start in range(0, q.shape[2], rows):
        part = slice(start, start + rows)
        logits = (q[:, :, part].to(dtype) * scale) @ columns
        if bias is not None:
            logits = logits + bias.expand(*q.shape[:3], k.shape[2])[:, :, part]
        out[:, :, part] = logits.logsumexp(-1)
    return out


@functools.cache
def is_trusted(operation: Any, device: str, dtype: torch.dtype, dim: int, masked: bool) -> bool:
    """Whether a kernel's log-sum-exp agrees with ``chunked`` on this device, for this dtype and head size."""
    g = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 2, n, dim, generator=g).to(device, dtype) for n in (33, 72))
    bias = torch.randn(1, 1, 33, 72, generator=g).to(device, dtype).expand(1, 2, -1, -1) if masked else None
    case = f"{name_of(operation)} on {device}, {dtype}, head size {dim}, {'with' if masked else 'no'} mask"
    expected = chunked(q, k, dim**-0.5, bias)
    try:
        total = KERNELS[operation](q, k, dim**-0.5, bias)
    except (RuntimeError, NotImplementedError, AttributeError, TypeError) as error:
        log.debug("log-sum-exp: %s is not available: %s", case, error)
        return False
    agrees = total.shape == expected.shape and bool((total - expected).abs().max() <= TOLERANCE.get(dtype, 0.0))
    log.log(logging.INFO if agrees else logging.WARNING, "log-sum-exp: %s %s", case, "agrees" if agrees else "is wrong")
    return agrees


def name_of(operation: Any) -> str:
    """The kernel's name, as the summary of a run gives it."""
    return str(operation.overloadpacket.__name__).strip("_")


def _flash_on_cpu(q: Tensor, k: Tensor, scale: float, bias: Tensor | None) -> Tensor:
    return aten._scaled_dot_product_flash_attention_for_cpu(q, k, k, attn_mask=bias, scale=scale)[1]


def _flash_on_cuda(q: Tensor, k: Tensor, scale: float, bias: Tensor | None) -> Tensor:
    if bias is not None:
        raise NotImplementedError("the flash kernel takes no mask")
    return aten._scaled_dot_product_flash_attention(q, k, k, scale=scale)[1][..., : q.shape[2]]


def _efficient_on_cuda(q: Tensor, k: Tensor, scale: float, bias: Tensor | None) -> Tensor:
    total = aten._scaled_dot_product_efficient_attention(q, k, k, bias, True, scale=scale)[1]
    return total[..., : q.shape[2]]  # the kernel pads it to a multiple of its tile


_Kernel = Callable[[Tensor, Tensor, float, Tensor | None], Tensor]
KERNELS: dict[Any, _Kernel] = {
    aten._scaled_dot_product_flash_attention_for_cpu.default: _flash_on_cpu,
    aten._scaled_dot_product_flash_attention.default: _flash_on_cuda,
    aten._scaled_dot_product_efficient_attention.default: _efficient_on_cuda,
}
_KERNELS_OF_DEVICE = {"cpu": tuple(KERNELS)[:1], "cuda": tuple(KERNELS)[1:]}
