"""One table for both models: a row a map, and for each model a column of what it is compared with."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..demo.steer import bracketed, interval
from .baselines import BASELINES

Scores = Mapping[str, Mapping[str, Tensor]]
"""By map, and by what it is compared with, a number of each scene ``[n]``."""

TRUTH = "object"  # of the baselines the one that no user has


def side_by_side(models: Mapping[str, Scores], decimals: int = 2) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of a table, baselines last. A map that a model does not have has empty cells.

    Bold is the highest of each column that is not the truth, and what cannot be told from it: the interval of the
    difference, scene by scene, has 0 in it.
    """
    columns = [(of, x) for of in models.values() for x in _compared(of)]
    best = [_best(of, x) for of, x in columns]
    rows = []
    for name in sorted({name: 0 for of in models.values() for name in of}, key=_place):
        cells = [bracketed(of[name][x], decimals) if name in of else "" for of, x in columns]
        rows.append([name, *(f"**{cell}**" if name in top else cell for cell, top in zip(cells, best, strict=True))])
    return ["", *(f"{model}: {x}" for model, of in models.items() for x in _compared(of))], rows


def _best(scores: Scores, compared: str) -> list[str]:
    """Names of the highest, and of those that cannot be told from it."""
    rivals = {name: of[compared] for name, of in scores.items() if name != TRUTH}
    top = rivals[max(rivals, key=lambda name: _mean(scores, name, compared))]
    return [name for name, x in rivals.items() if interval(top - x)[0] <= 0]


def _compared(scores: Scores) -> list[str]:
    return list(next(iter(scores.values())))


def _place(name: str) -> int:
    return 1 + BASELINES.index(name) if name in BASELINES else 0


def _mean(scores: Scores, name: str, compared: str) -> float:
    return scores[name][compared].mean().item()


def best_baseline(scores: Scores, compared: str) -> str:
    """The name of the one with the highest mean, without the truth."""
    return max((x for x in scores if x in BASELINES and x != TRUTH), key=lambda name: _mean(scores, name, compared))


def in_short(scores: Scores, compared: str) -> str:
    """The maps of a model, the highest first, then the best baseline and the truth, with their numbers."""
    maps = [name for name in scores if name not in BASELINES]
    maps.sort(key=lambda name: -_mean(scores, name, compared))
    rival = best_baseline(scores, compared)
    words = [f"{name} {bracketed(scores[name][compared], 2)}" for name in maps]
    words.append(f"the best baseline, {rival}, {bracketed(scores[rival][compared], 2)}")
    if TRUTH in scores:
        words.append(f"the truth of where the object is {bracketed(scores[TRUTH][compared], 2)}")
    return ", ".join(words)
