"""The vocabulary of locating: which call of which model, and which references an attention call reads, and where."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from comfy.model_base import BaseModel
from torch import Tensor

from ...i2am_core.attribution import Layer
from ...i2am_core.recording.recorder import Verdict
from ...i2am_core.tokens import Index, TokenGrid, TokenGroup
from .blocks import ForeignModule
from .placement import Placement

UNREADABLE = "I2AM could not read this call"  # a reason of skips, whose error is named behind it


@dataclass(frozen=True)
class Chunk:
    """The rows of a batch that belong to one conditioning, and that conditioning's dictionary."""

    rows: slice
    conditioning: Mapping[str, Any]
    placement: Placement = field(default_factory=Placement)  # what of the picture these rows are
    branch: str = "positive"  # that the conditioning is of

    @property
    def items(self) -> int:
        return self.rows.stop - self.rows.start


@dataclass(frozen=True)
class Regions:
    """What a person marked on the picture: masks ``[items, h, w]`` in [0, 1], of any size, or None."""

    generated: Tensor | None = None
    reference: Tensor | None = None


class HasModel:
    """What holds a model of ComfyUI's."""

    model: BaseModel

    @cached_property
    def denoiser(self) -> ForeignModule:
        """The network, without what torch.compile puts around it."""
        return getattr(self.model.diffusion_model, "_orig_mod", self.model.diffusion_model)

    @cached_property
    def family(self) -> frozenset[str]:
        """Class names of the denoiser and its bases: so it is known also where this ComfyUI core has no such class."""
        return frozenset(kind.__name__ for kind in type(self.denoiser).__mro__)


class Remembers:
    """What works something out once, for as long as it lives."""

    memo: dict[Any, Any]

    def once(self, name: Hashable, work: Callable[[], Any]) -> Any:
        """The result of ``work``, which is the same whenever it is needed of this: it is worked out once."""
        if name not in self.memo:
            self.memo[name] = work()
        return self.memo[name]


@dataclass(frozen=True)
class ModelCall(HasModel, Remembers):
    """One call of the denoiser, as ``BaseModel.apply_model`` gets it (comfy/model_base.py)."""

    step: int
    chunks: tuple[Chunk, ...]  # those of the watched branch
    model: BaseModel
    x: torch.Size  # [rows, channels, (frames,) h, w] of the latent that is denoised
    text: int  # tokens of c_crossattn, 0 where there is none
    conditions: Mapping[str, Any]  # the other conditionings of this call: ref_latents, clip_fea, ...
    options: Mapping[str, Any]  # transformer_options
    regions: Regions
    evaluation: int = 0  # of the denoiser; several calls may be parts of one
    perturbed: frozenset[tuple] = frozenset()  # blocks whose attention this evaluation replaces, beyond the graph's
    memo: dict[Any, Any] = field(default_factory=dict)  # what is the same for all attention calls of this call


@dataclass(frozen=True)
class CallSite(Remembers):
    """One attention call of the denoiser: the block that makes it, and what is known before the kernel runs."""

    layer: str  # the block whose forward makes it, see ``blocks``; "" where no block of the model is known to
    role: str  # which of the block's attentions, where it has several: "attn1", "attn2", "self", "image", "text"
    queries: int  # how many; which of them are the picture: Located.queries
    keys: int
    heads: int
    grid: TokenGrid | None  # of the feature map whose cells are the queries, where the model says it
    k: Tensor  # [rows, heads, keys, D], for what lengths alone cannot prove
    changed: bool = False  # whether a pack has changed what a U-Net's attn2 attends to, or its attn1 from and to
    values: tuple[Tensor, Tensor] | None = None  # what its values are made from, where a pack has changed these alone
    masked_rows: int = 0  # for how many rows its mask has values of their own; 0 is no mask
    memo: dict[Any, Any] = field(default_factory=dict)  # what several mechanisms need of it, see ``sequence_of``


@dataclass(frozen=True)
class Located:
    """References in an attention call: the rows that are the picture, and the columns that are references.

    References are among the first ``keys`` columns, which compete; where there are more, they repeat these. ``gain``
    broadcasts to ``[items, N]`` (see ``attention.attribute``). ``verdicts`` are what was assumed and can be
    proved on the device only: they are judged once a step; where a remark does not hold, it is a note, and nothing is
    lost. ``completed`` is called when the pack whose attention
    this is has gone on with its output, and what it returns takes the place of this: only then is the gain of an
    IP-Adapter known. ``guessed``: the place of the references is inferred, not proved. ``of_negative``: an
    adapter's image for the negative conditioning, which is no reference, but counts as much as that: only those that
    act take it. ``of_others``: the rows are those of references, which read all tokens in a call of their own, and
    nothing of the picture: only those that act take it. ``placeless`` are columns that a
    reference of this name has beside its group, without a place in the image: the class token of CLIP vision.
    ``inert``: what is at these columns is not made from the reference, of which the model got nothing (a strength of
    0), so that nothing is taken away with them.
    """

    layer: Layer
    queries: Index
    keys: int
    references: tuple[TokenGroup, ...]
    gain: Tensor | None = None
    note: str = ""  # what a person should know about it, for the summary
    verdicts: tuple[Verdict, ...] = ()
    remarks: tuple[Verdict, ...] = ()
    completed: "Callable[[], Located | Skip] | None" = None
    guessed: bool = False
    of_negative: bool = False
    of_others: bool = False
    placeless: Mapping[str, Index] = field(default_factory=dict)
    inert: bool = False

    def columns(self, index: Index, keys: int) -> Tensor:
        """All columns that are, or repeat, the columns ``index``, in a call of so many ``keys``."""
        first = torch.arange(self.keys)[index]
        return (torch.arange(0, keys, self.keys)[:, None] + first).flatten()


@dataclass(frozen=True)
class Off:
    """References that are observed to be off in a layer, for a ``reason`` in words for a person.

    No attention call is made for them there; they are those that one would read otherwise.
    """

    layer: Layer
    references: tuple[TokenGroup, ...]
    reason: str


@dataclass(frozen=True)
class Skip:
    """An attention call that is not captured, and the reason, in words for a person.

    ``absent``: no mechanism that is in use reads a reference in it; else one may be read.
    """

    reason: str
    absent: bool = False


@dataclass(frozen=True)
class Given(HasModel):
    """What a run was given, before its first attention call: to number references by."""

    branch: str  # a watched one
    conditionings: Sequence[Mapping[str, Any]]  # of it, as the sampler prepared them
    options: Mapping[str, Any]  # transformer_options of the run
    model: BaseModel
    regions: Regions
