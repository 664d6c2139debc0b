"""A run that has ended, for saying what it was given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import comfy.sampler_helpers
import torch
from comfy.model_base import BaseModel
from torch import Tensor

from ...i2am_core.given import GivenReference
from ...i2am_core.selection import numbers_text
from .model_calls import is_active

Conditioning = Mapping[str, Any]

MEASURE = "Measure it with I2AM Effect, with `without` connected to the same conditioning made without it"
COMPARE = "sample once more with the same seed and without it, and compare the two"
NOT_CHOSEN = "{} looks for '{}' alone, and this is read by '{}'"
CHOOSE = "Set mechanism of {} to auto"
NOT_CAPTURED = "no attention call that reads it was captured: the skipped calls say why"


@dataclass(frozen=True)
class EndedRun:
    """A run that has ended, or one that cannot go on, of a ``branch`` with these ``conditionings``.

    ``noise [items, C, (frames,) h, w]``, ``latent`` and ``mask`` are what the sampler was called with, ``options`` the
    model's; ``timesteps`` are those of all evaluations, as ComfyUI hands them to conditionings. ``captured`` are the
    mechanisms that read attention, ``mechanism`` the one that was chosen, on the node of this name; ``has_regions``
    whether the canvas was marked, ``measured`` whether Effect has compared the run with another conditioning.
    """

    model: BaseModel
    branch: str
    conditionings: Sequence[Conditioning]
    noise: Tensor
    latent: Tensor | None
    mask: Tensor | None
    timesteps: Sequence[Tensor] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    captured: frozenset[str] = frozenset()
    mechanism: str = "auto"
    node: str = "I2AM Capture"
    has_regions: bool = False
    measured: bool = False
    _sampled: dict[torch.device, tuple[Tensor, Tensor | None, Tensor | None]] = field(
        default_factory=dict, init=False, repr=False
    )

    def sampled(self, device: torch.device) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Noise, latent and mask, each time copies, as ``CFGGuider.inner_sample`` (comfy/samplers.py) makes them."""
        if device not in self._sampled:  # each is brought to the device once
            latent, mask = self.latent, self.mask
            if latent is not None:
                holds_picture = bool(torch.count_nonzero(latent) > 0)
                latent = latent.to(device)
                latent = self.model.process_latent_in(latent) if holds_picture else latent
            if mask is not None:
                mask = comfy.sampler_helpers.prepare_mask(mask, self.noise.shape, device)
            self._sampled[device] = self.noise.to(device), latent, mask
        noise, latent, mask = self._sampled[device]
        return noise.clone(), None if latent is None else latent.clone(), None if mask is None else mask.clone()

    @property
    def measure(self) -> str:
        """What to do where only Effect can tell; "" where it has."""
        return "" if self.measured else MEASURE

    def not_captured(self, what: str, readers: Sequence[str], key: str) -> GivenReference:
        """What was given to these mechanisms, none of which captured it."""
        if self.mechanism not in ("auto", *readers):
            reason = NOT_CHOSEN.format(self.node, self.mechanism, readers[0])
            return GivenReference(what, "unknown", reason, CHOOSE.format(self.node), key)
        return GivenReference(what, "unknown", NOT_CAPTURED, self.measure, key)

    @property
    def family(self) -> set[str]:
        """Names of the classes of the denoiser."""
        return {kind.__name__ for kind in type(self.model.diffusion_model).__mro__}

    @cached_property
    def _moments(self) -> Sequence[Tensor]:
        """The first timestep of each evaluation, ``[1]``, on the CPU: brought there together."""
        return torch.cat([t[:1] for t in self.timesteps]).cpu().split(1)

    def was_active(self, c: Conditioning) -> bool:
        """Whether a conditioning was for any of the evaluations."""
        return not self.timesteps or any(is_active(c, t) for t in self._moments)

    def was_within(self, first: float, last: float) -> bool:
        """Whether there was any evaluation from one part of the schedule to another: 0 is its beginning, 1 its end.

        As ``ControlBase.get_control`` (comfy/controlnet.py) decides it.
        """
        highest, lowest = map(self.model.model_sampling.percent_to_sigma, (first, last))
        return not self.timesteps or any(lowest <= float(t[0]) <= highest for t in self._moments)


def is_blank(value: Any) -> bool:
    """Whether latents hold no picture: one value a channel, as where a node fills in for what is not connected."""
    latents = value if isinstance(value, list | tuple) else [value]
    if not latents or not all(isinstance(x, Tensor) and x.ndim > 3 for x in latents):
        return False
    flat = [x.flatten(2) for x in latents]
    return all(torch.equal(x.amax(2), x.amin(2)) for x in flat)


def frames_text(numbers: Sequence[int], count: int) -> str:
    """Some of so many frames, as selections number them: "frames 0-1 of 5"."""
    return f"frame{'s' * (len(numbers) > 1)} {numbers_text(numbers)} of {count}"
