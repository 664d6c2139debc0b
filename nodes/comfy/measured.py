"""What I2AM Effect wants of a run: at some of its steps, the model is evaluated once more for all that is taken away.

The answer of the run itself is compared with those without a reference, a part of one, the text, or with another
conditioning. Where a context window denoises some frames, the answers of all windows are put together first.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import comfy.model_management
import comfy.patcher_extension
import torch
from comfy.model_management import InterruptProcessingException
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...i2am_core.attribution import Attribution, Reference
from ...i2am_core.effect import Cut, Effects, Owner, Removal, Route, owner_names, region_grid
from ...i2am_core.recording import effects
from ...i2am_core.recording.effects import EffectRecorder, RegionRemoval, Removed
from .caches import has_cache
from .captured import Captured, CaptureWatch
from .consumers.observed import Observed
from .consumers.take_away import TakeAway
from .engine import Engine
from .evaluation import Evaluation, Watched, around_evaluations
from .measured_windows import MeasuredWindows
from .mechanisms import chosen
from .mechanisms.text_tokens import TextTokens
from .model_calls import ModelCalls
from .other_conditioning import OtherConditioning, in_window
from .run import Misplaced, Part, Sampling, Watch, watched
from .steps import step_of
from .unmeasured import (
    AUTOREGRESSIVE,
    EVERYTHING,
    FLOOR,
    IN_WINDOWS,
    NO_BUDGET,
    NO_PICTURE,
    NO_PLACES,
    NO_TEXT,
    NOT_COMPUTED,
    NOT_EVALUATED,
    NOTHING_READ,
    PART_OF_LATENT,
    READ_ELSEWHERE,
    WITHOUT_NOTHING,
    forget_frames,
    reason_of,
)  # fmt: skip
from .windows import Window

log = logging.getLogger(__name__)

KEY = "i2am effect"
SHARE = 4  # effects get one part in so many of the budget of Capture
MOST_EACH_STEP = 4  # references; of more, each is taken away in the first of the measured steps alone

NO_CAPTURE = (
    "I2AM Effect measures for an I2AM Capture on the same MODEL line, and there is none: put I2AM Capture before or "
    "behind it, between the model and the sampler."
)
SEVERAL = "there are {} I2AM Effect on one MODEL line: keep one."


@dataclass(frozen=True)
class Settings:
    """What is set on I2AM Effect."""

    probe_steps: int = 3
    regions: int = 0  # on a side; 0 is none
    cuts: tuple[Cut, ...] = ("taken away",)
    routes: tuple[Route, ...] = ("everything",)
    text: bool = False  # whether the text is an owner, too
    without: list[Any] | None = None  # a conditioning, as nodes hand it on


def measured_steps(count: int, steps: int) -> list[int]:
    """In which of a run's ``steps`` so many are measured: the first always, and others as far apart in its first half.

    Where the half has too few steps, they are the first of the run. Chosen on 32 held-out scenes of the demo model, 10
    and 20 steps of euler. What one step says of the finished picture's change by a whole run without the reference
    (Spearman over the positions in the mask) falls with the step: 0.90 and 0.88 in the first, 0.67 in the middle, 0.45
    in the last. Three steps, and how well the strength tells the right reference from a blank one (AUC):

    * the first three: 0.91 and 0.89, AUC 0.99 and 0.98
    * these: 0.91 and 0.89, AUC 0.99 and 0.99
    * over two thirds of the run: 0.89 and 0.88, AUC 1.00 and 1.00
    * all steps: 0.86 and 0.85, AUC 1.00 and 1.00
    """
    count = min(count, steps)
    return [n * max(steps, 2 * count) // (2 * count) for n in range(count)]


def effect_with(model: ModelPatcher, settings: Settings) -> ModelPatcher:
    """A clone of the model whose every sampling run is measured."""
    return watched(model, EffectWatch(settings))


PICTURE_OR_VIDEO = (4, 5)  # dimensions of their latents


class EffectWatch(Watch):
    """An Effect on the MODEL line."""

    order = 1  # after Capture

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def begin(self, sampling: Sampling) -> "Measured":
        """Raises Misplaced without a Capture, or where the conditioning to compare with does not fit the run."""
        captured = [part for part in sampling.parts if isinstance(part, Captured)]
        if not any(isinstance(watch, CaptureWatch) for watch in sampling.watches):
            raise Misplaced(NO_CAPTURE)
        if (count := sum(isinstance(watch, EffectWatch) for watch in sampling.watches)) > 1:
            raise Misplaced(SEVERAL.format(count))
        if sampling.noise.ndim not in PICTURE_OR_VIDEO:
            for one in captured:
                one.engine.note(NO_PICTURE.format(sampling.noise.ndim))
            return Measured((), None)
        without = self.settings.without
        branches = [one.capture.settings.branch for one in captured]
        other = None if without is None else OtherConditioning(without, sampling.guider, branches)
        return Measured([x for one in captured if (x := self._measuring(one, sampling, other))], other)

    def _measuring(self, captured: Captured, sampling: Sampling, other: OtherConditioning | None) -> "Measuring | None":
        try:
            return Measuring(self.settings, captured, sampling, other)
        except Exception as error:
            log.warning("the effects of a run cannot be measured", exc_info=True)
            captured.engine.note(f"effects are not measured: {type(error).__name__}: {error}")
            return None


class Measured(Part):
    """One run, measured for each Capture on the line."""

    def __init__(self, measuring: Sequence["Measuring"], other: OtherConditioning | None) -> None:
        super().__init__()
        self.measuring, self.other = measuring, other

    def install(self, sampling: Sampling, stack: ExitStack) -> None:
        if not self.measuring:
            return
        model_options = sampling.guider.model_options
        original = model_options["transformer_options"]
        model_options["transformer_options"] = options = comfy.patcher_extension.copy_nested_dicts(original)
        stack.callback(model_options.__setitem__, "transformer_options", original)
        around_evaluations(options, KEY, self._evaluated)
        comfy.patcher_extension.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, self._sampled, options)
        if self.other is not None:
            stack.callback(self.other.clean_up)

    def finish(self, sampling: Sampling, output: Tensor) -> None:
        """Hand the effects to the captures."""
        for one in self.measuring:
            one.captured.measured = one.finished

    def _evaluated(self, executor: Callable, *arguments: Any, **further: Any) -> list[Tensor]:
        output: list[Tensor] = executor(*arguments, **further)
        for one in self.measuring:
            one.evaluated(executor, arguments, further, output)
        return output

    def _sampled(
        self, executor: Callable, guider: Any, sigmas: Tensor, extra_args: Any, callback: Any, noise: Tensor,
        latent_image: Tensor | None = None, denoise_mask: Tensor | None = None, *arguments: Any, **further: Any,
    ) -> Any:  # fmt: skip
        for one in self.measuring:
            one.painted_on = (latent_image, denoise_mask)
        if self.other is not None:
            self.other.prepare(guider, noise, latent_image, denoise_mask, extra_args.get("seed"))
        return executor(guider, sigmas, extra_args, callback, noise, latent_image, denoise_mask, *arguments, **further)


class Measuring:
    """The effects in one run, in the branch that a Capture watches."""

    def __init__(
        self, settings: Settings, captured: Captured, sampling: Sampling, other: OtherConditioning | None
    ) -> None:
        capture = captured.capture.settings
        self.settings, self.captured, self.sampling, self.other = settings, captured, sampling, other
        self.branch = capture.branch
        self.painted_on: tuple[Tensor | None, Tensor | None] = (None, None)
        noise, self.sigmas = sampling.noise, captured.record.recorder.sigmas
        steps = measured_steps(settings.probe_steps, captured.record.recorder.steps)
        budget = capture.budget_bytes // SHARE
        captured.record.recorder.reserve(budget)
        self.recorder = EffectRecorder(noise.shape, len(steps), budget, self._as_latent)
        self._due = steps
        self._first_step: int | None = None  # of those that were measured
        self._read: set[Owner] = set()  # by the model, in a measured step
        self._unread: set[Owner] = set()  # in a measured step
        self._with_regions: set[int] = set()  # references whose regions had their turn
        self._step, self._in_windows = 0, False
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
            if not lists or not self._is_due(float(evaluation.timestep.max()), present.window):
                return
            if reason := self._why_not(evaluation, present.window):
                self.recorder.why_not(EVERYTHING, reason)
            if not self.recorder.is_unmeasured(EVERYTHING):
                self._measure(evaluation, output, lists[0], present.window)
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
        if self._first_step is None:
            self.recorder.why_not(EVERYTHING, NOT_EVALUATED.format(self.branch))
        elif self.recorder.is_empty:
            self.recorder.why_not(EVERYTHING, NOTHING_READ)
        known = self.captured.record.recorder.references
        numbers = {_identity(reference): number for number, reference in enumerate(attribution.references)}
        by_number = {n: numbers[key] for n, x in enumerate(known) if (key := _identity(x)) in numbers}
        self._name_what_is_read_elsewhere(attribution, by_number)
        if "conditioning" in self._unread:
            name = owner_names([])["conditioning"]
            self.recorder.why_not(f"{name} in some steps" if "conditioning" in self._read else name, WITHOUT_NOTHING)
        return self._windows.complete(self.recorder.freeze(by_number), by_number)

    def _name_what_is_read_elsewhere(self, attribution: Attribution, by_number: Mapping[int, int]) -> None:
        """References that act in steps which were not measured alone: that they have no effect holds for these only."""
        names = owner_names(reference.name for reference in attribution.references)
        captured = {number for number, _ in attribution.entries}
        for known, number in by_number.items():
            if known in self._unread - self._read and number in captured:
                self.recorder.why_not(f"{names[number]} in other steps", READ_ELSEWHERE)

    # When

    def _is_due(self, sigma: float, window: Window | None) -> bool:
        """Whether to measure now: in the first evaluation of a step that is due, or in a further window of it."""
        if window is not None and not window.is_first:
            return self._in_windows
        self._step = step_of(sigma, self.sigmas, self._step)
        due = any(step <= self._step for step in self._due)
        self._due = [step for step in self._due if step > self._step]
        self._in_windows = due and window is not None
        return due

    def _why_not(self, evaluation: Evaluation, window: Window | None) -> str:
        """Why nothing can be measured in an evaluation; "" where it can."""
        if "ar_state" in evaluation.model_options.get("transformer_options", {}):
            return AUTOREGRESSIVE
        if window is None and evaluation.x.shape != self.sampling.noise.shape:
            return PART_OF_LATENT.format(*("x".join(map(str, x.shape)) for x in (evaluation.x, self.sampling.noise)))
        return ""

    # What

    def _measure(self, evaluation: Evaluation, output: Sequence[Tensor], place: int, window: Window | None) -> None:
        self._first_step = self._step if self._first_step is None else self._first_step
        alone = [conds if n == place else None for n, conds in enumerate(evaluation.conds)]
        others = any(conds for n, conds in enumerate(evaluation.conds) if n != place)
        evaluation = replace(evaluation, conds=alone)
        add = partial(self._add, window)
        self._windows.begin(self._step, window)
        everything: Tensor | None = output[place]
        if has_cache(evaluation.model_options):  # the run's answer may be one that a cache remembered
            everything = None
            with self._evaluating(EVERYTHING):
                everything = evaluation.again()[place]
        if everything is None:
            return
        add(None, everything)
        in_batch = others and everything is output[place]  # which is rounded otherwise, perhaps
        if in_batch and self._is_first:
            with self._evaluating(FLOOR):
                add("nothing", evaluation.again()[place])
        for name, removed in self._removals(window):
            if not self.recorder.is_unmeasured(name):
                with self._evaluating(name):
                    self._add_without(removed, evaluation, place, add, everything if window else None)
        if self.other is not None:
            self._compare(evaluation, place, window, add)
        if window is None:
            self.recorder.end_step()

    @property
    def _is_first(self) -> bool:
        """Whether the present step is the first that is measured."""
        return self._step == self._first_step

    def _add(self, window: Window | None, removed: Removed, prediction: Tensor) -> None:
        part = None if window is None else effects.Part(window.frames, window.weight)
        self.recorder.add(self._step, removed, prediction, part)
        self._windows.add(self._step, removed)

    def _removals(self, window: Window | None) -> Iterator[tuple[str, Removal | RegionRemoval]]:
        """What is taken away in this step, each with its name for a person."""
        references = self._references()
        names = self._names()
        all_of_them = self._is_first or len(references) <= MOST_EACH_STEP
        owners: list[Owner] = [number for number in references if all_of_them or number not in self._read]
        owners += ["all references"] if len(references) > 1 else []
        owners += ["text"] if self.settings.text else []
        for owner in owners:
            for route in self.settings.routes:
                yield names[owner], Removal(self._step, owner, route)
        for number, reference in references.items() if self.settings.regions else ():
            has_turn = number in self._read or not self._due  # where nothing reads it, no region of it changes anything
            if has_turn and number not in self._with_regions:
                self._with_regions.add(number)
                yield from self._regions(number, reference, names[number], window)

    def _regions(
        self, number: int, reference: Reference, name: str, window: Window | None
    ) -> Iterator[tuple[str, RegionRemoval]]:
        name = f"regions of {name}"
        grid = region_grid(reference.grid, self.settings.regions) if reference.grid is not None else None
        if grid is None:
            self.recorder.why_not(name, NO_PLACES)
        elif window is not None:
            self.recorder.why_not(name, IN_WINDOWS)
        elif not self.recorder.regions_fit(len(self.settings.cuts) * grid.cells):
            self.recorder.why_not(name, NO_BUDGET)
        else:
            route = self.settings.routes[0]
            for cut in self.settings.cuts:
                for region in range(grid.cells):
                    yield name, RegionRemoval(self._step, route, number, cut, grid, region)

    def _add_without(
        self,
        removed: Removal | RegionRemoval,
        evaluation: Evaluation,
        place: int,
        add: Callable[[Removed, Tensor], None],
        everything: Tensor | None,
    ) -> None:
        """Evaluate without it. In a window that does not read it, the prediction is the one with ``everything``."""
        consumer, observed = TakeAway(removed, self.captured.record.recorder.number_of), Observed()
        mechanisms = chosen(self.captured.capture.settings.mechanism)
        of_text = [TextTokens()] if consumer.owner == "text" else []
        engine = Engine([*mechanisms, *of_text], [consumer, observed])
        prediction = evaluation.again(Watched(engine, self._model_calls(engine)))[place]
        if consumer.changed:
            self._read.add(consumer.owner)
            add(removed, prediction)
        elif not observed.calls:
            raise ValueError(NOT_COMPUTED)
        elif everything is not None:
            add(removed, everything)
        elif consumer.owner == "text":
            self.recorder.why_not(owner_names([])["text"], NO_TEXT)
        else:
            self._unread.add(consumer.owner)
            self.recorder.no_effect(removed)

    def _compare(
        self, evaluation: Evaluation, place: int, window: Window | None, add: Callable[[Removed, Tensor], None]
    ) -> None:
        """Evaluate with the other conditioning in the place of the run's own."""
        assert self.other is not None
        name = owner_names([])["conditioning"]
        if self.recorder.is_unmeasured(name):
            return
        with self._evaluating(name), self.other.in_place(self.branch, self.sampling.guider) as conds:
            if window is not None:
                conds = in_window(conds, evaluation, self.sampling.noise.shape)
            compared = replace(evaluation, conds=[conds if n == place else None for n in range(len(evaluation.conds))])
            if not compared.predicts(place):
                self._unread.add("conditioning")
                return
            add(Removal(self._step, "conditioning"), compared.again()[place])
            self._read.add("conditioning")

    # How

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

    def _references(self) -> dict[int, Reference]:
        """By number, without class tokens, which are taken away with their image."""
        recorder = self.captured.record.recorder
        known = {number: recorder.references[number] for number in recorder.counted}
        images = {x.key for x in known.values() if x.grid is not None and x.key}
        return {number: x for number, x in known.items() if x.grid is not None or x.key not in images}

    def _names(self) -> dict[Owner, str]:
        """What owners are called: references as a person counts them."""
        recorder = self.captured.record.recorder
        counted = recorder.counted
        names = owner_names(recorder.references[number].name for number in counted)
        by_number: dict[Owner, str] = {number: names[n] for n, number in enumerate(counted)}
        return names | by_number

    def _model_calls(self, engine: Engine) -> ModelCalls:
        capture, sampling = self.captured, self.sampling
        return ModelCalls(sampling.guider, [self.branch], sampling.noise, self.sigmas, capture.calls.regions, engine)

    def _as_latent(self, prediction: Tensor) -> Tensor:
        """The latent that a VAE takes: outside the inpainting mask of a run, it is the one that is painted on."""
        image, mask = self.painted_on
        if image is not None and mask is not None:
            image, mask = (x.to(prediction) for x in (image, mask))
            prediction = prediction * mask + image * (1 - mask)
        latent: Tensor = self.sampling.guider.model_patcher.model.process_latent_out(prediction)
        return latent.clone()  # a format may give what it is given, which the run goes on with


def _identity(reference: Reference) -> tuple:
    """What tells a reference from others of a run."""
    return reference.name, reference.key, reference.grid is None, reference.grid is not None or reference.tokens
