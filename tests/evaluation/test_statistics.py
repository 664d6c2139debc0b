"""Correlations of drawn numbers whose answer is known."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from evaluation import statistics
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


def test_a_row_that_is_drawn_twice_is_there_twice():
    draw = np.random.default_rng(3)
    one, other = draw.integers(0, 6, (2, 12)).astype(float)  # with equal ones
    weights = draw.integers(0, 4, (20, 12))
    expected = [spearmanr(np.repeat(one, n), np.repeat(other, n)).statistic for n in weights]
    np.testing.assert_allclose(statistics._resampled(one, other, weights.astype(float)), expected, atol=1e-12)


MODELS, SCENES = 6, 30
ROWS = dict(models=[f"model {m}" for m in range(MODELS) for _ in range(SCENES)])
BY_SCENE = ROWS | dict(scenes=[f"scene {s}" for _ in range(MODELS) for s in range(SCENES)])


def of_shared_scenes(seed):
    """Score and quality that have nothing in common, and differ from scene to scene more than from model to model."""
    draw = np.random.default_rng(seed)
    scenes, own = draw.standard_normal((2, 1, SCENES)), draw.standard_normal((2, MODELS, SCENES))
    return (scenes + 0.3 * own).reshape(2, -1)


@pytest.mark.parametrize("measure", [within, lambda *pair, models, **more: overall(*pair, **more)])
def test_rows_that_share_scenes_are_drawn_with_them(measure):
    """The truth is 0. Drawn alone, rows would count as so many independent ones, and the interval be too narrow."""
    inside = {}
    for name, rows in (("alone", ROWS), ("by scene", BY_SCENE)):
        made = [measure(*of_shared_scenes(n), seed=n, **rows) for n in range(60)]
        inside[name] = np.mean([one.low <= 0 <= one.high for one in made])
    assert inside["alone"] < 0.75
    assert inside["by scene"] >= 0.85


def test_models_that_painted_the_same_scenes_are_compared_on_the_same_ones():
    """A scene moves all models together, so that their order is surer than rows that are drawn alone make it."""
    draw = np.random.default_rng(5)
    scenes = 10 * draw.standard_normal((2, 1, SCENES))
    score, quality = (scenes + np.arange(MODELS)[:, None]).reshape(2, -1)
    assert over_models(score, quality, **ROWS).low < 0.9
    assert over_models(score, quality, **BY_SCENE).low == pytest.approx(1)
