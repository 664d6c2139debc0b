"""The paper's definitions in numpy and 64 bits, from queries and keys alone: it imports nothing of ours.

Park & Jang, "I2AM", ICLR 2025, section 3: with ``S = scale q k^T`` of one head, over the reference's tokens j and the
picture's positions i, R2G is the mean over j of ``softmax_i S[:, j]``, G2R the mean over i of ``softmax_j S[i, :]``.
``share`` is of ``softmax`` over all keys. Maps of layers are resized bicubically to the largest grid, and averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
SHARPNESS = -0.75  # of the bicubic kernel


@dataclass(frozen=True)
class Call:
    """One attention call for one picture: ``q [H, N, D]`` of its positions, ``k [H, K, D]`` of all that they look at.

    ``reference`` are the columns of M tokens on a square grid, row by row, as the N positions are.
    """

    q: Array
    k: Array
    reference: slice

    @cached_property
    def logits(self) -> Array:
        """``[H, N, K]``."""
        return self.q @ self.k.transpose(0, 2, 1) * self.q.shape[-1] ** -0.5

    @cached_property
    def over_positions(self) -> Array:
        """``softmax_i S[:, j]``: ``[H, N, M]``."""
        return softmax(self.logits[:, :, self.reference], 1)

    @cached_property
    def over_tokens(self) -> Array:
        """``softmax_j S[i, :]``: ``[H, N, M]``."""
        return softmax(self.logits[:, :, self.reference], 2)

    @cached_property
    def probabilities(self) -> Array:
        """The model's own, of the reference's columns: ``[H, N, M]``."""
        return softmax(self.logits, 2)[:, :, self.reference]

    @property
    def side(self) -> int:
        """Of the grid of positions."""
        return round(self.q.shape[1] ** 0.5)

    def maps(self, mask: Mask) -> dict[str, Array]:
        """Of each head ``[H, h, w]``; ``mask`` is that of the picture, in pixels."""
        inside = cells(mask, self.side)
        values = {
            "r2g_paper": self.over_positions.mean(2),
            "r2g_share": self.probabilities.sum(2),
            "g2r_paper, mask": self.over_tokens[:, inside].mean(1),
            "g2r_paper, whole": self.over_tokens.mean(1),
            "g2r_share, mask": self.probabilities[:, inside].mean(1),
            "g2r_share, whole": self.probabilities.mean(1),
        }
        return {name: squared(x) for name, x in values.items()}

    def of_region(self, region: Mask) -> Array:
        """SRAM: what of the reference a region of the picture is made from, a mean over heads, ``[h, w]``."""
        return squared(self.over_tokens[:, cells(region, self.side)].mean((0, 1)))

    def to_picture(self, region: Mask) -> Array:
        """SRAM the other way: where in the picture a region of the reference went, ``[h, w]``."""
        tokens = round(self.over_positions.shape[2] ** 0.5)
        return squared(self.over_positions[:, :, cells(region, tokens)].mean((0, 2)))

    def clamped_each(self, side: int) -> Array:
        """R2G on another grid, of which each token's map of each head is clamped before the mean: ``[side, side]``."""
        each = squared(self.over_positions.transpose(0, 2, 1))
        return np.maximum(resized(each, side), 0).mean((0, 1))


def levels(layers: Sequence[Array], groups: int = 5) -> dict[str, Array]:
    """From maps of layers ``[T, H, h, w]`` unified, time, head and layer maps ``[n, h, w]`` on the largest grid.

    They are clamped at 0 once, at the end. Steps are divided into ``groups`` as equal as they can be.
    """
    side = max(x.shape[-1] for x in layers)
    every = np.stack([resized(x, side) for x in layers])  # [L, T, H, side, side]
    steps = np.array_split(np.arange(every.shape[1]), min(groups, every.shape[1]))
    means = {
        "ULAM": every.mean((0, 1, 2))[None],
        "TLAM": np.stack([every[:, part].mean((0, 1, 2)) for part in steps]),
        "HLAM": every.mean((0, 1)),
        "LLAM": every.mean((1, 2)),
    }
    return {name: np.maximum(x, 0) for name, x in means.items()}


def mean_of(maps: Sequence[Array]) -> Array:
    """Of maps ``[h, w]`` of several layers, on the largest grid, clamped."""
    side = max(x.shape[-1] for x in maps)
    return np.maximum(np.mean([resized(x, side) for x in maps], 0), 0)


def imacs(values: Array, mask: Mask, penalty: float = 3.0, threshold: float = 0.4) -> float:
    """Of a unified map ``[h, w]``, with a mask in pixels: its mean inside less ``penalty`` times that outside."""
    return scored(stretched(np.maximum(resized(values, len(mask)), 0)), mask, penalty, threshold)


def scored(values: Array, mask: Mask, penalty: float = 3.0, threshold: float = 0.4) -> float:
    """The same of a map in [0, 1] at the size of the mask. Values up to ``threshold`` count 0."""
    strong = np.where(values > threshold, values, 0)
    return float(strong[mask].mean() - penalty * strong[~mask].mean())


def stretched(values: Array) -> Array:
    """To [0, 1]."""
    return (values - values.min()) / (values.max() - values.min())


def softmax(values: Array, axis: int) -> Array:
    powers = np.exp(values - values.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def cells(mask: Mask, side: int) -> Mask:
    """The cells of a square grid of which more than half is inside, row by row."""
    size = len(mask) // side
    return mask.reshape(side, size, side, size).mean((1, 3)).ravel() > 0.5


def squared(values: Array) -> Array:
    """``[..., n * n]`` as ``[..., n, n]``."""
    side = round(values.shape[-1] ** 0.5)
    return values.reshape(*values.shape[:-1], side, side)


def resized(values: Array, side: int) -> Array:
    """Bicubic, of square maps ``[..., n, n]``; not clamped."""
    if values.shape[-1] == side:
        return values
    weights = _bicubic(values.shape[-1], side)
    return weights @ values @ weights.T


def _bicubic(size: int, wanted: int) -> Array:
    """What each of ``wanted`` cells takes from ``size`` cells: ``[wanted, size]``. The border is repeated."""
    weights = np.zeros((wanted, size))
    for row in range(wanted):
        place = (row + 0.5) * size / wanted - 0.5
        for column in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
            weights[row, min(max(column, 0), size - 1)] += _kernel(abs(place - column))
    return weights


def _kernel(distance: float) -> float:
    """Keys' cubic convolution."""
    if distance <= 1:
        return (SHARPNESS + 2) * distance**3 - (SHARPNESS + 3) * distance**2 + 1
    return SHARPNESS * (distance**3 - 5 * distance**2 + 8 * distance - 4) if distance < 2 else 0.0
