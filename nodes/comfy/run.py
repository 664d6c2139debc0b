"""One run of a sampler: what is watched in it, and the attribution that it hands over when it ends.

I2AM Capture only adds an OUTER_SAMPLE wrapper to a clone of the model. The rest is installed when a run starts (see
``hooks``), and undone when the run ends in any way. Whatever goes wrong in here costs maps only, and says why: the
picture comes first.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import comfy.sampler_helpers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from comfy_api.torch_helpers.torch_compile import TORCH_COMPILE_KWARGS
from torch import Tensor

from ...i2am_core.attribution import Attribution
from ...i2am_core.recording.recorder import Recorder
from .consumers import Consumer, Record
from .engine import Engine
from .handle import Capture
from .hooks import KEY, installed
from .located import Regions
from .mechanisms import MECHANISMS
from .model_calls import ModelCalls, conditionings_of, grid_of
from .tags import pictures
from .unobservable import why_unobservable

log = logging.getLogger(__name__)

COMPILED = (
    "the model is compiled (torch.compile): its graph is broken at every attention call while it is captured, so that "
    "it is slower, and the picture may differ from one without capture in its last digits"
)
VIDEO_MASK = "the inpainting mask of a video is not read: maps are of the whole video"
BRANCH_NOT_CALLED = (
    "the model was never called with its {} conditioning: ComfyUI leaves the negative out where guidance is off (cfg 1)"
)


def capture_with(
    model: ModelPatcher, capture: Capture, consumers: Sequence[Callable[[], Consumer]] = ()
) -> ModelPatcher:
    """A clone of the model whose every sampling run is captured.

    ``consumers`` make further consumers for each run, which are notified of the same calls as Capture's own.
    """

    def outer_sample(
        executor: Any,
        noise: Any,  # a tensor, or several latents in one object
        latent_image: Any,
        sampler: Any,
        sigmas: Tensor,
        denoise_mask: Tensor | None = None,
        callback: Callable | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        capture.started += 1
        further = [make() for make in consumers]
        acting = any(consumer.acts for consumer in further)
        if not isinstance(noise, Tensor):
            capture.failure = f"I2AM cannot capture a run on several latents at once ({type(noise).__name__})"
            if acting:
                raise ValueError(f"{capture.failure}, nor change it: sample them one by one.")
            return executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, *args, **kwargs)
        run = None
        with ExitStack() as stack:
            try:
                run = Run(capture, executor.class_obj, noise, sigmas, denoise_mask, further)
                stack.enter_context(installed(run.guider, run.engine, run.calls))
                callback = run.watch(callback)
            except Exception as error:
                if acting:
                    raise
                log.warning("a run could not be watched", exc_info=True)
                capture.failure = f"{type(error).__name__}: {error}"
                run = None
            output = executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, *args, **kwargs)
        if run is not None:
            run.keep(output)
        return output

    patched = model.clone()
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, outer_sample)
    return patched


class Run:
    """Everything that belongs to one call of a sampler."""

    def __init__(
        self,
        capture: Capture,
        guider: Any,
        noise: Tensor,
        sigmas: Tensor,
        denoise_mask: Tensor | None,
        consumers: Sequence[Consumer] = (),
    ) -> None:
        self.capture, self.guider, settings = capture, guider, capture.settings
        mask = mask_of(guider, settings.branch, denoise_mask, noise)
        marked = settings.regions
        regions = Regions(mask if marked.generated is None else marked.generated, marked.reference)
        recorder = Recorder(sigmas, noise.shape[0], settings.budget_bytes)
        self.record = Record(recorder, settings.pair_maps, grid_of(noise), mask)
        mechanisms = [m for m in MECHANISMS.values() if settings.mechanism in ("auto", m.name)]
        self.engine = Engine(mechanisms, [*consumers, self.record])
        self.calls = ModelCalls(guider, settings.branch, noise, recorder.sigmas, regions, self.engine)
        if denoise_mask is not None and noise.ndim == 5:
            self.engine.note(VIDEO_MASK)
        if TORCH_COMPILE_KWARGS in guider.model_options:
            self.engine.note(COMPILED)
        self._last_denoised: Tensor | None = None

    def watch(self, callback: Callable | None) -> Callable | None:
        """The sampler's callback, around which the denoised latent is remembered: some nodes output that one."""
        if callback is None:
            return None

        def watching(step: int, denoised: Tensor, *args: Any, **kwargs: Any) -> Any:
            self._last_denoised = denoised
            return callback(step, denoised, *args, **kwargs)

        return watching

    def keep(self, output: Tensor) -> None:
        """Hand the finished attribution to the capture, under the latents that this run gave."""
        try:
            latents = [output]
            if self._last_denoised is not None:
                base = self.guider.model_patcher.model
                latents.append(base.process_latent_out(self._last_denoised.to("cpu", torch.float32)))
            self.capture.keep(self.finished(), latents)
        except Exception as error:
            log.warning("the maps of this run could not be finished", exc_info=True)
            self.capture.failure = f"{type(error).__name__}: {error}"

    def finished(self) -> Attribution:
        """The attribution of the run."""
        denoiser = self.guider.model_patcher.model.diffusion_model
        self.engine.finish(lambda: why_unobservable(denoiser))
        branch = self.capture.settings.branch
        if self.record.is_empty:
            called = self.calls.branch_was_called
            self.engine.note(why_unobservable(denoiser) if called else BRANCH_NOT_CALLED.format(branch))
        return self.record.finished(self.capture.settings, pictures(conditionings_of(self.guider, branch)))


def mask_of(guider: Any, branch: str, denoise_mask: Tensor | None, noise: Tensor) -> Tensor | None:
    """The inpainting mask, ``[items, h, w]`` on the latent's grid: the sampler's, or an inpainting model's."""
    if denoise_mask is None:
        masks = (c.get("concat_mask") for c in conditionings_of(guider, branch))
        denoise_mask = next((mask for mask in masks if mask is not None), None)
    if denoise_mask is None or noise.ndim != 4:
        return None
    if denoise_mask.ndim == 4:  # newer ComfyUI cores hand out a mask that is prepared already, one for each channel
        denoise_mask = denoise_mask.mean(1, keepdim=True)
    return comfy.sampler_helpers.prepare_mask(denoise_mask, noise.shape, "cpu").float().mean(1)
