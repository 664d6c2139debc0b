"""Products of queries and keys in half precision, whose sums are in float32, where a device has them (cuBLAS does).

Products of numbers of 8 or 11 bits are exact in float32: the logits are those of float32, from tensor cores. Trusted
for a device, dtype and head size only after they agreed with float64 there.
"""

import functools
import logging

import torch
from torch import Tensor

log = logging.getLogger(__name__)

NAME, OTHER = "products in half precision, sums in float32", "products in float32"
DTYPES = (torch.float16, torch.bfloat16)
DEVICES = ["cuda"]  # types of device that PyTorch has them for
RTOL = 2e-6  # of a sum of products to the sum of their sizes: what float32 loses in as many as a head has


def serve(q: Tensor, k: Tensor) -> bool:
    """Whether queries and keys are multiplied in the dtype that they have."""
    if q.device.type not in DEVICES or q.dtype not in DTYPES or k.dtype != q.dtype:
        return False
    try:
        return is_proved(q.device, q.dtype, q.shape[-1])
    except torch.cuda.OutOfMemoryError:  # which says nothing of the products; next time there may be more
        return False


def logits(added: Tensor, q: Tensor, k: Tensor, scale: float) -> Tensor:
    """``added + scale q k^T``, ``[g, n, m]`` of ``q [g, n, D]`` and ``k [g, m, D]``, in the dtype of ``added``."""
    if q.dtype == added.dtype:
        return torch.baddbmm(added, q, k.mT, alpha=scale)
    product = _multiplied(q, k)
    return torch.add(added, product, alpha=scale, out=product)


def _multiplied(q: Tensor, k: Tensor) -> Tensor:
    return torch.ops.aten.bmm.dtype(q, k.mT, torch.float32)  # since PyTorch 2.8


@functools.cache
def is_proved(device: torch.device, dtype: torch.dtype, head_size: int) -> bool:
    """Whether the products of a device agree with float64: heads lie side by side, lengths fill no tile.

    Raises OutOfMemoryError.
    """
    g = torch.Generator().manual_seed(0)
    q, k = (6 * torch.randn(n, 3 * head_size, generator=g) for n in (77, 153))
    q, k = (x.to(device, dtype).unflatten(-1, (3, -1)).transpose(0, 1) for x in (q, k))
    try:
        away = (_multiplied(q, k).double() - q.double() @ k.double().mT).abs()
        agrees = bool((away <= RTOL * (q.double().abs() @ k.double().abs().mT)).all())
    except torch.cuda.OutOfMemoryError:
        raise
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        log.debug("products of %s on %s are not available: %s", dtype, device, error)
        return False
    level, verdict = (logging.INFO, "agree") if agrees else (logging.WARNING, "are wrong")
    log.log(level, "products of %s on %s, head size %d, %s", dtype, device, head_size, verdict)
    return agrees
