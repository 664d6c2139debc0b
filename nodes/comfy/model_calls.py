"""Which calls of the denoiser are watched, and what is known of each."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from comfy.model_base import BaseModel
from torch import Tensor

from ...i2am_core.tokens import TokenGrid
from .engine import Engine
from .located import Chunk, Given, ModelCall, Regions, Skip
from .placement import Area, Placement, areas_of
from .several_latents import shape_of_first
from .steps import step_of
from .windows import Window, window_of

COMBINED = (
    "several conditionings were combined, or limited to a part of the picture: each counts with its weight at every "
    "position in 'share'; 'paper' maps are the plain mean of those captured"
)
PERTURBED = (
    "a further evaluation for guidance, with attention replaced (perturbed-attention guidance, skipped layers): not "
    "counted"
)
# The reasons of whole calls, of which it is not known what of the picture they are for: see ``is_unplaced``.
ROWS = (
    "the model was given {} picture(s) at once, where the run has {} for each of {} conditioning(s): how they lie in "
    "the run's is not known{}"
)
SIZE = "the model was given a latent of {}, where that of the run is {}: how it lies in the picture is not known{}"
FRAMES = "the model was given {} of the {} frames of the video: which ones is not known"
PERHAPS_TILES = (
    ". Tiled samplers, and packs that cut, resize or batch what the model is given, do so: sample without them to "
    "capture"
)
IN_WINDOWS = ", since context windows over the pictures of a batch are not followed"
WITHOUT_SELF = "stg_self_attn_blocks"  # of LTX-2: blocks whose self-attention hands its values on
WINDOWS = "the video was denoised in context windows: maps of a frame are the mean of those windows that hold it"


@dataclass(frozen=True)
class _Conditionings:
    """One list of conditionings that calc_cond_batch works on, which holds those of a watched branch."""

    branch: str
    by_uuid: Mapping[Any, Mapping[str, Any]]
    areas: Mapping[Any, Area]  # by uuid


@dataclass(frozen=True)
class Present:
    """The evaluation that one calc_cond_batch makes; as it is here, one that is not watched."""

    lists: tuple[_Conditionings | None, ...] = ()  # by their position; None where a list is of no watched branch
    window: Window | None = None
    perturbed: frozenset[tuple] = frozenset()  # blocks whose attention it replaces for guidance

    @property
    def branches(self) -> set[str]:
        """The watched ones that it is for."""
        return {conditionings.branch for conditionings in self.lists if conditionings is not None}

    def is_active(self, timestep: Tensor) -> bool:
        """Whether any conditioning of a watched branch is for this step."""
        lists = (conditionings.by_uuid.values() for conditionings in self.lists if conditionings is not None)
        return any(is_active(c, timestep) for conditionings in lists for c in conditionings)


class ModelCalls:
    """The calls of the denoiser in one run of a sampler, for a latent of the shape of ``noise``.

    ``branches`` are watched. Why a call is not watched, and what a person should know of the run, goes to ``engine``.
    ``regions`` are those that a person marked. Only ``every`` n-th step is watched, from the first on in which the
    denoiser is called for a watched branch.
    """

    def __init__(
        self, guider: Any, branches: Sequence[str], noise: Tensor, sigmas: Tensor, regions: Regions, engine: Engine,
        every: int = 1,
    ) -> None:  # fmt: skip
        self._every = every
        self.guider, self.branches, self.regions, self._engine = guider, branches, regions, engine
        self.items, self.latent, self._shape, self._sigmas = (
            noise.shape[0],
            noise.shape[2:],
            noise.shape,
            sigmas.float().cpu(),
        )
        self._grid = grid_of(noise)
        self.branch_was_called = False  # whether the denoiser was called for a watched branch
        self.timesteps: list[Tensor] = []  # of all evaluations
        self.evaluation = 0  # the number of the present one: one result of the denoiser, from one or several calls
        self._present = Present()
        self._step = 0
        self._first: int | None = None  # the step of the first call for a watched branch
        self._evaluation_of_step = -1  # the evaluation that ``_step`` is of
        self._lock = threading.Lock()
        self.replaced = _replaced(guider.model_options)  # blocks whose attention the graph replaces

    def _skip(self, reason: str) -> None:
        self._engine.skip(Skip(reason))

    @property
    def present(self) -> Present:
        """The evaluation that is under way."""
        return self._present

    @contextmanager
    def evaluating(
        self, model: BaseModel, conds: list, x: Tensor, timestep: Tensor, options: Mapping[str, Any]
    ) -> Iterator[None]:
        """While ``_calc_cond_batch`` (comfy/samplers.py) works on these lists of conditionings."""
        before, self._present = self._present, Present()
        self.timesteps.append(timestep)
        with self._engine.skipping("I2AM could not read the conditionings of a call"):
            self._present = self.recognised(model, conds, x, timestep, options)
            self._report_not_called(conds, timestep)
        try:
            yield
            self._engine.evaluation_ended(self._present.branches)
        finally:
            self._present = before
            if before != Present():  # it goes on, and may be of another step
                self._evaluation_of_step = -1

    def recognised(
        self, model: BaseModel, conds: list, x: Tensor, timestep: Tensor, options: Mapping[str, Any]
    ) -> Present:
        """Which lists of conditionings hold a watched branch, and what else is known before the denoiser is called.

        Not by position: guiders and guidance patches order them as they like. The guider's own dictionaries
        of a branch are recognised in them, by identity: uuids are not unique, since ComfyUI copies dictionaries.
        """
        own = [(c, branch) for branch in self.branches for c in conditionings_of(self.guider, branch)]
        branch_by_id = {id(c): branch for c, branch in own}
        perturbed = frozenset(_replaced(options) - self.replaced)
        if perturbed and not self._engine.acts:
            if any(id(c) in branch_by_id for conditionings in conds for c in conditionings or ()):
                self._skip(PERTURBED)
            return Present(perturbed=perturbed)
        if "context_window" in options["transformer_options"]:  # dictionaries are copies, but not of another branch
            by_uuid = {c.get("uuid"): branch for c, branch in own if "area" not in c}
            copies = [c for conditionings in conds for c in conditionings or () if c.get("uuid") in by_uuid]
            branch_by_id = {id(c): by_uuid[c.get("uuid")] for c in copies}
        lists = tuple(_watched(conditionings or (), branch_by_id, x, timestep) for conditionings in conds)
        window = window_of(model, x, self._shape, timestep, options)
        self.evaluation += window is None or window.is_first
        return Present(lists, window, perturbed)

    def _report_not_called(self, conds: list, timestep: Tensor) -> None:
        """Say it where the model will not be called with a watched branch: a call of it speaks for itself."""
        if self._present.perturbed or self._present.is_active(timestep):
            return
        if self._present.branches or any(conds):
            step = step_of(float(timestep.max()), self._sigmas, self._step)
            self._engine.evaluated(step, "not active" if self._present.branches else "without the branch")

    def read(
        self,
        model: BaseModel,
        x: Tensor,
        text: Tensor | None,
        options: Mapping[str, Any],
        conditions: Mapping[str, Any],
    ) -> ModelCall | None:
        """A call of the denoiser, from what ``BaseModel.apply_model`` is given.

        ``x [B, C, (frames,) h, w]``, ``text [B, tokens, C]``; ``conditions`` are the other conditionings. None where it
        has no rows of the watched branch, of a step that is left out, and where it cannot be read.
        """
        with self._engine.skipping("I2AM could not read a call of the model"):
            if not {"cond_or_uncond", "uuids", "sigmas"} <= options.keys():
                self._skip("a call of the model by another pack, which does not say of which conditionings it is")
                return None
            chunks = self._watched_chunks(x.shape[0], options)
            if not chunks:
                return None
            self.branch_was_called = True
            for branch in self.branches:
                conditionings = conditionings_of(self.guider, branch)
                self._engine.given(Given(branch, conditionings, options, model, self.regions))
            step, first = self._steps(options["sigmas"])
            if (step - first) % self._every:
                self._engine.evaluated(step, "not looked at")
                return None
            shape = shape_of_first(x, conditions)
            if reason := self._why_not_placed(shape, chunks, options):
                self._skip(reason)
                return None
            if any(c.placement.area is not None for c in chunks):
                self._engine.note(COMBINED)
            if self._present.window is not None:
                self._engine.note(WINDOWS)
            tokens = 0 if text is None else text.shape[1]
            return ModelCall(
                step, chunks, model, shape, tokens, conditions, options, self.regions, self.evaluation,
                self._present.perturbed,
            )  # fmt: skip
        return None

    def _steps(self, sigmas: Tensor) -> tuple[int, int]:
        """The present step, and the first one. Waits for the device once an evaluation: its calls are of one step."""
        with self._lock:
            if self._evaluation_of_step != self.evaluation:
                self._step = step_of(float(sigmas.max()), self._sigmas, self._step)
                self._evaluation_of_step = self.evaluation
            if self._first is None:
                self._first = self._step
            return self._step, self._first

    def _why_not_placed(self, x: torch.Size, chunks: tuple[Chunk, ...], options: Mapping[str, Any]) -> str:
        """Why it is not known what of the picture the rows of a batch of this shape are; "" where it is."""
        conditionings = len(options["cond_or_uncond"])
        windows = "context_window" in options
        if x[0] != self.items * conditionings:
            perhaps = IN_WINDOWS if windows else PERHAPS_TILES
            return ROWS.format(x[0], self.items, conditionings, perhaps)
        whole = Placement(window=self._present.window).shape(self.latent)
        if len(self.latent) == 3 and x[2] != whole[0] and x[3:] == whole[1:]:
            return FRAMES.format(x[2], self.latent[0])
        if any(x[2:] != chunk.placement.shape(self.latent) for chunk in chunks):
            return SIZE.format(_size(x), _size(self.latent), PERHAPS_TILES)
        return ""

    def _watched_chunks(self, x_rows: int, options: Mapping[str, Any]) -> tuple[Chunk, ...]:
        lists, uuids = options["cond_or_uncond"], options["uuids"]
        size = x_rows // len(lists)
        chunks = []
        for i, (number, uuid) in enumerate(zip(lists, uuids, strict=True)):
            own = self._present.lists[number] if number < len(self._present.lists) else None
            if own is not None and uuid in own.by_uuid:
                placement = Placement(self._grid, own.areas.get(uuid), self._present.window)
                chunks.append(Chunk(slice(i * size, (i + 1) * size), own.by_uuid[uuid], placement, own.branch))
        return tuple(chunks)


def is_unplaced(reason: str) -> bool:
    """Whether a call of the model was skipped as a whole, since what of the picture it is for is not known."""
    return reason.startswith(tuple(words.partition("{")[0] for words in (ROWS, SIZE, FRAMES)))


def is_active(conditioning: Mapping[str, Any], timestep: Tensor) -> bool:
    """Whether a conditioning is for this step: else ComfyUI does not ask the model for it.

    The rule is that of ``get_area_and_mult`` (comfy/samplers.py).
    """
    sigma = timestep[0]  # a tensor, as ComfyUI compares it: in its own precision
    late = "timestep_end" in conditioning and bool(sigma < conditioning["timestep_end"])
    return not late and not ("timestep_start" in conditioning and bool(sigma > conditioning["timestep_start"]))


def grid_of(latent: Tensor) -> TokenGrid:
    """The cells of a latent ``[items, channels, (frames,) h, w]``."""
    height, width = latent.shape[-2:]
    return TokenGrid(height, width, latent.shape[2] if latent.ndim == 5 else 1)


def _replaced(options: Mapping[str, Any]) -> set[tuple]:
    """Blocks whose attention is replaced, by kind; of LTX-2 also what its guidance leaves out."""
    own = options.get("transformer_options", {})
    replaced = {(kind, block) for kind, blocks in own.get("patches_replace", {}).items() for block in blocks}
    left_out = {(name, False) for name in ("a2v_cross_attn", "v2a_cross_attn") if own.get(name) is False}
    return replaced | left_out | {(WITHOUT_SELF, block) for block in own.get(WITHOUT_SELF, ())}


def conditionings_of(guider: Any, branch: str) -> list[Mapping[str, Any]]:
    """The guider's own conditionings of a branch, as the sampler prepared them."""
    return (getattr(guider, "conds", None) or {}).get(branch) or []


def _watched(
    conditionings: Sequence[Mapping[str, Any]], branch_by_id: Mapping[int, str], x: Tensor, timestep: Tensor
) -> _Conditionings | None:
    """One list of conditionings, if it holds any of a watched branch; each list has its own uuids.

    ComfyUI gives an area of one branch to the others as a copy, tags and uuid included, of which only the tensors are
    the other branch's own (``create_cond_with_same_area_if_none``, comfy/samplers.py): the tensors tell them apart.
    """
    own = [c for c in conditionings if id(c) in branch_by_id]
    if not own:
        return None
    by_uuid = {}
    for c in own:
        same = (other for other in conditionings if _tensors_of(other) == _tensors_of(c))
        by_uuid[c.get("uuid")] = next(same, c)
    return _Conditionings(branch_by_id[id(own[0])], by_uuid, areas_of(conditionings, x, timestep))


def _tensors_of(conditioning: Mapping[str, Any]) -> dict[str, int]:
    return {name: id(value) for name, value in conditioning.get("model_conds", {}).items()}


def _size(shape: torch.Size) -> str:
    return "x".join(str(side) for side in reversed(shape[-2:]))
