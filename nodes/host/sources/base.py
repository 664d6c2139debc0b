"""What every reference mechanism answers: does this attention call read a reference, and where?"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from comfy.model_base import BaseModel
from torch import Tensor

from ....i2am_core.attribution import Layer
from ....i2am_core.tokens import Index, TokenGrid, TokenGroup
from ..placement import Part
from ..windows import Window


@dataclass(frozen=True)
class Chunk:
    """The rows of a batch that belong to one conditioning, and that conditioning's dictionary."""

    rows: slice
    conditioning: Mapping[str, Any]
    part: Part | None = None  # of the latent that it acts on, where that is not all of it, alone


@dataclass(frozen=True)
class Regions:
    """What a person marked on the canvas: masks ``[items, h, w]`` in [0, 1], of any size, or None."""

    generated: Tensor | None = None
    reference: Tensor | None = None


@dataclass(frozen=True)
class ModelCall:
    """One call of the denoiser, as ``BaseModel.apply_model`` gets it (comfy/model_base.py)."""

    step: int
    chunks: tuple[Chunk, ...]  # those of the branch that is watched
    model: BaseModel
    x: torch.Size  # [rows, channels, (frames,) h, w] of the latent that is denoised
    text: int  # tokens of c_crossattn, 0 where there is none
    conditions: Mapping[str, Any]  # the other conditionings of this call: ref_latents, clip_fea, ...
    options: Mapping[str, Any]  # transformer_options
    regions: Regions
    evaluation: int = 0  # of the denoiser; several calls may be parts of one
    window: Window | None = None  # of a video that is denoised some frames at a time; ``x`` is those
    memo: dict[Any, Any] = field(default_factory=dict)  # what has been worked out for this call, see ``once``

    def once(self, name: Hashable, work: Callable[[], Any]) -> Any:
        """What does not change from one attention call of this call to the next: the result of ``work``, kept."""
        if name not in self.memo:
            self.memo[name] = work()
        return self.memo[name]

    @property
    def denoiser(self) -> torch.nn.Module:
        """Without what torch.compile puts around it."""
        return getattr(self.model.diffusion_model, "_orig_mod", self.model.diffusion_model)

    @property
    def family(self) -> frozenset[str]:
        """Class names of the denoiser and its bases: what it is, whether or not this core has such a class."""
        return frozenset(kind.__name__ for kind in type(self.denoiser).__mro__)


@dataclass(frozen=True)
class CallSite:
    """One attention call of the denoiser, as ComfyUI's override sees it."""

    layer: str  # "" where the model does not say
    role: str  # as ComfyUI's own hooks announced it: "attn1", "attn2", "changed attn2" (by another pack); else ""
    number: int  # of this call within the call of the denoiser, from 0
    queries: int
    keys: int
    heads: int
    grid: TokenGrid | None  # of the feature map that asks, where the model tells it
    k: Tensor  # [rows, heads, keys, D], for what lengths alone cannot prove


@dataclass(frozen=True)
class Probe:
    """A call that reads references: its layer, the rows that are the picture, the columns that count.

    A layer without a name is numbered by the captured calls of its source. ``gain`` broadcasts to
    ``[items, N]`` (see ``attention.attribute``).
    """

    layer: Layer
    queries: Index
    keys: slice
    references: tuple[TokenGroup, ...]
    gain: Tensor | None = None
    note: str = ""  # what a person should know about this reading, for the summary


@dataclass(frozen=True)
class Skip:
    """A call that is not captured, and why, in words for a person."""

    reason: str


class Source(Protocol):
    """One way of conditioning on a reference. ``name`` is its entry in I2AM Capture's ``mechanism``."""

    name: str

    def probe(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Probe | Skip | None:
        """Prove where the references are in this attention call, or say why it is skipped.

        None where this mechanism is not in use in this call of the denoiser.
        """
        ...


Observe = Callable[[tuple, Mapping[str, Any], Mapping[str, Any], Source], None]
"""Takes in an attention call that the override is not told of: its arguments, transformer_options, and what answers.

A source with a method ``install(options, observe)`` is called once when a run starts, to put what it needs into the
``transformer_options`` of this run alone: dictionaries may be changed, objects in them belong to the user.
"""
