"""What I2AM Capture wants of a run: an attribution of one branch, kept under the latents that the run gave."""

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import comfy.sampler_helpers
from comfy.model_patcher import ModelPatcher
from comfy.samplers import CFGGuider
from comfy_api.torch_helpers.torch_compile import TORCH_COMPILE_KWARGS
from torch import Tensor

from ...i2am_core.attention import fused, half_products
from ...i2am_core.attention.on_device import runs_alone
from ...i2am_core.attribution import Attribution
from ...i2am_core.effect import Effects
from ...i2am_core.given import GivenReference
from ...i2am_core.recording.recorder import Recorder
from .caches import names_of
from .callers import patches_of_packs
from .consumers import Record
from .engine import Engine
from .fates import given_in
from .handle import Capture
from .kept_run import ended_with
from .live import Live, audience_of
from .located import Regions
from .mechanisms import chosen
from .mechanisms.flux_adapters import FluxAdapters, packs_of
from .mechanisms.ip_adapter import NAMES as ADAPTERS
from .mechanisms.ip_adapter import IPAdapter
from .mechanisms.reference_only import ReferenceOnly
from .mechanisms.text_tokens import TextTokens
from .model_calls import ModelCalls, conditionings_of, grid_of
from .packs_beside import packs_beside
from .run import Part, Sampling, Watch, watched
from .tags import fingerprint, pictures
from .unobservable import packs_in_the_way, why_unobservable

log = logging.getLogger(__name__)

COMPILED = (
    "the model is compiled (torch.compile): its graph is broken at every attention call while it is captured, so that "
    "it is slower, and the picture may differ from one without capture in its last digits"
)
NO_TRITON = (
    "capture costs a GPU more than it has to, since Triton is missing or does not work here (for Windows it is the "
    "package triton-windows): without it a call of Kontext's size starts some 1,800 kernels, with it 9. The maps are "
    "the same"
)
VIDEO_MASK = "the inpainting mask of a video is not read: maps are of the whole video"
NO_STEP = (
    "the sampler took no step: it may be that steps or denoise is 0, that it starts at a step that is not before its "
    "last, or that the sigmas were split so that none are left"
)
NOT_CALLED = "the model was never called with its {} conditioning: it may be that {}"
WHY_NOT_CALLED = {
    "positive": "start and end of that conditioning leave out all steps, that the sampler has none, or that a node "
    "answers in place of the model",
    "negative": "guidance is off (cfg 1, where ComfyUI leaves the negative out), that the sampler has no negative, or "
    "that start and end of that conditioning leave out all steps",
    "middle": "the sampler has none (DualCFGGuider has: its cond2), that both its scales are 1, or that start and end "
    "of that conditioning leave out all steps",
}

COMBINING = ("sampler_cfg_function", "sampler_pre_cfg_function", "sampler_post_cfg_function")  # in model_options


def capture_with(model: ModelPatcher, capture: Capture) -> ModelPatcher:
    """A clone of the model whose every sampling run is captured."""
    return watched(model, CaptureWatch(capture))


class CaptureWatch(Watch):
    """A capture on the MODEL line."""

    def __init__(self, capture: Capture) -> None:
        self.capture = capture

    def begin(self, sampling: Sampling) -> "Captured":
        self.capture.started += 1
        return Captured(self.capture, sampling)

    def fail(self, reason: str) -> None:
        self.capture.fail(reason)


