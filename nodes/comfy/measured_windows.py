"""Predictions of videos that are denoised in context windows: only what was made in all windows of a step counts."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from ...i2am_core.effect import Effects, Removal
from ...i2am_core.recording.effects import Removed
from .windows import Window


class MeasuredWindows:
    """In how many windows of a step each prediction was made."""

    def __init__(self) -> None:
        self._all: Counter[int] = Counter()  # by step
        self._made: Counter[tuple[int, Removed]] = Counter()

    def begin(self, step: int, window: Window | None) -> None:
        """A window of a step; None is the whole latent."""
        if window is not None:
            self._all[step] += 1

    def add(self, step: int, removed: Removed) -> None:
        """A prediction was made in it."""
        if step in self._all:
            self._made[step, removed] += 1

    def complete(self, effects: Effects, numbers: Mapping[int, int]) -> Effects:
        """Without what is of some windows only. References have got other ``numbers``."""
        made: dict[tuple[int, Any], int] = {}
        for (step, removed), count in self._made.items():
            if isinstance(removed, Removal):
                owner = numbers.get(removed.owner) if isinstance(removed.owner, int) else removed.owner
                made[step, (owner, removed.route)] = count
            else:
                made[step, removed] = count

        def is_whole(step: int, what: Any) -> bool:
            return step not in self._all or self._all[step] == made.get((step, what), 0) == made.get((step, None), 0)

        whole = {x: values for x, values in effects.maps.items() if is_whole(x.step, (x.owner, x.route))}
        left = {(x.step, x.owner) for x in whole} | {(step, None) for step in {x.step for x in whole}}
        predictions = {key: x for key, x in effects.predictions.items() if key in left or key[0] not in self._all}
        first = min(self._all, default=None)
        floor = effects.floor if first is None or is_whole(first, "nothing") else torch.zeros_like(effects.floor)
        return replace(effects, maps=whole, predictions=predictions, floor=floor)
