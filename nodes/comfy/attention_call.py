"""The arguments of ComfyUI's ``optimized_attention``, in one layout."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from ...i2am_core.attention.marginals import split_heads
from ...i2am_core.attention.steering import Change, Steering
from .located import ModelCall
from .refusal import NotSupported


class Arguments(NamedTuple):
    """An attention call as it came, and how it is steered. ``kernel(arguments)`` makes it: see ``steered_kernel``.

    A tuple, since each call has several, and it costs a quarter of what a dataclass does.
    """

    kernel: "Callable[[Arguments], Tensor]"
    args: tuple
    kwargs: Mapping[str, Any]
    function: Callable | None = None  # of ComfyUI, at the end of the kernel, where that can be intercepted
    override: Callable | None = None  # of another pack, which the kernel calls in its place
    steering: Steering | None = None
    calls_made: "list[Arguments] | None" = None  # where it is a list, the kernel adds what it calls attention with

    def run(self) -> Tensor:
        """Attention's output."""
        return self.kernel(self)

    def with_columns(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> "Arguments":
        """The same call of other tensors. The mask is put where the model gives it."""
        if len(self.args) > 4:
            return self._replace(args=(q, k, v, self.args[3], mask, *self.args[5:]))
        kwargs = self.kwargs if mask is None and "mask" not in self.kwargs else {**self.kwargs, "mask": mask}
        return self._replace(args=(q, k, v, *self.args[3:]), kwargs=kwargs)

    @property
    def heads(self) -> int:
        """How many the queries have."""
        heads: int = self.args[3] if len(self.args) > 3 else self.kwargs["heads"]
        return heads

    @property
    def mask(self) -> Tensor | None:
        """What attention adds to the logits, or boolean, True where a key counts: broadcasts to ``[B, H, N, K]``."""
        mask = self.args[4] if len(self.args) > 4 else self.kwargs.get("mask")
        return None if mask is None else _four_axes(mask, self.args[0].shape[-2])


class AttentionCall(NamedTuple):
    """One call of attention, and how it reads.

    q ``[B, H, N, D]``, k ``[B, H, K, D]``, and a bias that broadcasts to ``[B, H, N, K]``: added to the logits, or
    boolean, True where a key counts. They are those before steering.
    """

    arguments: Arguments
    model_call: ModelCall
    q: Tensor
    k: Tensor
    scale: float | None
    bias: Tensor | None

    @classmethod
    def read(cls, model_call: ModelCall, arguments: Arguments) -> "AttentionCall":
        """The call with these arguments: backends name them differently, but all take q, k, v, heads, mask in order."""
        q, k, heads = arguments.args[0], arguments.args[1], arguments.heads
        batch = q.shape[0]
        dim = q.shape[-1] if q.ndim == 4 else q.shape[-1] // heads
        fits = q.ndim == 4 or q.shape[-1] % heads == 0  # else ``split_heads`` says what is wrong, in a sentence
        q = split_heads(_of_heads(q, dim) if fits else q, heads, batch)
        k = split_heads(_of_heads(k, dim), heads, batch)
        return cls(arguments, model_call, q, k, arguments.kwargs.get("scale"), arguments.mask)

    @property
    def v(self) -> Tensor:
        """The values, ``[B, H, K, D]``."""
        v = _of_heads(self.arguments.args[2], self.q.shape[-1])
        return split_heads(v, self.q.shape[1], self.q.shape[0])

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """B, H, N, K."""
        return (*self.q.shape[:3], self.k.shape[2])

    @property
    def steering(self) -> Steering | None:
        """How those that act have changed it."""
        return self.arguments.steering

    def with_kernel(self, kernel: Callable[[Arguments], Tensor]) -> "AttentionCall":
        """The call made by another kernel."""
        return self._replace(arguments=self.arguments._replace(kernel=kernel))

    def steered(self, steering: Steering) -> "AttentionCall":
        """The call with this steering in place of what it has."""
        return self._replace(arguments=self.arguments._replace(steering=steering))

    def changed(self, *changes: Change) -> "AttentionCall":
        """The call with these changes, after those that it has."""
        return self.steered((self.steering or Steering(())).and_(changes)) if changes else self

    def bias_of(self, rows: slice, keys: int) -> Tensor | None:
        """The bias of some rows of the batch and the first keys."""
        if self.bias is None:
            return None
        bias = self.bias[rows] if self.bias.shape[0] > 1 else self.bias
        return bias[..., :keys] if bias.shape[-1] > 1 else bias


def _of_heads(x: Tensor, dim: int) -> Tensor:
    """``[b, tokens, heads * dim]`` as ``[b, heads, tokens, dim]``, of as many heads as there are: keys may have fewer.

    By ``view``: ``unflatten`` is the same, and costs twice as much in each attention call.
    """
    if x.ndim != 3:
        return x
    rows, tokens, size = x.shape
    return x.view(rows, tokens, size // dim, dim).transpose(1, 2)


def _four_axes(mask: Tensor, queries: int) -> Tensor:
    """Masks come as ``[N, K]``, ``[B, N, K]`` or ``[B, H, N, K]``."""
    if mask.ndim == 2 and mask.shape[0] in (1, queries):
        return mask[None, None]
    if mask.ndim == 3:
        return mask[:, None]
    if mask.ndim == 4:
        return mask
    raise NotSupported(
        f"an attention mask of shape {tuple(mask.shape)} for {queries} queries: "
        "expected [N, K], [B, N, K] or [B, H, N, K]"
    )
