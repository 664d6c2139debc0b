"""Attention that a pack's code makes with PyTorch's own function, past ComfyUI's: watched while that code runs."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .attention_call import Arguments
from .steered_kernel import kernel_of

_handled = threading.local()  # whether this thread is in a call that is watched: what that calls is no other


class TorchAttention(TorchFunctionMode):
    """While it is entered, in this thread, each call of PyTorch's attention is ``replacement(arguments)``."""

    def __init__(self, replacement: Callable[[Arguments], Tensor]) -> None:
        super().__init__()
        self._replacement = replacement

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        is_attention = function is F.scaled_dot_product_attention and not getattr(_handled, "now", False)
        arguments = arguments_of(args, kwargs) if is_attention else None
        if arguments is None:
            return function(*args, **kwargs)
        _handled.now = True
        try:
            return self._replacement(arguments)
        finally:
            _handled.now = False


def arguments_of(args: tuple, kwargs: Mapping[str, Any]) -> Arguments | None:
    """A call of ``scaled_dot_product_attention`` as one of ComfyUI's; None where it is not one for each row of queries.

    Queries, keys and values are ``[B, H, N, D]``. Keys that all rows share are laid out for each, in the same memory.
    """
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    given = dict(zip(names, args, strict=False)) | dict(kwargs)
    q, k, v = (given.pop(name, None) for name in names[:3])
    mask = given.pop("attn_mask", None)
    tensors = isinstance(q, Tensor) and isinstance(k, Tensor) and isinstance(v, Tensor)
    if not tensors or not q.ndim == k.ndim == v.ndim == 4 or given.get("is_causal") or given.get("dropout_p"):
        return None
    by_row = mask is None or (isinstance(mask, Tensor) and mask.ndim != 3)  # of three axes, the first is of heads here
    if not by_row or any(len(x) not in (1, len(q)) for x in (k, v)):
        return None
    shared = len(k) != len(q) or len(v) != len(q)
    rows = [x.expand(len(q), -1, -1, -1) for x in (k, v)] if shared else [k, v]

    def attention(q: Tensor, keys: Tensor, values: Tensor, heads: int, mask: Tensor | None = None, **_: Any) -> Tensor:
        if keys is rows[0] and values is rows[1]:  # as the pack calls it, to the last bit
            keys, values = k, v
        output: Tensor = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, **given)
        return output

    layout = {"skip_reshape": True, "skip_output_reshape": True, "scale": given.get("scale")}
    arguments = Arguments(kernel_of(attention), (q, *rows, q.shape[1]), layout)
    return arguments if mask is None else arguments._replace(args=(*arguments.args, mask))
