"""PyTorch's attention kernels for CUDA, played on the CPU: their rules, what they return, and the plain formula inside.

The rules and the messages are those of aten/src/ATen/native/transformers: cuda/mem_eff_attention/kernel_forward.h
(``check_supported``), cuda/attention.cu (``_efficient_attention_forward``), cuda/flash_attn/flash_api.cpp
(``mha_fwd``), cudnn/MHA.cpp.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
HALF = (torch.float16, torch.bfloat16)
LSE_ALIGNMENT = 32


class CudaKernels(TorchDispatchMode):
    """A context in which the operations of CUDA's kernels run on CPU tensors. ``run`` has the names of all that ran."""

    def __init__(self) -> None:
        super().__init__()
        self.run: list[str] = []
        self.played = {
            aten._scaled_dot_product_efficient_attention.default: self.efficient,
            aten._scaled_dot_product_flash_attention.default: self.flash,
            aten._scaled_dot_product_cudnn_attention.default: self.cudnn,
        }

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if operation not in self.played:
            return operation(*args, **(kwargs or {}))
        out = self.played[operation](*args, **(kwargs or {}))
        self.run.append(operation.overloadpacket.__name__.strip("_"))
        return out

    def efficient(
        self, query, key, value, attn_bias, compute_log_sumexp, dropout_p=0.0, is_causal=False, *, scale=None
    ):
        check(query.dtype in (*HALF, torch.float32), "Only fp32, half & bf16 supported at the moment")
        for x in (query, key, value):
            check(x.ndim == 4 and x.stride(-1) == 1, "must be contiguous in the last dimension")
        check(query.shape[:2] == key.shape[:2], "query and key must have as many items and heads")
        alignment = 16 // query.element_size()
        if any(x.stride(1) % alignment for x in (query, key, value)):
            alignment = 4  # the kernel that is there for less
        for x, name in ((query, "query"), (key, "key"), (value, "value")):
            check(x.data_ptr() % (alignment * x.element_size()) == 0, f"{name} is not correctly aligned")
            check(x.stride(2) % alignment == 0, f"{name} is not correctly aligned (strideM)")
            check(x.shape[1] <= 1 or x.stride(1) % alignment == 0, f"{name} is not correctly aligned (strideH)")
        if attn_bias is not None:
            check_bias(attn_bias, query, key, alignment)
        output, total = plain(query, key, value, attn_bias, scale)
        rows = -(-query.shape[2] // LSE_ALIGNMENT) * LSE_ALIGNMENT if compute_log_sumexp else 0
        padded = total.new_full((*query.shape[:2], rows), torch.inf)
        padded[..., : query.shape[2]] = total[..., :rows]
        return output, padded, torch.empty(()), torch.empty(())

    def flash(self, query, key, value, dropout_p=0.0, is_causal=False, return_debug_mask=False, *, scale=None):
        check(query.dtype in HALF, "FlashAttention only support fp16 and bf16 data type")
        check(query.shape[-1] % 8 == 0, "head_size must be a multiple of 8, this is ensured by padding!")
        check(query.shape[-1] <= 256, "FlashAttention forward only supports head dimension at most 256")
        for x in (query, key, value):
            check(x.stride(-1) == 1, "Input tensor must have contiguous last dimension")
        key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
        nothing = torch.empty(())
        return (*plain(query, key, value, None, scale), nothing, nothing, 0, 0, nothing, nothing, nothing)

    def cudnn(
        self,
        query,
        key,
        value,
        attn_bias,
        compute_log_sumexp,
        dropout_p=0.0,
        is_causal=False,
        return_debug_mask=False,
        *,
        scale=None,
    ):
        check(query.dtype in HALF and query.shape[-1] % 8 == 0, "No valid execution plans built")
        output, total = plain(query, key, value, attn_bias, scale)
        nothing = torch.empty(())
        sums = total[..., None] if compute_log_sumexp else None
        return output, sums, nothing, nothing, 0, 0, nothing, nothing, nothing


def check(holds: bool, message: str) -> None:
    if not holds:
        raise RuntimeError(message)


def check_bias(bias: Tensor, query: Tensor, key: Tensor, alignment: int) -> None:
    check(bias.dtype == query.dtype, "invalid dtype for bias - should match query's dtype")
    check(bias.ndim == 4, "Bias expected in BMHK format")
    check(bias.shape == (*query.shape[:3], key.shape[2]), "attn_bias: wrong shape")
    check(bias.stride(3) == 1, "attn_bias: wrong alignment (last dimension must be contiguous)")
    check(bias.data_ptr() % (alignment * bias.element_size()) == 0, "attn_bias is not correctly aligned")
    for axis, name in enumerate("BHM"):
        stride = bias.stride(axis)
        check(
            bias.shape[axis] <= 1 or stride % alignment == 0,
            f"attn_bias is not correctly aligned (stride{name}). attn_bias.stride({axis}) = {stride}, and should be a "
            f"multiple of {alignment}.",
        )


def plain(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float | None) -> tuple[Tensor, Tensor]:
    """Output, and row log-sum-exp: NaN in rows that are masked as a whole."""
    logits = query.double() @ key.double().mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    logits = logits if bias is None else logits + bias.double()
    total = logits.logsumexp(-1)
    total[total == -torch.inf] = torch.nan
    return (logits.softmax(-1) @ value.double()).to(query.dtype), total.float()
