"""Whose part of the attention is how large, of two runs as one."""

import torch
from torch import Tensor

from ..attribution import SHARE_OWNERS, Attribution, ShareOwner
from .joined_numbers import Numbers


def joined_shares(first: Attribution, second: Attribution, numbers: Numbers) -> dict[ShareOwner, Tensor]:
    """By owner ``[items, steps of both, layers of both, 2]``; NaN where the run that a step is of recorded nothing."""
    shape = first.items, first.steps + second.steps, len(numbers.joined_layers), 2
    result: dict[ShareOwner, Tensor] = {}
    for owner in SHARE_OWNERS:
        if owner in first.shares or owner in second.shares:
            result[owner] = torch.full(shape, torch.nan)
        if owner in first.shares:
            result[owner][:, : first.steps, : len(first.layers)] = first.shares[owner]
        if owner in second.shares:
            layers = [numbers.layers[number] for number in range(len(second.layers))]
            result[owner][:, first.steps :, layers] = second.shares[owner]
    return result
