"""One attention call, cut down to the columns of one reference, with all that their maps depend on."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ReferenceColumns:
    """B batch items, H heads, N generated positions, M reference tokens.

    ``gain`` is what a softmax of its own multiplies its output with (1 in joint attention); positions where it is 0
    get nothing from the reference and do not count.
    """

    q: Tensor  # [B, H, N, D]
    k: Tensor  # [B, H, M, D]
    scale: float
    gain: Tensor  # [B, N]
    total: Tensor | None = None  # [B, H, N]: row log-sum-exp over all keys; None where ``k`` are all keys
    bias: Tensor | None = None  # [B, H, N, M], additive, in any dtype that float32 holds
    scope: Tensor | None = None  # [B, N], boolean
    pair_rows: Tensor | None = None  # [A]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """B, H, N, M."""
        return self.q.shape[0], self.q.shape[1], self.q.shape[2], self.k.shape[2]

    @property
    def dtype(self) -> torch.dtype:
        """Of logits and sums."""
        return torch.float64 if self.q.dtype == torch.float64 else torch.float32

    @property
    def head_size(self) -> int:
        """How many exponentials one head has."""
        return self.q.shape[2] * self.k.shape[2]

    def empty(self) -> dict[str, Tensor]:
        """Zeros for every map that is requested, by its name in ``marginals.Marginals``."""
        batch, heads, n, m = self.shape
        shapes = {"r2g_share": (heads, n), "r2g_paper": (heads, n), "g2r_share": (heads, m), "g2r_paper": (heads, m)}
        if self.scope is not None:
            shapes |= {"g2r_share_scope": (heads, m), "g2r_paper_scope": (heads, m)}
        if self.pair_rows is not None:
            shapes |= {"g2r_pairs": (len(self.pair_rows), m), "r2g_pairs": (len(self.pair_rows), m)}
        return {
            name: torch.zeros(batch, *shape, dtype=self.dtype, device=self.q.device) for name, shape in shapes.items()
        }


def unexpanded(x: Tensor) -> Tensor:
    """With 1 in the place of each axis along which all values are one piece of memory: what is left takes memory."""
    return x[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in x.stride())]
