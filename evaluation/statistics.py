"""Do scores and quality go together? Spearman's correlation by scipy, with intervals of the bootstrap, over groups.

*Over models* each model is one point: the means of its rows. *Within* is inside one model: the correlation of its rows,
averaged over models. The first asks whether a score ranks models, the second whether it ranks pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 1000
LEAST = 3  # points, of which a correlation says anything


@dataclass(frozen=True)
class Estimate:
    """A correlation, and the interval in which 95 % of resamples lie; ``points`` are those it is of."""

    value: float
    low: float
    high: float
    points: int


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Of two rows of values; not a number where all of one are equal."""
    if len(one) < LEAST or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(stats.spearmanr(one, other).statistic)


def overall(score: np.ndarray, quality: np.ndarray, seed: int = 0) -> Estimate:
    """Of all rows together."""
    return _bootstrapped(len(score), lambda rows: spearman(score[rows], quality[rows]), seed)


def within(score: np.ndarray, quality: np.ndarray, models: Sequence[str], seed: int = 0) -> Estimate:
    """The mean over models of the correlation of their own rows, which are resampled inside each model."""
    names = np.asarray(models)
    groups = [np.flatnonzero(names == name) for name in dict.fromkeys(models)]

    def mean(draw: np.random.Generator | None) -> float:
        chosen = [rows if draw is None else draw.choice(rows, len(rows)) for rows in groups]
        values = [spearman(score[rows], quality[rows]) for rows in chosen]
        known = [value for value in values if np.isfinite(value)]
        return float(np.mean(known)) if known else float("nan")

    draw = np.random.default_rng(seed)
    return _estimate(mean(None), [mean(draw) for _ in range(RESAMPLES)], len(score))


def over_models(score: np.ndarray, quality: np.ndarray, models: Sequence[str], seed: int = 0) -> Estimate:
    """Of the models' means. Rows are resampled inside each model; that there are few models is not in the interval."""
    names = np.asarray(models)
    groups = [np.flatnonzero(names == name) for name in dict.fromkeys(models)]

    def of_means(draw: np.random.Generator | None) -> float:
        chosen = [rows if draw is None else draw.choice(rows, len(rows)) for rows in groups]
        return spearman(*(np.array([x[rows].mean() for rows in chosen]) for x in (score, quality)))

    draw = np.random.default_rng(seed)
    return _estimate(of_means(None), [of_means(draw) for _ in range(RESAMPLES)], len(groups))


def _bootstrapped(count: int, of_rows: object, seed: int) -> Estimate:
    draw = np.random.default_rng(seed)
    assert callable(of_rows)
    values = [of_rows(draw.integers(0, count, count)) for _ in range(RESAMPLES)]
    return _estimate(of_rows(np.arange(count)), values, count)


def _estimate(value: float, resampled: Sequence[float], points: int) -> Estimate:
    known = [x for x in resampled if np.isfinite(x)]
    low, high = np.percentile(known, [2.5, 97.5]) if known else (float("nan"), float("nan"))
    return Estimate(value, float(low), float(high), points)
