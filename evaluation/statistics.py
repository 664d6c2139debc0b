"""Do scores and quality go together? Spearman's correlation, with intervals of the bootstrap; ranks are scipy's.

*Over models* each model is one point: the means of its rows. *Within* is inside one model: the correlation of its rows,
averaged over models. The first asks whether a score ranks models, the second whether it ranks pictures.

Rows are drawn inside each model. Where models painted the same ``scenes`` their rows go together, and intervals of rows
would be too narrow: then scenes are drawn, each with the rows of all models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

RESAMPLES = 1000
LEAST = 3  # points, of which a correlation says anything
NOTHING = float("nan")


@dataclass(frozen=True)
class Estimate:
    """A correlation, and the interval in which 95 % of resamples lie; ``points`` are those it is of."""

    value: float
    low: float
    high: float
    points: int


def spearman(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of rows of values ``[..., n]``; not a number where all of one are equal, or there are too few."""
    return _correlation(rankdata(one, axis=-1), rankdata(other, axis=-1), np.ones(one.shape))


def overall(
    score: np.ndarray, quality: np.ndarray, seed: int = 0, scenes: Sequence[str] | None = None
) -> Estimate:  # fmt: skip
    """Of all rows together."""
    weights = _drawn(["all"] * len(score), scenes, np.random.default_rng(seed))
    return _estimate(spearman(score, quality), _resampled(score, quality, weights), len(score))


def within(
    score: np.ndarray, quality: np.ndarray, models: Sequence[str], seed: int = 0, scenes: Sequence[str] | None = None
) -> Estimate:  # fmt: skip
    """The mean over models of the correlation of their own rows."""
    weights = _drawn(models, scenes, np.random.default_rng(seed))
    groups = _groups(models)
    value = _mean(np.stack([spearman(score[rows], quality[rows]) for rows in groups]))
    resampled = [_resampled(score[rows], quality[rows], weights[:, rows]) for rows in groups]
    return _estimate(value, _mean(np.stack(resampled)), len(score))


def over_models(
    score: np.ndarray, quality: np.ndarray, models: Sequence[str], seed: int = 0, scenes: Sequence[str] | None = None
) -> Estimate:  # fmt: skip
    """Of the models' means. That there are few models is not in the interval."""
    weights = _drawn(models, scenes, np.random.default_rng(seed))
    groups = _groups(models)
    value = spearman(*(np.stack([x[rows].mean() for rows in groups]) for x in (score, quality)))
    counts = np.stack([weights[:, rows].sum(-1) for rows in groups], -1)
    complete = counts.min(-1) > 0  # a draw in which a model has no row has no mean of it
    means = (
        np.stack([weights[complete][:, rows] @ x[rows] for rows in groups], -1) / counts[complete]
        for x in (score, quality)
    )
    return _estimate(value, spearman(*means), len(groups))


def _resampled(one: np.ndarray, other: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Spearman's of values ``[n]``, of each of which there are as many as ``weights [RESAMPLES, n]`` say."""
    return _correlation(_ranks(one, weights), _ranks(other, weights), weights)


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Equal ones share the mean of their ranks."""
    order = np.argsort(values)
    before = np.concatenate([np.zeros((len(weights), 1)), weights[:, order].cumsum(-1)], -1)
    first, last = (np.searchsorted(values[order], values, side) for side in ("left", "right"))
    return (before[:, first] + before[:, last] + 1) / 2


def _correlation(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Pearson's of rows of values ``[..., n]``."""
    count = np.maximum(weights.sum(-1, keepdims=True), 1)
    a, b = (x - (weights * x).sum(-1, keepdims=True) / count for x in (a, b))
    both = np.sqrt((weights * a * a).sum(-1) * (weights * b * b).sum(-1))
    known = (both > 0) & (weights.shape[-1] >= LEAST)
    return np.where(known, (weights * a * b).sum(-1) / np.where(known, both, 1), NOTHING)


def _groups(models: Sequence[str]) -> list[np.ndarray]:
    """The rows of each model."""
    names = np.asarray(models)
    return [np.flatnonzero(names == name) for name in dict.fromkeys(models)]


def _drawn(models: Sequence[str], scenes: Sequence[str] | None, draw: np.random.Generator) -> np.ndarray:
    """How often each row is in each resample, ``[RESAMPLES, rows]``.

    As many rows of each model are drawn as it has; or as many scenes as there are, each with all of its rows.
    """
    if scenes is not None:
        _, number = np.unique(np.asarray(scenes), return_inverse=True)
        return _counts(number.max() + 1, draw)[:, number]
    counts = np.empty((RESAMPLES, len(models)))
    for rows in _groups(models):
        counts[:, rows] = _counts(len(rows), draw)
    return counts


def _counts(count: int, draw: np.random.Generator) -> np.ndarray:
    """How often each of ``count`` is among as many that are drawn from them."""
    return draw.multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(float)


def _mean(values: np.ndarray) -> np.ndarray:
    """Over models ``[models, ...]`` of which the correlation is known."""
    known = np.isfinite(values)
    count = known.sum(0)
    return np.where(count > 0, np.where(known, values, 0).sum(0) / np.maximum(count, 1), NOTHING)


def _estimate(value: np.ndarray, resampled: np.ndarray, points: int) -> Estimate:
    known = resampled[np.isfinite(resampled)]
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (NOTHING, NOTHING)
    return Estimate(float(value), float(low), float(high), points)
