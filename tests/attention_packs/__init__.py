"""Custom node packs that replace, add, reorder and nest attention calls, at their smallest.

They patch real models by ComfyUI's own means, as packs do; nothing of ComfyUI or of I2AM is replaced by a mock. Each
function takes a model and returns a clone. The attention calls that a pack makes are marked with ``theirs``, so that a
test can tell them from a block's own without any help of I2AM's.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

HEADS = 2  # divides every width of the tiny models

_making: list[bool] = []


@contextmanager
def theirs() -> Iterator[None]:
    """Attention in here is a pack's."""
    _making.append(True)
    try:
        yield
    finally:
        _making.pop()


@contextmanager
def the_models() -> Iterator[None]:
    """A block, or an attention, that a pack lets run as it is."""
    _making.append(False)
    try:
        yield
    finally:
        _making.pop()


def is_theirs() -> bool:
    return bool(_making) and _making[-1]


def original(function: Callable) -> Callable:
    """What was in the place where a pack puts its own, which may be ComfyUI's or another pack's."""

    def run(*args, **kwargs):
        with the_models():
            return function(*args, **kwargs)

    return run


def by_hand(q: Tensor, k: Tensor, v: Tensor, heads: int = HEADS) -> Tensor:
    """Attention that cannot be observed: ``[B, N, C]``."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    weights = torch.softmax(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5, -1)
    return (weights @ v).transpose(1, 2).flatten(2)
