"""Correlations of drawn numbers whose answer is known."""

import numpy as np
import pytest

from evaluation.statistics import over_models, overall, spearman, within


def drawn(correlation, count, seed=0):
    """Two rows of normal numbers of this correlation."""
    numbers = np.random.default_rng(seed).standard_normal((2, count))
    return numbers[0], correlation * numbers[0] + np.sqrt(1 - correlation**2) * numbers[1]


def test_order_is_all_that_counts():
    x = np.array([3.0, 1.0, 2.0, 9.0])
    assert spearman(x, np.exp(x)) == pytest.approx(1)
    assert spearman(x, -x) == pytest.approx(-1)
    assert np.isnan(spearman(x, np.ones(4)))
    assert np.isnan(spearman(x[:2], x[:2]))


@pytest.mark.parametrize("correlation", [0.0, 0.5, -0.8])
def test_the_interval_has_the_truth_in_it_as_often_as_it_says(correlation):
    truth = 6 / np.pi * np.arcsin(correlation / 2)  # Spearman's of two normal variables
    inside = [one.low <= truth <= one.high for one in (overall(*drawn(correlation, 80, n), seed=n) for n in range(60))]
    assert 0.85 <= np.mean(inside) <= 1


def test_models_that_differ_make_no_correlation_inside_them():
    """Better models have higher scores; inside a model the score says nothing."""
    draw = np.random.default_rng(1)
    models = [str(n) for n in range(6) for _ in range(40)]
    level = np.repeat(np.arange(6.0), 40)
    score, quality = (level + draw.standard_normal(240) for _ in range(2))
    assert over_models(score, quality, models).value == pytest.approx(1)
    inside = within(score, quality, models)
    assert abs(inside.value) < 0.2 and inside.low < 0 < inside.high
    assert overall(score, quality).low > 0.5


def test_a_score_that_ranks_pictures_but_not_models():
    one, other = drawn(0.9, 240)
    models = [str(n) for n in range(6) for _ in range(40)]
    level = np.repeat(np.arange(6.0), 40)
    assert within(one + 100 * level, other - 100 * level, models).low > 0.7
    assert over_models(one + 100 * level, other - 100 * level, models).value == pytest.approx(-1)


def test_points_are_those_it_is_of():
    one, other = drawn(0.5, 12)
    models = ["a"] * 6 + ["b"] * 6
    assert overall(one, other).points == 12 and over_models(one, other, models).points == 2
