"""The row log-sum-exp of an attention call: what every probability of a row is divided by, as a logarithm.

Attention kernels compute it anyway and can hand it out. Such a kernel is trusted only after it has agreed,
once for each device, dtype and head size, with the plain computation in float32; otherwise the plain one serves.
"""

import functools
import logging
from collections.abc import Callable

import torch
from torch import Tensor

log = logging.getLogger(__name__)

CHUNK_BYTES = 32 * 2**20
TOLERANCE = {torch.float32: 1e-5, torch.float16: 1e-4, torch.bfloat16: 1e-4, torch.float64: 1e-12}

_Kernel = Callable[[Tensor, Tensor, float], Tensor]


def row_log_sum_exp(q: Tensor, k: Tensor, scale: float, bias: Tensor | None = None) -> Tensor:
    """``log sum_j exp(scale * q_i k_j + bias_ij)``, ``[B, H, N]``, for ``q [B, H, N, D]`` and ``k [B, H, K, D]``.

    float32, or float64 for float64 inputs. ``bias`` is additive and broadcasts to ``[B, H, N, K]``.
    """
    if bias is None:
        kernel = trusted_kernel(q.device.type, q.dtype, q.shape[-1])
        if kernel is not None:
            return kernel(q, k, scale)
    return chunked(q, k, scale, bias)


def chunked(q: Tensor, k: Tensor, scale: float, bias: Tensor | None = None) -> Tensor:
    """The plain computation, a few rows at a time."""
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    columns = k.to(dtype).transpose(-1, -2)
    rows = max(1, CHUNK_BYTES // (columns.element_size() * q.shape[0] * q.shape[1] * k.shape[2]))
    out = torch.empty(q.shape[:3], dtype=dtype, device=q.device)
    for start in range(0, q.shape[2], rows):
        part = slice(start, start + rows)
        logits = (q[:, :, part].to(dtype) * scale) @ columns
        if bias is not None:
            logits = logits + bias.expand(*q.shape[:3], k.shape[2])[:, :, part]
        out[:, :, part] = logits.logsumexp(-1)
    return out


@functools.cache
def trusted_kernel(device: str, dtype: torch.dtype, dim: int) -> _Kernel | None:
    """The kernel for this device, dtype and head size that agrees with ``chunked``, if there is one."""
    g = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 2, n, dim, generator=g).to(device, dtype) for n in (33, 70))
    expected = chunked(q, k, dim**-0.5)
    for kernel in _KERNELS.get(device, ()):
        try:
            found = kernel(q, k, dim**-0.5)
        except (RuntimeError, NotImplementedError, AttributeError, TypeError) as error:
            log.debug("log-sum-exp kernel %s is not available: %s", kernel.__name__, error)
            continue
        if found.shape == expected.shape and (found - expected).abs().max() <= TOLERANCE.get(dtype, 0.0):
            log.info("log-sum-exp on %s, %s, head size %d: %s", device, dtype, dim, kernel.__name__)
            return kernel
        log.warning("log-sum-exp kernel %s disagrees with the plain computation and is not used", kernel.__name__)
    log.info("log-sum-exp on %s, %s, head size %d: plain computation", device, dtype, dim)
    return None


def _flash_on_cpu(q: Tensor, k: Tensor, scale: float) -> Tensor:
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, k, scale=scale)[1]


def _flash_on_cuda(q: Tensor, k: Tensor, scale: float) -> Tensor:
    return torch.ops.aten._scaled_dot_product_flash_attention(q, k, k, scale=scale)[1][..., : q.shape[2]]


def _efficient_on_cuda(q: Tensor, k: Tensor, scale: float) -> Tensor:
    found = torch.ops.aten._scaled_dot_product_efficient_attention(q, k, k, None, True, scale=scale)
    return found[1][..., : q.shape[2]]  # padded to a multiple of the kernel's tile


_KERNELS: dict[str, tuple[_Kernel, ...]] = {
    "cpu": (_flash_on_cpu,),
    "cuda": (_flash_on_cuda, _efficient_on_cuda),
}
