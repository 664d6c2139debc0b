"""One run of a sampler: what our nodes on the MODEL line want of it is begun when it starts, and undone when it ends.

Each node adds an OUTER_SAMPLE wrapper to a clone of the model, which holds its ``Watch``. When a run starts, the first
wrapper begins all of them, in their ``order``, however the nodes stand on the line: those that look are installed
first, and those that act are around them. Whatever goes wrong in one that looks costs its maps only, and says why: the
picture comes first.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...i2am_core.recording.transfer import to_host
from .engine import Engine
from .hooks import KEY, installed
from .kept_run import SEVERAL
from .model_calls import ModelCalls
from .several_latents import SHAPES, WITH_SOUND, first_of
from .unobservable import why_unobservable

log = logging.getLogger(__name__)


@dataclass
class Sampling:
    """What a sampler is called with: ``noise [items, C, (frames,) h, w]``, and a ``guider``, a ``CFGGuider`` or kin.

    ``latent_image`` is what is sampled from, of the noise's shape. Of several latents in one, of these ``shapes``, all
    are of the first.
    """

    guider: Any
    noise: Tensor
    sigmas: Tensor
    denoise_mask: Tensor | None
    watches: "Sequence[Watch]" = ()
    latent_image: Tensor | None = None
    shapes: Sequence[torch.Size] = ()
    last_denoised: Tensor | None = field(default=None, init=False)  # what the sampler's callback was given last
    parts: "list[Part]" = field(default_factory=list, init=False)  # of the watches that have begun

    @property
    def denoiser(self) -> torch.nn.Module:
        """The network that is sampled, with what other packs have put around it."""
        denoiser: torch.nn.Module = self.guider.model_patcher.model.diffusion_model
        return denoiser

    def of_first(self, shapes: Sequence[torch.Size]) -> "Sampling":
        """The same of the first latent, where its tensors hold several of these shapes."""
        mask, image = (None if x is None else first_of(x, shapes) for x in (self.denoise_mask, self.latent_image))
        noise = first_of(self.noise, shapes)
        return replace(self, noise=noise, denoise_mask=mask, latent_image=image, shapes=shapes)

    def remembering(self, callback: Callable | None) -> Callable | None:
        """The sampler's callback, around which the denoised latent is remembered: some nodes output that one."""
        if callback is None:
            return None

        def remember(step: int, denoised: Tensor, *args: Any, **kwargs: Any) -> Any:
            self.last_denoised = denoised
            for part in self.parts:
                part.step_ended(self)
            return callback(step, denoised, *args, **kwargs)

        return remember

    def latents(self, output: Tensor) -> list[Tensor]:
        """Those that this run gave, on the CPU, as nodes output them: the sampler's, and the last denoised one.

        Of several in one, the first by itself, and all of them.
        """
        if self.last_denoised is None:
            latents = to_host([output])
        else:
            output, denoised = to_host([output, self.last_denoised])
            latents = [output, self.guider.model_patcher.model.process_latent_out(denoised)]
        return latents if len(self.shapes) < 2 else [*(first_of(x, self.shapes) for x in latents), *latents]


class Part:
    """One node's part in one run: the branches that it watches, each by an engine and the model calls that it knows."""

    def __init__(self, *watched: tuple[Engine, ModelCalls]) -> None:
        self.watched = watched

    def install(self, sampling: Sampling, stack: ExitStack) -> None:
        """Put into the run's options what this needs, until ``stack`` is closed."""
        for engine, calls in self.watched:
            stack.enter_context(installed(sampling.guider, engine, calls))

    def step_ended(self, sampling: Sampling) -> None:
        """When the sampler has made a step and says so. Raises nothing."""

    def finish(self, sampling: Sampling, output: Tensor) -> None:
        """When the run has given its ``output``, and nothing of ours is installed any more."""
        for engine, _ in self.watched:
            engine.finish(lambda: why_unobservable(sampling.denoiser, sampling.guider.model_options))


