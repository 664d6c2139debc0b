"""What other nodes multiply the values of references with: that is outside the softmax, which maps are of."""

from collections.abc import Iterable

import torch
from torch import Tensor

from ...i2am_core.tokens import TokenGroup

ALONE = "maps show how much the model looks there, and do not count that (I2AM Effect does)"
MULTIPLIED = "another node multiplies the values of {} by {}: " + ALONE
CHANGED = "another node changes the values of {}: " + ALONE
COARSER = (torch.bfloat16, torch.float16)


def factor(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """``g [B, N]`` such that ``after = g * before [B, N, C]``, and whether that holds but for rounding (boolean)."""
    precision = torch.finfo(after.dtype)
    before, result = before.float(), after.float()
    tiny = torch.finfo(torch.float32).tiny
    scale = before.abs().amax(-1, keepdim=True).clamp(min=tiny)  # squares stay in range
    unit = before / scale
    factors = (unit * result).sum(-1, keepdim=True) / (unit * unit).sum(-1, keepdim=True).clamp(min=tiny)
    is_multiple = _is_rounding(result - factors * unit, result, precision, 4 * precision.eps).all()
    return (factors / scale)[..., 0], is_multiple


def notes_on(before: Tensor, after: Tensor, references: Iterable[TokenGroup]) -> list[str]:
    """Notes on references whose values are other ones ``after`` than ``before``, both ``[B, tokens, C]``.

    To be rounded to a coarser type is no change. Waits for the device.
    """
    named: dict[str, list[str]] = {}
    for group in references:
        by = one_factor(before[:, group.index], after[:, group.index])
        if by != 1:
            named.setdefault("1" if by is None else f"{by:.3g}", []).append(f"'{group.name}'")
    return [
        CHANGED.format(", ".join(of)) if by == "1" else MULTIPLIED.format(", ".join(of), by)  # 1.003 is no "by 1"
        for by, of in named.items()
    ]


def one_factor(before: Tensor, after: Tensor) -> float | None:
    """The number that all of ``before`` was multiplied with to become ``after``, but for rounding; None for no one.

    Either may have been rounded to a coarser type than it has: another node's kernel may work in 16 bits. It is exactly
    1 where that is all.
    """
    result = after.float()
    precision = torch.finfo(next((kind for kind in COARSER if _holds(kind, after)), after.dtype))
    rounded = [before.to(kind).float() for kind in (before.dtype, *COARSER)]
    if any(torch.equal(own, result) for own in rounded):
        return 1.0
    for own in rounded:
        by = factor(own.reshape(1, 1, -1), result.reshape(1, 1, -1))[0]
        if bool(_is_rounding(result - by * own, result, precision, precision.eps).all()):
            return float(by) + 0.0  # not -0
    return None


def _holds(kind: torch.dtype, x: Tensor) -> bool:
    return torch.equal(x.to(kind).float(), x.float())


def _is_rounding(rest: Tensor, result: Tensor, precision: torch.finfo, relative: float) -> Tensor:
    """Whether ``rest [..., C]`` is no more than what rounding leaves of ``result``: ``[...]`` boolean."""
    smallest = precision.tiny * precision.eps * result.shape[-1] ** 0.5  # below, numbers have few digits
    return rest.norm(dim=-1) <= max(relative, 1e-5) * result.norm(dim=-1) + smallest
