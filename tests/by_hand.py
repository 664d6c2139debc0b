"""What steering is, by its definitions alone, in 64 bits. It needs torch only, and imports nothing of ours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ByHand:
    """What one Steer does: ``columns`` count ``strength`` times. None stands for all of a thing.

    ``rows`` are those of tokens, ``layers`` the numbers of the steered calls in a forward, ``branches`` 0 and 1.
    """

    strength: float
    columns: Sequence[int]
    by: str = "attention"
    rows: Sequence[int] | None = None
    heads: Sequence[int] | None = None
    layers: Sequence[int] | None = None
    steps: Sequence[int] | None = None
    branches: Sequence[int] = (0, 1)


def weights(logits: Tensor, steers: Sequence[ByHand]) -> Tensor:
    """What each column counts in the output of rows, from their ``logits [n, K]`` in 64 bits: by the definitions.

    Changes by attention multiply the exponentials, those by values the results, and those by output mix the results
    with and without the columns.
    """
    keys = logits.shape[-1]
    factor, scale = torch.ones(keys, dtype=torch.float64), torch.ones(keys, dtype=torch.float64)
    mixed = []
    for steer in steers:
        if len(steer.columns) == keys:
            scale *= steer.strength
        elif steer.by == "values":
            scale[list(steer.columns)] *= steer.strength
        elif steer.by == "attention":
            factor[list(steer.columns)] *= steer.strength
        else:
            mixed.append(steer)
    return scale * _mixed((logits - logits.amax(-1, keepdim=True)).exp() * factor, mixed)


def _mixed(exponentials: Tensor, steers: Sequence[ByHand]) -> Tensor:
    if not steers:
        return (exponentials / exponentials.sum(-1, keepdim=True)).nan_to_num(0)
    *others, last = steers
    left = exponentials.clone()
    left[..., list(last.columns)] = 0
    without = _mixed(left, others)
    return without + last.strength * (_mixed(exponentials, others) - without)


def attention(logits: Tensor, v: Tensor, steers: Callable[[int, int, int], list[ByHand]]) -> Tensor:
    """The output ``[B, N, H * D]`` of ``logits [B, H, N, K]``; ``steers(item, head, row)`` are those that apply."""
    output = torch.empty(*logits.shape[:3], v.shape[-1], dtype=torch.float64)
    for item in range(logits.shape[0]):
        for head in range(logits.shape[1]):
            classes: dict[tuple, list[int]] = {}
            for row in range(logits.shape[2]):
                classes.setdefault(tuple(id(x) for x in steers(item, head, row)), []).append(row)
            for rows in classes.values():
                of_rows = weights(logits[item, head, rows], steers(item, head, rows[0]))
                output[item, head, rows] = of_rows @ v[item, head].double()
    return output.transpose(1, 2).flatten(2)
