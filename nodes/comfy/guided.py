"""I2AM Steer by guidance: the model is evaluated once more without what is chosen, and its two answers are mixed.

    D = D_without + strength (D_with - D_without)

for each list of conditionings that holds a steered branch, where ``calc_cond_batch`` (comfy/samplers.py) returns it: so
before any function that combines the branches. Further evaluations that other nodes make for guidance (PAG, SLG) are of
the same conditionings, and are compared with what is mixed here: they are mixed, too, or else the difference would hold
the steering once more.

It is inside all other Steers, which therefore act in both evaluations; two of this kind multiply.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .captured import Captured
from .consumers.steer import Evaluated
from .consumers.without import Without
from .engine import Engine
from .evaluation import Evaluation, Watched, around_evaluations
from .hooks import KEY
from .located import Regions
from .mechanisms import chosen
from .model_calls import ModelCalls, Present
from .run import Part, Sampling
from .steer_choice import Choice, Settings
from .steps import step_of

NOT_READ = "I2AM could not read the conditionings of a call"
NOTE = (
    "steered by I2AM Steer: {}; maps are of the answer with the reference, before it was mixed with the answer without"
)


class Guided(Part):
    """One run that is steered by guidance, in these ``branches`` and ``steps``; ``regions`` are those of a canvas."""

    def __init__(
        self, settings: Settings, branches: Sequence[str], steps: frozenset[int], regions: Regions, begins_late: bool,
        sampling: Sampling,
    ) -> None:  # fmt: skip
        super().__init__()
        self.settings, self.steps, self._sigmas = settings, steps, sampling.sigmas.float().cpu()
        left_out = replace(settings, strength=0.0, by="attention", generated_region=None)
        every_step = frozenset(range(len(sampling.sigmas)))  # in which there is a further evaluation
        self.without = Without(Choice(left_out, branches), every_step, begins_late)
        self.engine = Engine(chosen(settings.mechanism), [self.without])
        calls, self._moments = (
            ModelCalls(sampling.guider, branches, sampling.noise, sampling.sigmas, regions, self.engine)
            for _ in range(2)
        )
        self._watched = Watched(self.engine, calls)
        self._evaluated_branches = Evaluated(branches[0])
        self._step, self._again = 0, False

    def install(self, sampling: Sampling, stack: ExitStack) -> None:
        options = sampling.guider.model_options["transformer_options"]
        around_evaluations(options, KEY, self._evaluated)
        for part in sampling.parts:
            if isinstance(part, Captured):
                part.engine.note(NOTE.format(self.settings))

    def finish(self, sampling: Sampling, output: Tensor) -> None:
        """Raises ValueError where there was nothing to steer."""
        self._evaluated_branches.check()
        if self._again:
            self.without.finished()

    def _evaluated(self, executor: Callable, *arguments: Any) -> list[Tensor]:
        evaluation = Evaluation(executor, *arguments)
        present = Present()
        with self.engine.skipping(NOT_READ):
            present = self._moments.recognised(
                evaluation.model, list(evaluation.conds), evaluation.x, evaluation.timestep, evaluation.model_options
            )
        output: list[Tensor] = executor(*arguments)
        self._evaluated_branches.add(present.branches)
        self._step = step_of(float(evaluation.timestep.max()), self._sigmas, self._step)
        if self._step in self.steps and present.branches:
            return self._mixed(evaluation, output, present)
        return output

    def _mixed(self, evaluation: Evaluation, output: Sequence[Tensor], present: Present) -> list[Tensor]:
        """The answers of the run, of which those of steered lists are mixed with the ones without what is chosen."""
        own = [conds if mine is not None else None for conds, mine in zip(evaluation.conds, present.lists, strict=True)]
        self.without.changed.clear()
        self._again = True
        without = evaluation.again(self._watched, own)
        mask = self._mask(evaluation.x)
        return [
            mixed(with_it, without_it, self.settings.strength, mask)
            if mine is not None and mine.branch in self.without.changed  # where nothing was left out, not a bit changes
            else with_it
            for with_it, without_it, mine in zip(output, without, present.lists, strict=True)
        ]

    def _mask(self, x: Tensor) -> Tensor | None:
        """The region on the latent's grid, in [0, 1]: it broadcasts to ``x [items, C, (frames,) h, w]``."""
        region = self.settings.generated_region
        if region is None:
            return None
        mask = F.adaptive_avg_pool2d(region[:, None].float(), tuple(x.shape[-2:])).clamp(0, 1).to(x)
        return mask.reshape(len(mask), *[1] * (x.ndim - 3), *x.shape[-2:])


def mixed(with_it: Tensor, without_it: Tensor, strength: float, mask: Tensor | None) -> Tensor:
    """``without + strength (with - without)``, to the part that ``mask`` says; where it is 0, not a bit changes."""
    steered = without_it + strength * (with_it - without_it)
    if mask is None:
        return steered
    return torch.where(mask > 0, torch.lerp(with_it, steered, mask.expand_as(with_it)), with_it)
