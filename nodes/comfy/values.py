"""What other nodes multiply the values of references with: that is outside the softmax, which maps are of."""

from collections.abc import Iterable

import torch
from torch import Tensor

from ...i2am_core.tokens import TokenGroup

ALONE = "maps say where the picture looked, and do not count that (I2AM Effect does)"
MULTIPLIED = "another node multiplies the values of {} by {:.3g}: " + ALONE
CHANGED = "another node changes the values of {}: " + ALONE


def factor(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """``g [B, N]`` such that ``after = g * before [B, N, C]``, and whether that holds but for rounding (boolean)."""
    precision = torch.finfo(after.dtype)
    before, result = before.float(), after.float()
    tiny = torch.finfo(torch.float32).tiny
    scale = before.abs().amax(-1, keepdim=True).clamp(min=tiny)  # squares stay in range
    unit = before / scale
    factors = (unit * result).sum(-1, keepdim=True) / (unit * unit).sum(-1, keepdim=True).clamp(min=tiny)
    rest = (result - factors * unit).norm(dim=-1)
    rounding = max(4 * precision.eps, 1e-5) * result.norm(dim=-1)
    smallest = precision.tiny * precision.eps * result.shape[-1] ** 0.5  # below, numbers have few digits
    return (factors / scale)[..., 0], (rest <= rounding + smallest).all()


def notes_on(before: Tensor, after: Tensor, references: Iterable[TokenGroup]) -> list[str]:
    """Notes on references whose values are other ones ``after`` than ``before``, both ``[B, tokens, C]``.

    Waits for the device.
    """
    named: dict[float | None, list[str]] = {}
    for group in references:
        own = before[:, group.index], after[:, group.index]
        if torch.equal(*own):
            continue
        factors, is_multiple = factor(*own)
        counted = factors[own[0].any(-1)]  # 0 is a multiple of itself by any number
        one = bool(is_multiple) and len(counted) > 0 and bool(torch.isclose(counted, counted[0], rtol=1e-2).all())
        named.setdefault(float(counted[0]) if one else None, []).append(f"'{group.name}'")
    return [
        CHANGED.format(", ".join(of)) if by is None else MULTIPLIED.format(", ".join(of), by)
        for by, of in named.items()
    ]
