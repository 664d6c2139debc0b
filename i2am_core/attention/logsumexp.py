"""The row log-sum-exp of an attention call: the logarithm of what the softmax divides a row by.

Attention kernels compute it anyway and can return it. A kernel is trusted only after it has agreed, once for each
``Case``, with the plain computation in float32; otherwise the plain computation is used.

What PyTorch's kernels want (aten/src/ATen/native/transformers):

* cuda/mem_eff_attention/kernel_forward.h, ``check_supported``, and cuda/attention.cu, ``_efficient_attention_forward``:
  a bias of all four axes (repeated ones have stride 0), in the queries' dtype, whose last axis is contiguous, and whose
  memory and other strides are whole multiples of 16 bytes. attention.cpp, ``pad_bias``, pads it to 8 elements for that.
* The same function returns the sums for rows up to a multiple of 32 (``kAlignLSE``), and for none at all where
  ``compute_logsumexp`` is false. ``scaled_dot_product_attention`` asks for them only where gradients are wanted.
* cuda/flash_attn/flash_api.cpp, ``mha_fwd``: half precision, no bias, a head size that is a multiple of 8 and at most
  256. attention.cpp, ``pad_last_dim``, pads the heads.
* cudnn/MHA.cpp returns the sums as ``[B, H, N, 1]``, and an undefined tensor, which is None here, where not asked.
* attention.cpp, ``_scaled_dot_product_flash_attention_cpu``: a bias in the queries' dtype, or in float32 (with float64
  queries it takes that as well, and the sums are wrong).
"""

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .columns import unexpanded
from .on_device import runs_alone
from .precision import full_float32

log = logging.getLogger(__name__)
aten = torch.ops.aten

CHUNK_BYTES = 32 * 2**20
PLAIN = "plain computation in float32"
# Of a sum of 1 + |sum|: what float32, and the exponentials of kernels in half precision, may differ by.
TOLERANCE = {torch.float32: 2e-6, torch.float16: 2e-5, torch.bfloat16: 2e-5, torch.float64: 1e-12}
ALIGNMENT = 8  # elements: 16 bytes of half precision
MASKED = -1e30  # a bias below it hides its column in any dtype, whether as a finite number or as -inf


@dataclass(frozen=True)
class Case:
    """What decides how a kernel computes a call: where it has agreed once, it is trusted.

    ``bias`` is its dtype, and which of the axes B, H and N have one bias for all.
    """

    operation: Any
    device: torch.device
    dtype: torch.dtype
    head_size: int
    bias: tuple[torch.dtype, bool, bool, bool] | None

    @classmethod
    def of(cls, operation: Any, q: Tensor, k: Tensor, bias: Tensor | None) -> "Case":
        """That of a call, with the bias as the kernel gets it."""
        kind = None
        if bias is not None:
            axes = zip(q.shape[:3], bias.expand(*q.shape[:3], k.shape[2]).stride(), strict=False)
            batch, heads, rows = (size > 1 and stride == 0 for size, stride in axes)
            kind = (bias.dtype, batch, heads, rows)
        return cls(operation, q.device, q.dtype, q.shape[-1], kind)

    def __str__(self) -> str:
        bias = "no bias" if self.bias is None else f"a bias in {self.bias[0]}, shared by axes {self.bias[1:]}"
        return f"{name_of(self.operation)} on {self.device}, {self.dtype}, head size {self.head_size}, {bias}"


_refused: set[Case] = set()  # in which a kernel raised an error, though it was trusted


def row_log_sum_exp(q: Tensor, k: Tensor, scale: float, bias: Tensor | None = None) -> tuple[Tensor, str]:
    """``log sum_j exp(scale * q_i k_j + bias_ij)``, ``[B, H, N]``, and the name of what computed it.

    ``q [B, H, N, D]`` and ``k [B, H, K, D]``; ``bias`` is additive and broadcasts to ``[B, H, N, K]``. float32, or
    float64 for float64 inputs. A row whose keys are all masked gets -inf or 0: no map depends on it.
    """
    for operation in _KERNELS_OF_DEVICE.get(q.device.type, ()):
        try:
            total = _by_kernel(operation, q, k, scale, bias)
        except torch.cuda.OutOfMemoryError:  # the plain computation needs less; next time there may be more
            continue
        if total is not None:
            return total, name_of(operation)
    return chunked(q, k, scale, bias), PLAIN