class Misplaced(ValueError):
    """A graph that cannot be meant, in a sentence: the run does not begin."""


class Watch:
    """What a node wants of every run of its model. A copy of it is itself: ``ModelPatcher.clone()`` copies deeply."""

    acts = False  # whether it changes the picture: where it cannot, the run ends with an error
    order = 0  # those that need the parts of others begin after them, and finish before them

    def begin(self, sampling: Sampling) -> Part:
        """Its part in a run that starts. Raises Misplaced for a graph that cannot be meant."""
        raise NotImplementedError

    def fail(self, reason: str) -> None:
        """A run that it looks at cannot be watched, or not be finished."""

    def __deepcopy__(self, memo: dict) -> "Watch":
        return self


def watched(model: ModelPatcher, watch: Watch) -> ModelPatcher:
    """A clone of the model whose every run is watched."""
    patched = model.clone()
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, OuterSample(watch))
    return patched


class OuterSample:
    """The wrapper of one node. The first of a run speaks for all."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def __deepcopy__(self, memo: dict) -> "OuterSample":
        return self

    def __call__(
        self,
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
        watches = [wrapper.watch for wrapper in executor.wrappers if isinstance(wrapper, OuterSample)]
        if self.watch is not watches[0]:
            return executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, *args, **kwargs)
        shapes: Sequence[torch.Size] = kwargs.get(SHAPES) or ()
        several = not isinstance(noise, Tensor) or (len(shapes) > 1 and not _is_known_with_sound(executor.class_obj))
        sampling = Sampling(executor.class_obj, noise, sigmas, denoise_mask, watches, latent_image)
        with _Failing(self.watch, "the first of several latents could not be read"):
            sampling = sampling if several else sampling.of_first(shapes)
        try:
            with ExitStack() as stack:
                parts = _refused(watches) if several else _begun(watches, sampling, stack)
                if parts:
                    callback = sampling.remembering(callback)
                output = executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, *args, **kwargs)
        except Misplaced as error:  # ComfyUI puts the name of an error's type above its sentence
            raise ValueError(str(error)) from error
        for watch, part in reversed(parts):
            with _Failing(watch, "the maps of this run could not be finished"):
                part.finish(sampling, output)
        return output


def _is_known_with_sound(guider: Any) -> bool:
    """Whether it is known what the model does with the other latents of the run."""
    denoiser = guider.model_patcher.model.diffusion_model
    denoiser = getattr(denoiser, "_orig_mod", denoiser)
    return not WITH_SOUND.isdisjoint(kind.__name__ for kind in type(denoiser).__mro__)


def _begun(watches: Sequence[Watch], sampling: Sampling, stack: ExitStack) -> list[tuple[Watch, Part]]:
    """The parts of those watches that could be begun, installed until ``stack`` is closed."""
    begun = []
    for watch in sorted(watches, key=lambda watch: (watch.acts, watch.order)):
        with _Failing(watch, "a run could not be watched"):
            part = watch.begin(sampling)
            part.install(sampling, stack)
            sampling.parts.append(part)
            begun.append((watch, part))
    return begun


def _refused(watches: Sequence[Watch]) -> list[tuple[Watch, Part]]:
    """No part of a run on several latents can be begun. Raises ValueError where one was to change the picture."""
    if any(watch.acts for watch in watches):
        raise ValueError(f"{SEVERAL}, nor change it: sample them one by one.")
    for watch in watches:
        watch.fail(f"{SEVERAL}: sample them one by one")
    return []


class _Failing:
    """An error of a watch that looks becomes its failure; one that acts raises it."""

    def __init__(self, watch: Watch, what: str) -> None:
        self._watch, self._what = watch, what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> bool:
        if not isinstance(error, Exception) or isinstance(error, Misplaced) or self._watch.acts:
            return False
        log.warning("%s", self._what, exc_info=error)
        self._watch.fail(f"{self._what} ({type(error).__name__}: {error}); the log says more")
        return True
