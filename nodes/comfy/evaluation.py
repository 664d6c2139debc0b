"""Evaluating the model once more, for the latent and the step that a run is at, so that nothing of the run notices.

A run asks ``calc_cond_batch`` (comfy/samplers.py) for the predicted clean latents of each of its conditionings, in
which areas, masks and strengths are put together already. A wrapper of ours around it may go on to it once more, with
other conditionings, or with attention changed. Then caches are left out, what other packs remember is put back, random
numbers are drawn from forks of the generators, and those that look see nothing.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import comfy.patcher_extension
import numpy as np
import torch
from comfy.model_base import BaseModel
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from .caches import without_caches
from .engine import Engine
from .hooks import hooked, without_looking
from .model_calls import ModelCalls, is_active
from .pack_functions import functions_of
from .remembered import put_back

KINDS = (WrappersMP.CALC_COND_BATCH, WrappersMP.APPLY_MODEL, WrappersMP.DIFFUSION_MODEL)  # wrappers of an evaluation

Conditionings = list[Mapping[str, Any]]


@dataclass(frozen=True)
class Evaluation:
    """What ``calc_cond_batch`` was called with in a run, or is to be called with once more.

    ``x [items, C, (frames,) h, w]`` is the noisy latent, ``conds`` are lists of conditionings, or None.
    """

    executor: Callable[..., list[Tensor]]
    model: BaseModel
    conds: Sequence[Conditionings | None]
    x: Tensor
    timestep: Tensor
    model_options: Mapping[str, Any]
    drawn: "Generators | None" = None  # where they stood before the run's own evaluation: what it drew is drawn again

    def predicts(self, place: int) -> bool:
        """Whether any conditioning of a list is for this step: else ComfyUI gives zeros, without asking the model."""
        return any(is_active(c, self.timestep) for c in self.conds[place] or ())

    def again(
        self, watched: "Watched | None" = None, conds: Sequence[Conditionings | None] | None = None
    ) -> list[Tensor]:
        """The predicted clean latents of each list of ``conds``, by default the same; zeros where it is None.

        ``watched`` changes the attention calls of it. Raises what its consumers raise, and ComfyUI's interrupt.
        """
        throw_exception_if_processing_interrupted()
        options = without_caches(self.model_options)
        options["transformer_options"] = without_looking(options["transformer_options"])
        conds = self.conds if conds is None else conds
        with ExitStack() as stack:
            stack.enter_context(forked(self.x.device, self.drawn))
            stack.enter_context(put_back(functions_of(options, KINDS), self._denoisers))
            if watched is not None:
                stack.enter_context(watched.installed(self.model, options))
                arguments = self.model, list(conds), self.x, self.timestep, options
                stack.enter_context(watched.calls.evaluating(*arguments))
            return self.executor(self.model, list(conds), self.x, self.timestep, options)

    @property
    def _denoisers(self) -> list[torch.nn.Module]:
        """That of the model, and those of its copies on other devices."""
        copies = self.model_options.get("multigpu_clones", {}).values()
        return [self.model.diffusion_model, *(copy.model.diffusion_model for copy in copies)]


@dataclass(frozen=True)
class Watched:
    """An engine that is told of the attention calls of one evaluation, and of nothing else in the run."""

    engine: Engine
    calls: ModelCalls

    @contextmanager
    def installed(self, model: BaseModel, options: dict[str, Any]) -> Iterator[None]:
        """In these ``model_options``, which are those of the evaluation alone."""
        try:
            original = options["transformer_options"]
            options["transformer_options"] = hooked(original, model.diffusion_model, self.engine, self.calls)
            yield
        finally:
            self.engine.unhook()


def around_evaluations(options: dict[str, Any], key: str, wrapper: Callable) -> None:
    """Put a function around ``calc_cond_batch``, in the ``transformer_options`` of a run.

    It is called with the executor and what an ``Evaluation`` holds, in that order.
    """
    comfy.patcher_extension.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, key, wrapper, options)


class Generators:
    """Where the generators of random numbers stand: PyTorch's, on the CPU and a device, numpy's and Python's."""

    def __init__(self, device: torch.device) -> None:
        self._python, self._numpy, self._cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
        self._of_device = getattr(torch, device.type, None) if device.type in ("cuda", "xpu", "mps") else None
        self._where = () if device.type == "mps" else (device,)
        self._on_device: Tensor | None = None
        if self._of_device is not None:
            self._on_device = self._of_device.get_rng_state(*self._where)

    def put_back(self) -> None:
        """Let them draw the same numbers once more."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch.set_rng_state(self._cpu)
        if self._of_device is not None:
            self._of_device.set_rng_state(self._on_device, *self._where)

    def have_drawn(self) -> bool:
        """Whether PyTorch's have drawn anything since."""
        if not torch.equal(torch.get_rng_state(), self._cpu):
            return True
        here = None if self._of_device is None else self._of_device.get_rng_state(*self._where)
        return here is not None and self._on_device is not None and not torch.equal(here, self._on_device)


@contextmanager
def forked(device: torch.device, drawn: Generators | None = None) -> Iterator[None]:
    """While what is drawn of random numbers leaves the generators as they were.

    ``drawn`` are where they stood before: the same numbers are drawn once more.
    """
    before = Generators(device)
    try:
        if drawn is not None:
            drawn.put_back()
        yield
    finally:
        before.put_back()