def _by_kernel(operation: Any, q: Tensor, k: Tensor, scale: float, bias: Tensor | None) -> Tensor | None:
    """The same from a kernel; None where it is not to be had, which must not lose the call.

    Raises OutOfMemoryError.
    """
    if bias is not None and operation in _TAKE_NO_BIAS:
        return None
    taken = None if bias is None else kernel_bias(operation, q, k, bias)
    if bias is not None and taken is None:
        return None
    case = Case.of(operation, q, k, taken)
    if case in _refused or not is_trusted(case):
        return None
    try:
        total = row_sums(KERNELS[operation](q, k, scale, taken), q)
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError as error:
        log.warning("log-sum-exp: %s raised an error, and is not used any more: %s", case, error)
        _refused.add(case)
        return None
    return None if total is None else agreed(total, taken)


def agreed(total: Tensor, bias: Tensor | None) -> Tensor | None:
    """The sums ``[B, H, N]`` of a kernel that read this bias, or None: of rows masked as a whole, kernels disagree.

    On a device that would have to be waited for, such rows get -inf, and those that are no numbers NaN.
    """
    if not runs_alone(total):
        return total if bool(total.isfinite().all()) else None
    total = total + (total - total)  # what is infinite becomes NaN: two kernels in each call, where asking takes seven
    if bias is None:
        return total
    masked = (unexpanded(bias) == -torch.inf).all(-1)
    return torch.where(masked, -torch.inf, total)


