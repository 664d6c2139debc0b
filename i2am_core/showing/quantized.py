"""Maps as bytes, as the viewer's file holds them."""

from collections.abc import Mapping

import torch
from torch import Tensor


def quantize(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Maps ``[n, h, w]`` as bytes, and the range ``[n, 2]`` of each."""
    flat = rows.flatten(1)
    low, high = flat.amin(1), flat.amax(1)
    spread = torch.where(high > low, high - low, 1.0)
    levels = ((flat - low[:, None]) / spread[:, None] * 255).nan_to_num_(0).round_()
    return levels.to(torch.uint8).view(rows.shape), torch.stack([low, high], 1)


def nbytes(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of all tensors."""
    return sum(x.nbytes for x in tensors.values())
