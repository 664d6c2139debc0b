"""A conditioning that the run is compared with, prepared as the run's own is, and put in its place for an evaluation.

It is not one more of the guider's conditionings: ComfyUI would copy areas between them, and plan its memory for it.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import comfy.conds
import comfy.sampler_helpers
import comfy.samplers
import torch
from torch import Tensor

from .evaluation import Conditionings, Evaluation, forked
from .model_calls import conditionings_of
from .run import Misplaced
from .several_latents import SHAPES

NOT_LOADED = (
    "I2AM Effect: the conditioning `without` has {} that this run does not have, and that ComfyUI has therefore not "
    "loaded: leave out nothing but the reference."
)
NOT_TAKEN = "I2AM Effect: the model cannot take the conditioning `without` ({}): connect one made for this model."
SAME = (
    "I2AM Effect: the conditioning `without` is the same as the run's own, so that nothing would be compared: connect "
    "the wire before the node that adds the reference. A reference that is part of the latent (a first frame, a "
    "canvas) or of the model (an adapter) is in no conditioning."
)
EMPTY = "I2AM Effect: the conditioning `without` is empty: connect the run's own, made without the reference."


class OtherConditioning:
    """``conditioning`` is as nodes hand it on, for comparing some ``branches`` with it.

    Raises Misplaced for what the run of ``guider`` did not load.
    """

    def __init__(self, conditioning: list[Any], guider: Any, branches: Iterable[str]) -> None:
        self._prepared: dict[str, Conditionings] = {branch: [] for branch in branches}
        self._own = comfy.sampler_helpers.convert_cond(conditioning)
        if not self._own:
            raise Misplaced(EMPTY)
        loaded = [c for conds in (getattr(guider, "conds", None) or {}).values() for c in conds]
        for what, parts_of in (("hooks", _hooks), ("a ControlNet", _controls), ("GLIGEN", _gligen)):
            present = {id(x) for c in loaded for x in parts_of(c)}
            if any(id(x) not in present for c in self._own for x in parts_of(c)):
                raise Misplaced(NOT_LOADED.format(what))

    def prepare(
        self, guider: Any, noise: Tensor, latent_image: Tensor | None, mask: Tensor | None, seed: int | None
    ) -> None:
        """As ``CFGGuider.inner_sample`` (comfy/samplers.py) does with the run's own. Random numbers stay as they are.

        Raises Misplaced where the model cannot take it, and where it is the run's own.
        """
        shapes = {SHAPES: getattr(guider.inner_model, SHAPES, None) or [noise.shape]}
        known = inspect.signature(comfy.samplers.process_conds).parameters
        further = {name: value for name, value in shapes.items() if name in known}
        for branch in self._prepared:
            try:
                with forked(noise.device):
                    processed = comfy.samplers.process_conds(
                        guider.inner_model, noise, {branch: [dict(c) for c in self._own]}, noise.device, latent_image,
                        mask, seed, **further,
                    )  # fmt: skip
            except Exception as error:
                raise Misplaced(NOT_TAKEN.format(f"{type(error).__name__}: {error}")) from error
            self._prepared[branch] = processed[branch]
            if are_same(self._prepared[branch], conditionings_of(guider, branch)):
                raise Misplaced(SAME)

    @contextmanager
    def in_place(self, branch: str, guider: Any) -> Iterator[Conditionings]:
        """The conditionings for an evaluation, as long as the guider has them as its own: for those that act."""
        own = guider.conds[branch]
        guider.conds[branch] = self._prepared[branch]
        try:
            yield self._prepared[branch]
        finally:
            guider.conds[branch] = own

    def clean_up(self) -> None:
        """As ComfyUI does with the run's own."""
        for control in (x["control"] for conds in self._prepared.values() for x in conds if "control" in x):
            control.cleanup()


def in_window(conds: Conditionings, evaluation: Evaluation, shape: torch.Size) -> Conditionings:
    """What the present context window, of a latent of this shape, has of them: its handler does it to the run's own."""
    options = evaluation.model_options
    whole = torch.empty(1, device="meta").expand(shape)
    cut: Conditionings = options["context_handler"].get_resized_cond(
        conds, whole, options["transformer_options"]["context_window"], evaluation.x.device
    )
    return cut


def _hooks(c: Any) -> list[Any]:
    group = c.get("hooks")
    return [] if group is None else [hook.hook_ref for hook in group.hooks]


def _controls(c: Any) -> list[Any]:
    return [] if c.get("control") is None else list(c["control"].get_models())


def _gligen(c: Any) -> list[Any]:
    return [c["gligen"][1]] if "gligen" in c else []


def are_same(one: Any, other: Any) -> bool:
    """Whether two conditionings, or things in them, would give the same prediction."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.equal(one, other.to(one))
    if isinstance(one, comfy.conds.CONDRegular) and type(one) is type(other):
        return are_same(one.cond, other.cond)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = one.keys() - {"uuid"}
        return keys == other.keys() - {"uuid"} and all(are_same(one[key], other[key]) for key in keys)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(are_same, one, other))
    return one is other or (isinstance(one, int | float | str) and bool(one == other))
