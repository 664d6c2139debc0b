"""Do scores and quality go together? Spearman's correlation, with intervals of the bootstrap; ranks are scipy's.

*Over models* each model is one point: the means of its rows. *Within* is inside one model: the correlation of its rows,
averaged over models. The first asks whether a score ranks models, the second whether it ranks pictures.
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
    a, b = (rankdata(x, axis=-1) for x in (one, other))
    a, b = (x - x.mean(-1, keepdims=True) for x in (a, b))
    both = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    known = (both > 0) & (one.shape[-1] >= LEAST)
    return np.where(known, (a * b).sum(-1) / np.where(known, both, 1), NOTHING)


def overall(score: np.ndarray, quality: np.ndarray, seed: int = 0) -> Estimate:
    """Of all rows together."""
    chosen = _drawn(np.arange(len(score)), np.random.default_rng(seed))
    values = spearman(score[chosen], quality[chosen])
    return _estimate(spearman(score, quality), values, len(score))


def within(score: np.ndarray, quality: np.ndarray, models: Sequence[str], seed: int = 0) -> Estimate:
    """The mean over models of the correlation of their own rows, which are resampled inside each model."""
    draw = np.random.default_rng(seed)
    groups = _groups(models)
    value = _mean(np.stack([spearman(score[rows], quality[rows]) for rows in groups]))
    resampled = [spearman(score[chosen], quality[chosen]) for chosen in (_drawn(rows, draw) for rows in groups)]
    return _estimate(value, _mean(np.stack(resampled)), len(score))


def over_models(score: np.ndarray, quality: np.ndarray, models: Sequence[str], seed: int = 0) -> Estimate:
    """Of the models' means. Rows are resampled inside each model; that there are few models is not in the interval."""
    draw = np.random.default_rng(seed)
    groups = _groups(models)
    value = spearman(*(np.stack([x[rows].mean() for rows in groups]) for x in (score, quality)))
    chosen = [_drawn(rows, draw) for rows in groups]
    resampled = spearman(*(np.stack([x[rows].mean(-1) for rows in chosen], -1) for x in (score, quality)))
    return _estimate(value, resampled, len(groups))


def _groups(models: Sequence[str]) -> list[np.ndarray]:
    """The rows of each model."""
    names = np.asarray(models)
    return [np.flatnonzero(names == name) for name in dict.fromkeys(models)]


def _drawn(rows: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """As many of ``rows`` with repetition, ``[RESAMPLES, n]``."""
    return rows[draw.integers(0, len(rows), (RESAMPLES, len(rows)))]


def _mean(values: np.ndarray) -> np.ndarray:
    """Over models ``[models, ...]`` of which the correlation is known."""
    known = np.isfinite(values)
    count = known.sum(0)
    return np.where(count > 0, np.where(known, values, 0).sum(0) / np.maximum(count, 1), NOTHING)


def _estimate(value: np.ndarray, resampled: np.ndarray, points: int) -> Estimate:
    known = resampled[np.isfinite(resampled)]
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (NOTHING, NOTHING)
    return Estimate(float(value), float(low), float(high), points)