class Captured(Part):
    """One captured run."""

    def __init__(self, capture: Capture, sampling: Sampling) -> None:
        self.capture, settings, noise = capture, capture.settings, sampling.noise
        mask = mask_of(sampling.guider, settings.branch, sampling.denoise_mask, noise)
        marked = settings.regions
        regions = Regions(mask if marked.generated is None else marked.generated, marked.reference)
        caches = names_of(sampling.guider.model_options)
        recorder = Recorder(sampling.sigmas, noise.shape[0], settings.budget_bytes, caches)
        self.record = Record(recorder, settings.pair_maps, grid_of(noise), mask)
        self.engine = Engine(chosen(settings.mechanism), [self.record], beside=TextTokens())
        self.calls = ModelCalls(
            sampling.guider, [settings.branch], noise, recorder.sigmas, regions, self.engine, settings.every
        )
        self.measured: Callable[[Attribution], Effects] | None = None  # gives the effects, where an Effect measures
        self.live = Live(recorder, audience_of(capture.node)) if settings.live else None
        super().__init__((self.engine, self.calls))
        if sampling.denoise_mask is not None and noise.ndim == 5:
            self.engine.note(VIDEO_MASK)
        if TORCH_COMPILE_KWARGS in sampling.guider.model_options:
            self.engine.note(COMPILED)

    def step_ended(self, sampling: Sampling) -> None:
        """Send the map so far, where that is wanted."""
        if self.live is not None and sampling.last_denoised is not None:
            self.live.step_ended(waits=runs_alone(sampling.last_denoised))

    def finish(self, sampling: Sampling, output: Tensor) -> None:
        """Hand the attribution to the capture."""
        super().finish(sampling, output)
        attribution = self.finished(sampling)
        if self.measured is not None:
            attribution = replace(attribution, effects=self.measured(attribution))
        given, guidance = self._given(sampling, attribution), guidance_of(sampling.guider)
        attribution = replace(attribution, given=given, guidance=guidance)
        latents, began = sampling.latents(output), sampling.latent_image
        began = None if began is None else began.to("cpu")
        attribution = replace(
            attribution,
            began=() if began is None else tuple(fingerprint(picture[None]) for picture in began),
            ended=ended_with(latents),
        )
        self.capture.keep(attribution, latents)

    def finished(self, sampling: Sampling) -> Attribution:
        """The attribution of the run."""
        branch = self.capture.settings.branch
        if self.record.is_empty:
            self.engine.note(self._why_empty(sampling, branch))
        else:
            with self.engine.skipping("I2AM could not read which packs take part", calls=0):
                self.engine.note(*self._packs(sampling))
        attribution = self.record.finished(self.capture.settings, pictures(conditionings_of(sampling.guider, branch)))
        of_half = half_products.NAME in attribution.arithmetic  # as calls are that Triton has kernels for
        if of_half and fused.lacks_triton(sampling.guider.model_patcher.load_device):
            return replace(attribution, notes=(*attribution.notes, NO_TRITON))
        return attribution

    def _packs(self, sampling: Sampling) -> list[str]:
        """Notes on packs that may be why nothing was captured, or that may bring a reference beside what was."""
        options, recorder = sampling.guider.model_options, self.record.recorder
        if not recorder.calls:
            return packs_in_the_way(sampling.denoiser, options)
        adapters_are_read = any(isinstance(mechanism, IPAdapter) for mechanism in self.engine.mechanisms)
        known = {*ADAPTERS} if adapters_are_read else set()
        if ReferenceOnly.name in recorder.mechanisms:
            patches = options.get("transformer_options", {})
            known |= {function.name for function in patches_of_packs(patches, "attn1_patch")}
        model = sampling.guider.model_patcher.model
        of_flux = FluxAdapters.name in recorder.mechanisms
        captured = packs_of(model.diffusion_model, options["transformer_options"]) if of_flux else ()
        return packs_beside(model, options, known, captured)

    def _given(self, sampling: Sampling, attribution: Attribution) -> tuple[GivenReference, ...]:
        """What the run was given, and what became of it."""
        if not self.calls.branch_was_called:  # which is said already
            return ()
        settings, effects = self.capture.settings, attribution.effects
        return given_in(
            sampling,
            settings.branch,
            timesteps=self.calls.timesteps,
            captured=frozenset(attribution.mechanisms if attribution.entries else ()),
            mechanism=settings.mechanism,
            has_regions=settings.regions.reference is not None,
            measured=effects is not None and "conditioning" in effects.owners,
        )

    def _why_empty(self, sampling: Sampling, branch: str) -> str:
        """Why no attention call of any kind was observed."""
        if len(sampling.sigmas) < 2:
            return NO_STEP
        if not self.calls.branch_was_called:
            return NOT_CALLED.format(branch, WHY_NOT_CALLED[branch])
        return why_unobservable(sampling.denoiser, sampling.guider.model_options)


def guidance_of(guider: Any) -> float | None:
    """How many times guidance multiplies what the positive conditioning adds; 1 is none, None is not known.

    It is known where ComfyUI's own guider combines the branches, and no function that a node has put in its place.
    """
    functions = [guider.model_options.get(name) for name in COMBINING]
    if any(functions) or getattr(type(guider), "predict_noise", None) is not CFGGuider.predict_noise:
        return None
    return float(guider.cfg) if isinstance(guider.cfg, int | float) and math.isfinite(guider.cfg) else None


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
