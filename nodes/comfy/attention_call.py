"""The arguments of ComfyUI's ``optimized_attention``, in one layout."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...i2am_core.attention.marginals import additive, split_heads
from .located import ModelCall


@dataclass(frozen=True)
class Arguments:
    """What attention is called with, as it came: ``kernel(*args, **kwargs)`` is its output."""

    kernel: Callable[..., Tensor]
    args: tuple
    kwargs: Mapping[str, Any]
    function: Callable | None = None  # of ComfyUI, at the end of the kernel, where that can be intercepted


@dataclass(frozen=True)
class AttentionCall:
    """One call of attention: the kernel that makes it, what that is given, and how that reads.

    q ``[B, H, N, D]``, k ``[B, H, K, D]``, and a bias that broadcasts to ``[B, H, N, K]``: added to the logits, or
    boolean, True where a key counts. ``kernel(*args, **kwargs)`` is attention's output. ``function`` is ComfyUI's own
    at the end of the kernel, None where it cannot be intercepted.
    """

    kernel: Callable[..., Tensor]
    args: tuple
    kwargs: Mapping[str, Any]
    model_call: ModelCall
    q: Tensor
    k: Tensor
    scale: float | None
    bias: Tensor | None
    function: Callable | None = None

    @classmethod
    def read(cls, model_call: ModelCall, arguments: Arguments) -> "AttentionCall":
        """The call with these arguments: backends name them differently, but all take q, k, v, heads, mask in order."""
        args, kwargs = arguments.args, arguments.kwargs
        q, k = args[0], args[1]
        heads = args[3] if len(args) > 3 else kwargs["heads"]
        mask = args[4] if len(args) > 4 else kwargs.get("mask")
        batch = q.shape[0]
        dim = q.shape[-1] if q.ndim == 4 else q.shape[-1] // heads
        q = split_heads(q, heads, batch)
        if k.ndim == 3:
            k = k.unflatten(-1, (-1, dim)).transpose(1, 2)  # may have fewer heads than q
        k = split_heads(k, heads, batch)
        if mask is not None:
            mask = _four_axes(mask, q.shape[2])
        return cls(arguments.kernel, args, kwargs, model_call, q, k, kwargs.get("scale"), mask, arguments.function)

    def with_arguments(self, args: tuple, kwargs: Mapping[str, Any]) -> "AttentionCall":
        """The same kernel with other arguments."""
        return self.read(self.model_call, Arguments(self.kernel, args, kwargs, self.function))

    def with_bias(self, added: Tensor) -> "AttentionCall":
        """The call with ``added`` on its logits, which broadcasts to ``[B, H, N, K]``; -inf leaves a column out."""
        bias = added if self.bias is None else additive(self.bias, added.dtype) + added
        bias = bias.to(self.q)
        if len(self.args) > 4:
            return self.with_arguments((*self.args[:4], bias, *self.args[5:]), self.kwargs)
        return self.with_arguments(self.args, {**self.kwargs, "mask": bias})

    def bias_of(self, rows: slice, keys: int) -> Tensor | None:
        """The bias of some rows of the batch and the first keys."""
        if self.bias is None:
            return None
        bias = self.bias[rows] if self.bias.shape[0] > 1 else self.bias
        return bias[..., :keys] if bias.shape[-1] > 1 else bias


def _four_axes(mask: Tensor, queries: int) -> Tensor:
    """Masks come as ``[N, K]``, ``[B, N, K]`` or ``[B, H, N, K]``."""
    if mask.ndim == 2 and mask.shape[0] in (1, queries):
        return mask[None, None]
    if mask.ndim == 3:
        return mask[:, None]
    if mask.ndim == 4:
        return mask
    raise ValueError(
        f"an attention mask of shape {tuple(mask.shape)} for {queries} queries: "
        "expected [N, K], [B, N, K] or [B, H, N, K]"
    )