def kernel_bias(operation: Any, q: Tensor, k: Tensor, bias: Tensor) -> Tensor | None:
    """The bias as a kernel takes it: see above. None where it would be another one: its dtype cannot say it.

    Axes that are only repeated stay so, so that memory is needed for what differs alone.
    """
    own = unexpanded(bias.expand(*q.shape[:3], k.shape[2]))
    as_it_is = operation in _TAKE_FLOAT32 and own.dtype == torch.float32 and q.element_size() == 2
    exact = own if as_it_is else _in_dtype(own, q.dtype)
    if exact is None:
        return None
    if not _aligned(exact, k.shape[2]):
        padded = exact.new_zeros(*exact.shape[:3], -(-k.shape[2] // ALIGNMENT) * ALIGNMENT)
        padded[..., : k.shape[2]] = exact
        exact = padded[..., : k.shape[2]]
    return exact.expand(*q.shape[:3], k.shape[2])


def _in_dtype(bias: Tensor, dtype: torch.dtype) -> Tensor | None:
    """The bias in another dtype, where each value is the same there, or hides its column as well.

    A row that finite numbers hide as a whole has a softmax, which it would lose.
    """
    converted = bias.to(dtype)
    if torch.promote_types(bias.dtype, dtype) == dtype:
        return converted
    hidden = bias < MASKED
    if runs_alone(bias):  # whether it is exact is not known there without waiting
        return None
    return converted if bool(((converted == bias) | hidden).all() & ~hidden.all(-1).any()) else None


def _aligned(bias: Tensor, keys: int) -> bool:
    *strides, last = bias.stride()
    rows = all(stride % ALIGNMENT == 0 for stride, size in zip(strides, bias.shape, strict=False) if size > 1)
    return rows and last == 1 and bias.shape[-1] == keys and bias.data_ptr() % 16 == 0


def row_sums(returned: Any, q: Tensor) -> Tensor | None:
    """The sums that a kernel has returned for the rows of ``q``, ``[B, H, N]``; None where it has returned none."""
    if not isinstance(returned, Tensor):
        return None
    returned = returned[..., 0] if returned.ndim == 4 and returned.shape[-1] == 1 else returned
    sums = returned[..., : q.shape[2]]
    return sums if sums.shape == q.shape[:3] else None


def chunked(q: Tensor, k: Tensor, scale: float, bias: Tensor | None = None) -> Tensor:
    """The plain computation, a few rows at a time, so that no more than ``CHUNK_BYTES`` of logits exist at once."""
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    columns = k.to(dtype).transpose(-1, -2)
    rows = max(1, CHUNK_BYTES // max(1, columns.element_size() * q.shape[0] * q.shape[1] * k.shape[2]))
    out = torch.empty(q.shape[:3], dtype=dtype, device=q.device)
    with full_float32(q.device):
        for start in range(0, q.shape[2], rows):
            part = slice(start, start + rows)
            logits = (q[:, :, part].to(dtype) * scale) @ columns
            if bias is not None:
                logits = logits + bias.expand(*q.shape[:3], k.shape[2])[:, :, part]
            out[:, :, part] = logits.logsumexp(-1)
    return out


@functools.cache
def is_trusted(case: Case) -> bool:
    """Whether a kernel's log-sum-exp agrees with ``chunked`` in a call that is as hard as any of this case.

    Heads lie side by side, as models have them; lengths fill no tile; logits are large in one item; of a bias, some
    columns are masked, and rows as a whole. Raises OutOfMemoryError, which says nothing of the kernel.
    """
    q, k, bias = _trial(case)
    scale = 0.7 * case.head_size**-0.5
    expected = chunked(q, k, scale, bias)
    try:
        taken = None if bias is None else kernel_bias(case.operation, q, k, bias)
        if bias is not None and taken is None:
            raise NotImplementedError("the kernel takes no such bias")
        total = row_sums(KERNELS[case.operation](q, k, scale, taken), q)
    except torch.cuda.OutOfMemoryError:
        raise
    except (RuntimeError, NotImplementedError, AttributeError, TypeError) as error:
        log.debug("log-sum-exp: %s is not available: %s", case, error)
        return False
    agrees = total is not None and _agrees(total, expected, TOLERANCE.get(case.dtype, 0.0))
    log.log(logging.INFO if agrees else logging.WARNING, "log-sum-exp: %s %s", case, "agrees" if agrees else "is wrong")
    return agrees


def _agrees(total: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Whether sums agree; of a row that is masked as a whole, kernels return what they like."""
    difference = torch.where(expected > -torch.inf, (total - expected).abs(), 0)
    return bool((difference <= tolerance * (1 + expected.abs())).all())


def _trial(case: Case) -> tuple[Tensor, Tensor, Tensor | None]:
    """Queries, keys and a bias of a case, of 2 items with 3 heads."""
    g = torch.Generator().manual_seed(0)
    shape = (2, 3, 77, 269)
    q, k = (torch.randn(2, n, 3 * case.head_size, generator=g) for n in shape[2:])
    q[1] *= 6
    q, k = (x.to(case.device, case.dtype).unflatten(-1, (3, -1)).transpose(1, 2) for x in (q, k))
    if case.bias is None:
        return q, k, None
    dtype, *shared = case.bias
    sizes = [1 if one else size for one, size in zip(shared, shape, strict=False)]
    bias = 3 * torch.randn(*sizes, shape[3], generator=g)
    bias[torch.rand(bias.shape, generator=g) < 0.2] = -torch.inf
    if sizes[2] > 1:
        bias[..., 5, :] = -torch.inf
    return q, k, bias.to(case.device, dtype).expand(shape)


def name_of(operation: Any) -> str:
    """The kernel's name, as the summary of a run gives it."""
    return str(operation.overloadpacket.__name__).strip("_")


def _flash_on_cpu(q: Tensor, k: Tensor, scale: float, bias: Tensor | None) -> Any:
    return aten._scaled_dot_product_flash_attention_for_cpu(q, k, k, attn_mask=bias, scale=scale)[1]


def _flash_on_cuda(q: Tensor, k: Tensor, scale: float, bias: Tensor | None) -> Any:
    if bias is not None:
        raise NotImplementedError("this kernel takes no bias")
    if missing := -q.shape[-1] % ALIGNMENT:  # zeros add nothing to a product
        q, k = (F.pad(x, (0, missing)) for x in (q, k))
    return aten._scaled_dot_product_flash_attention(q, k, k, scale=scale)[1]


def _efficient_on_cuda(q: Tensor, k: Tensor, scale: float, bias: Tensor | None) -> Any:
    return aten._scaled_dot_product_efficient_attention(q, k, k, bias, True, scale=scale)[1]


def _cudnn(q: Tensor, k: Tensor, scale: float, bias: Tensor | None) -> Any:
    return aten._scaled_dot_product_cudnn_attention(q, k, k, bias, True, scale=scale)[1]


_Kernel = Callable[[Tensor, Tensor, float, Tensor | None], Any]
KERNELS: dict[Any, _Kernel] = {
    aten._scaled_dot_product_flash_attention_for_cpu.default: _flash_on_cpu,
    aten._scaled_dot_product_flash_attention.default: _flash_on_cuda,
    aten._scaled_dot_product_efficient_attention.default: _efficient_on_cuda,
}
_KERNELS_OF_DEVICE = {"cpu": tuple(KERNELS)[:1], "cuda": tuple(KERNELS)[1:]}
_TAKE_FLOAT32, _TAKE_NO_BIAS = tuple(KERNELS)[:1], tuple(KERNELS)[1:2]
if hasattr(aten, "_scaled_dot_product_cudnn_attention"):  # since PyTorch 2.4; only intercepted, never run for the sums
    KERNELS[aten._scaled_dot_product_cudnn_attention.default] = _cudnn
