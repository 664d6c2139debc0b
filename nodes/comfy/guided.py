"""I2AM Steer by guidance: the model is evaluated once more without what is chosen, and its two answers are mixed.

    D = D_without + strength (D_with - D_without)

for each list of conditionings that holds a steered branch, where ``calc_cond_batch`` (comfy/samplers.py) returns it: so
before any function that combines the branches. Further evaluations that other nodes make for guidance (PAG, SLG) are of
the same conditionings, and are compared with what is mixed here: they are mixed, too, or else the difference would hold
the steering once more.

It is inside all Steers of attention, which therefore act in both evaluations; two by guidance multiply.
"""

from collections.abc import Callable, Set
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .captured import Captured
from .consumers.base import Consumer
from .consumers.steer import Steer
from .consumers.without import Without
from .engine import Engine
from .evaluation import Evaluation, Watched, around_evaluations
from .model_calls import ModelCalls
from .run import Part, Sampling
from .steer_choice import Settings
from .steps import step_of

KEY = "i2am guidance"  # its functions are inside those of all engines: these see the run's own evaluations alone
NOTE = (
    "steered by I2AM Steer: {}; maps are of the answer with the reference, before it was mixed with the answer without"
)


def left_out(settings: Settings) -> Settings:
    """What is done to attention in the further evaluations."""
    return replace(settings, strength=0.0, by="attention", generated_region=None)


class Guided(Part):
    """One run that is steered by guidance in these ``steps``.

    ``steer`` has what is ``left_out`` as its choice, and no steps: in the run's own evaluations it changes nothing, and
    refuses what cannot be steered. ``watching`` gives a consumer the branches of the run.
    """

    def __init__(
        self,
        settings: Settings,
        steps: Set[int],
        steer: Steer,
        watching: Callable[[Consumer], tuple[Engine, ModelCalls]],
    ) -> None:
        self.settings, self.steps, self.steer, self.without = settings, steps, steer, Without(steer.choice)
        engine, self._calls = watching(steer)
        self._further = Watched(*watching(self.without))
        self._step = 0
        super().__init__((engine, self._calls))

    def install(self, sampling: Sampling, stack: ExitStack) -> None:
        super().install(sampling, stack)
        self._sigmas = sampling.sigmas.float().cpu()
        around_evaluations(sampling.guider.model_options["transformer_options"], KEY, self._evaluated)
        for part in sampling.parts:
            if isinstance(part, Captured):
                part.engine.note(NOTE.format(self.settings))

    def finish(self, sampling: Sampling, output: Tensor) -> None:
        super().finish(sampling, output)
        self.steer.finished()

    def _evaluated(self, executor: Callable, *arguments: Any) -> list[Tensor]:
        output: list[Tensor] = executor(*arguments)
        evaluation = Evaluation(executor, *arguments)
        branches = [None if mine is None else mine.branch for mine in self._calls.present.lists]
        own = [None if branch is None else conds for branch, conds in zip(branches, evaluation.conds, strict=False)]
        self._step = step_of(float(evaluation.timestep.max()), self._sigmas, self._step)
        if self._step not in self.steps or not any(own):
            return output
        self.without.changed.clear()
        without = evaluation.again(self._further, own)
        mask = self._mask(evaluation.x)
        return [
            mixed(with_it, without_it, self.settings.strength, mask)
            if branch in self.without.changed  # where nothing was left out, not a bit changes
            else with_it
            for branch, with_it, without_it in zip(branches, output, without, strict=True)
        ]

    def _mask(self, x: Tensor) -> Tensor | None:
        """The region on the latent's grid, in [0, 1]: it broadcasts to ``x [items, C, (frames,) h, w]``."""
        region = self.settings.generated_region
        if region is None:
            return None
        height, width = x.shape[-2:]
        mask = F.adaptive_avg_pool2d(region[:, None], (height, width)).clamp(0, 1).to(x)
        return mask.reshape(len(mask), *[1] * (x.ndim - 3), height, width)


def mixed(with_it: Tensor, without_it: Tensor, strength: float, mask: Tensor | None) -> Tensor:
    """``without + strength (with - without)``, to the part that ``mask`` says; where it is 0, not a bit changes."""
    steered = without_it + strength * (with_it - without_it)
    if mask is None:
        return steered
    return torch.where(mask > 0, torch.lerp(with_it, steered, mask.expand_as(with_it)), with_it)
