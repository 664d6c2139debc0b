"""What I2AM Effect wants of a run: to be there whenever the model is evaluated, and to give the effects to Capture."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import comfy.patcher_extension
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from .captured import Captured, CaptureWatch
from .evaluation import around_evaluations
from .measuring import Measuring
from .other_conditioning import OtherConditioning
from .removals import Settings
from .run import Misplaced, Part, Sampling, Watch, watched
from .several_latents import first_of
from .unmeasured import NO_PICTURE

log = logging.getLogger(__name__)

KEY = "i2am effect"
PICTURE_OR_VIDEO = (4, 5)  # dimensions of their latents

NO_CAPTURE = (
    "I2AM Effect measures for an I2AM Capture on the same MODEL line, and there is none: put I2AM Capture before or "
    "behind it, between the model and the sampler."
)
SEVERAL = "there are {} I2AM Effect on one MODEL line: keep one."


def effect_with(model: ModelPatcher, settings: Settings) -> ModelPatcher:
    """A clone of the model whose every sampling run is measured."""
    return watched(model, EffectWatch(settings))


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

    def _measuring(self, captured: Captured, sampling: Sampling, other: OtherConditioning | None) -> Measuring | None:
        try:
            return Measuring(self.settings, captured, sampling, other)
        except Exception as error:
            log.warning("the effects of a run cannot be measured", exc_info=True)
            captured.engine.note(f"effects are not measured: {type(error).__name__}: {error}")
            return None


class Measured(Part):
    """One run, measured for each Capture on the line."""

    def __init__(self, measuring: Sequence[Measuring], other: OtherConditioning | None) -> None:
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
            shapes = one.sampling.shapes
            one.painted_on = (
                None if latent_image is None else first_of(latent_image, shapes),
                None if denoise_mask is None else first_of(denoise_mask, shapes),
            )
        if self.other is not None:
            self.other.prepare(guider, noise, latent_image, denoise_mask, extra_args.get("seed"))
        return executor(guider, sigmas, extra_args, callback, noise, latent_image, denoise_mask, *arguments, **further)
