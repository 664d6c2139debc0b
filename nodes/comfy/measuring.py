"""How effects are measured: the model is evaluated once more for all that is taken away, and what it predicts compared.

The answer of the run itself is compared with those without a reference, a part of one, the text, or with another
conditioning. Where a context window denoises some frames, the answers of all windows are put together first.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from comfy.model_management import InterruptProcessingException
from torch import Tensor

from ...i2am_core.attribution import Attribution
from ...i2am_core.effect import Effects, Removal, owner_names
from ...i2am_core.recording.effects import EffectRecorder, Frames, RegionRemoval, Removed
from .caches import has_cache
from .captured import Captured
from .consumers.observed import Observed
from .consumers.take_away import TakeAway
from .engine import Engine
from .evaluation import Conditionings, Evaluation, Watched
from .measured_steps import MeasuredSteps
from .measured_windows import MeasuredWindows
from .mechanisms import chosen
from .mechanisms.text_tokens import TextTokens
from .model_calls import ModelCalls
from .other_conditioning import OtherConditioning, in_window
from .removals import Removals, Settings
from .run import Sampling
from .several_latents import first_of
from .unmeasured import (
    AUTOREGRESSIVE,
    EVERYTHING,
    FLOOR,
    NO_TEXT,
    NOT_COMPUTED,
    NOT_EVALUATED,
    NOTHING_READ,
    PART_OF_LATENT,
    READ_ELSEWHERE,
    WITHOUT_NOTHING,
    forget_frames,
    reason_of,
)
from .windows import Window

log = logging.getLogger(__name__)

SHARE = 4  # effects get one part in so many of the budget of Capture
NAMES = owner_names(())  # of the owners that are no references


@dataclass(frozen=True)
class BranchEvaluation:
    """What is measured of an evaluation of the run: the watched branch, whose conditionings are at ``place``."""

    evaluation: Evaluation
    place: int
    window: Window | None  # the frames of a video that it is of; None is the whole latent

    @property
    def is_alone(self) -> bool:
        """Whether the run evaluates no other branch with it."""
        return not any(conds for n, conds in enumerate(self.evaluation.conds) if n != self.place)

    def again(self, watched: Watched | None = None, conds: Conditionings | None = None) -> Tensor:
        """The predicted clean latent of this branch alone, evaluated once more, by default with its own ``conds``."""
        own = self.evaluation.conds[self.place] if conds is None else conds
        lists = [own if n == self.place else None for n in range(len(self.evaluation.conds))]
        return self.evaluation.again(watched, lists)[self.place]


class Measuring:
    """The effects in one run, in the branch that a Capture watches.

    ``painted_on`` is the latent image of the run and its mask, which are known as soon as the sampler starts.
    """

    def __init__(
        self, settings: Settings, captured: Captured, sampling: Sampling, other: OtherConditioning | None
    ) -> None:
        capture, known = captured.capture.settings, captured.record.recorder
        self.captured, self.sampling, self.other = captured, sampling, other
        self.branch = capture.branch
        self.painted_on: tuple[Tensor | None, Tensor | None] = (None, None)
        self.steps = MeasuredSteps(settings.probe_steps, known.sigmas)
        budget = capture.budget_bytes // SHARE
        known.reserve(budget)
        self.recorder = EffectRecorder(sampling.noise.shape, len(self.steps.numbers), budget, self._as_latent)
        self._removals = Removals(settings, known, self.recorder)
        self._windows = MeasuredWindows()
        self._moments = self._model_calls(Engine([], []))

    def evaluated(
        self, executor: Callable, arguments: Sequence[Any], further: Mapping[str, Any], output: Sequence[Tensor]
    ) -> None:
        """Measure, where one of the steps is due: ``output`` is what the run got. Nothing of it stays on the device."""
        try:
            evaluation = Evaluation(executor, *arguments, **further)
            present = self._moments.recognised(
                evaluation.model, list(evaluation.conds), evaluation.x, evaluation.timestep, evaluation.model_options
            )
            lists = [n for n, own in enumerate(present.lists) if own is not None and evaluation.predicts(n)]
            if not lists or not self.steps.is_due(float(evaluation.timestep.max()), present.window):
                return
            if reason := self._why_not(evaluation, present.window):
                self.recorder.why_not(EVERYTHING, reason)
            if not self.recorder.is_unmeasured(EVERYTHING):
                self._measure(BranchEvaluation(evaluation, lists[0], present.window), output[lists[0]])
        except InterruptProcessingException:
            raise
        except Exception as error:
            log.warning("an effect could not be measured", exc_info=True)
            self.recorder.why_not(EVERYTHING, f"{type(error).__name__}: {error}")
            forget_frames(error)

    def finished(self, attribution: Attribution) -> Effects:
        """The effects, whose references are numbered as in the attribution of the same run."""
        try:
            return self._finished(attribution)
        except Exception as error:  # the maps of the Capture are not lost with them
            log.warning("the effects could not be finished", exc_info=True)
            floor = torch.zeros(self.recorder.shape[0], self.recorder.shape[2:].numel())
            return Effects({}, floor, unmeasured={EVERYTHING: f"{type(error).__name__}: {error}"})

    def _finished(self, attribution: Attribution) -> Effects:
        self.recorder.end_step()  # of context windows, the last is still under way
        if self.steps.first is None:
            self.recorder.why_not(EVERYTHING, NOT_EVALUATED.format(self.branch))
        elif self.recorder.is_empty or (self.other is None and not self.captured.record.recorder.counted):
            self.recorder.why_not(EVERYTHING, NOTHING_READ)
        number_of = self.captured.record.recorder.number_of
        numbers = {n: number for number, x in enumerate(attribution.references) if (n := number_of(x)) is not None}
        self._name_what_is_read_elsewhere(attribution, numbers)
        return self._windows.complete(self.recorder.freeze(numbers), numbers)

    def _name_what_is_read_elsewhere(self, attribution: Attribution, numbers: Mapping[int, int]) -> None:
        """Of what acts in other steps than those that were measured, no effect holds for these alone."""
        read, unread = self._removals.read, self._removals.unread
        names = owner_names(reference.name for reference in attribution.references)
        captured = {number for number, _ in attribution.entries}
        was_read = self.captured.record.recorder.was_read  # one that is off everywhere acts in no other step
        for known, number in numbers.items():
            if known in unread - read and number in captured and was_read(known):
                self.recorder.why_not(f"{names[number]} in other steps", READ_ELSEWHERE)
        if "conditioning" in unread:
            name = NAMES["conditioning"] + (" in some steps" if "conditioning" in read else "")
            self.recorder.why_not(name, WITHOUT_NOTHING)

    def _why_not(self, evaluation: Evaluation, window: Window | None) -> str:
        """Why nothing can be measured in an evaluation; "" where it can."""
        if "ar_state" in evaluation.model_options.get("transformer_options", {}):
            return AUTOREGRESSIVE
        shapes, shape = self.sampling.shapes, evaluation.x.shape
        if len(shapes) < 2 or shape[-1] == sum(latent[1:].numel() for latent in shapes):
            shape = first_of(evaluation.x, shapes).shape
        if window is None and shape != self.sampling.noise.shape:
            return PART_OF_LATENT.format(*("x".join(map(str, x)) for x in (shape, self.sampling.noise.shape)))
        return ""

    def _measure(self, branch: BranchEvaluation, output: Tensor) -> None:
        """All that is due in the present step. ``output`` is the run's own prediction."""
        step, in_windows = self.steps.present, branch.window is not None
        self._windows.begin(step, branch.window)
        everything = output
        # The run's answer may be one of a cache, or, in a batch, with other random numbers than the branch alone draws.
        drawn = branch.evaluation.drawn
        others_drawn = not branch.is_alone and drawn is not None and drawn.have_drawn()
        if anew := has_cache(branch.evaluation.model_options) or others_drawn:
            with self._evaluating(EVERYTHING):
                everything = branch.again()
            if self.recorder.is_unmeasured(EVERYTHING):
                return
        self._add(branch, None, everything)
        if self.steps.is_first and not branch.is_alone and not anew:  # in a batch, it is rounded otherwise
            with self._evaluating(FLOOR):
                self._add(branch, "nothing", branch.again())
        for name, removed in self._removals.of_step(self.steps, in_windows):
            if not self.recorder.is_unmeasured(name):
                with self._evaluating(name):
                    self._take_away(branch, removed, everything)
        if self.other is not None and not self.recorder.is_unmeasured(NAMES["conditioning"]):
            with self._evaluating(NAMES["conditioning"]):
                self._compare(branch, self.other)
        if not in_windows:
            self.recorder.end_step()

    def _take_away(self, branch: BranchEvaluation, removed: Removal | RegionRemoval, everything: Tensor) -> None:
        """Evaluate without it. In a window that does not read it, the prediction is the one with ``everything``."""
        consumer, observed = TakeAway(removed, self.captured.record.recorder.number_of), Observed()
        mechanisms = chosen(self.captured.capture.settings.mechanism)
        of_text = [TextTokens()] if consumer.owner == "text" else []
        engine = Engine([*mechanisms, *of_text], [consumer, observed])
        prediction = branch.again(Watched(engine, self._model_calls(engine)))
        if consumer.changed:
            self._removals.read.add(consumer.owner)
            self._add(branch, removed, prediction)
        elif not observed.calls:
            raise ValueError(NOT_COMPUTED)
        elif branch.window is not None:
            self._add(branch, removed, everything)
        elif consumer.owner == "text":
            self.recorder.why_not(NAMES["text"], NO_TEXT)
        else:
            if not consumer.inert:
                self._removals.unread.add(consumer.owner)
            self.recorder.no_effect(removed)

    def _compare(self, branch: BranchEvaluation, other: OtherConditioning) -> None:
        """Evaluate with the other conditioning in the place of the run's own."""
        with other.in_place(self.branch, self.sampling.guider) as conds:
            if branch.window is not None:
                conds = in_window(conds, branch.evaluation, self.sampling.noise.shape)
            if not replace(branch.evaluation, conds=[conds]).predicts(0):
                self._removals.unread.add("conditioning")
                return
            self._add(branch, Removal(self.steps.present, "conditioning"), branch.again(conds=conds))
            self._removals.read.add("conditioning")

    def _add(self, branch: BranchEvaluation, removed: Removed, prediction: Tensor) -> None:
        window = branch.window
        frames = None if window is None else Frames(window.frames, window.weight)
        prediction = first_of(prediction, self.sampling.shapes)
        self.recorder.add(self.steps.present, removed, prediction, frames)
        self._windows.add(self.steps.present, removed)

    @contextmanager
    def _evaluating(self, name: str) -> Iterator[None]:
        """Around one more evaluation: what goes wrong in it is a reason why this is not measured."""
        begun = time.perf_counter()
        try:
            yield
        except InterruptProcessingException:
            raise
        except Exception as error:
            log.info("the effect of %s was not measured", name, exc_info=True)
            self.recorder.why_not(name, reason_of(error))
            forget_frames(error)
        finally:
            self.recorder.evaluations += 1
            self.recorder.seconds += time.perf_counter() - begun

    def _model_calls(self, engine: Engine) -> ModelCalls:
        """The watched branch, for an engine of its own."""
        sampling, sigmas = self.sampling, self.captured.record.recorder.sigmas
        return ModelCalls(sampling.guider, [self.branch], sampling.noise, sigmas, self.captured.calls.regions, engine)

    def _as_latent(self, prediction: Tensor) -> Tensor:
        """The latent that a VAE takes: outside the inpainting mask of a run, it is the one that is painted on."""
        image, mask = self.painted_on
        if image is not None and mask is not None:
            image, mask = (x.to(prediction) for x in (image, mask))
            prediction = prediction * mask + image * (1 - mask)
        latent: Tensor = self.sampling.guider.model_patcher.model.process_latent_out(prediction)
        return latent.clone()  # a format may give what it is given, which the run goes on with
