"""A conditioning that the run is compared with, prepared as the run's own is, and put in its place for an evaluation.

It is not one more of the guider's conditionings: ComfyUI would copy areas between them, and plan its memory for it.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.sampler_helpers
import comfy.samplers
import torch
from torch import Tensor

from .evaluation import Conditionings, Evaluation, forked
from .run import Misplaced

NOT_LOADED = (
    "I2AM Effect: the conditioning `without` has {} that this run does not have, and that ComfyUI has therefore not "
    "loaded: leave out nothing but the reference."
)
NOT_TAKEN = "I2AM Effect: the model cannot take the conditioning `without` ({}): connect one made for this model."
EMPTY = "I2AM Effect: the conditioning `without` is empty: connect the run's own, made without the reference."


class OtherConditioning:
    """``conditioning`` is as nodes hand it on. Raises Misplaced for what the run of ``guider`` did not load."""

    def __init__(self, conditioning: list[Any], guider: Any) -> None:
        self._prepared: Conditionings = []
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

        Raises Misplaced where the model cannot take it.
        """
        shapes = {"latent_shapes": [noise.shape]}
        known = inspect.signature(comfy.samplers.process_conds).parameters
        further = {name: value for name, value in shapes.items() if name in known}
        try:
            with forked(noise.device):
                processed = comfy.samplers.process_conds(
                    guider.inner_model, noise, {"positive": [dict(c) for c in self._own]}, noise.device, latent_image,
                    mask, seed, **further,
                )  # fmt: skip
        except Exception as error:
            raise Misplaced(NOT_TAKEN.format(f"{type(error).__name__}: {error}")) from error
        self._prepared = processed["positive"]

    @contextmanager
    def in_place(self, branch: str, guider: Any) -> Iterator[Conditionings]:
        """The conditionings for an evaluation, as long as the guider has them as its own: for those that act."""
        own = guider.conds[branch]
        guider.conds[branch] = self._prepared
        try:
            yield self._prepared
        finally:
            guider.conds[branch] = own

    def clean_up(self) -> None:
        """As ComfyUI does with the run's own."""
        for control in (x["control"] for x in self._prepared if "control" in x):
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
