"""Reference ControlNets: a U-Net's self-attention of the picture to features of a reference, as Advanced-ControlNet.

Contract (adv_control/control_reference.py of Kosinkadink/ComfyUI-Advanced-ControlNet): the U-Net runs on the reference
first (``reference_passes``). Each block then has an ``injection_holder`` with ``bank_styles``: features of the
references that are for this block, in the order ``cn_idx``, with a ``style_cfgs`` for each. The block attends from the
picture's N tokens to these and N of each reference, without the run's options. Of rows of the negative conditioning it
mixes that with attention to the picture alone, by the mean of ``style_cfgs``: their share is of the rest.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import comfy.patcher_extension
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....i2am_core.attribution import Layer, Reference
from ....i2am_core.tokens import TokenGrid, TokenGroup
from .. import own_forwards
from ..blocks import ForeignModule
from ..located import CallSite, Chunk, Given, Located, ModelCall, Skip
from ..pending_call import Attend
from ..token_orders.unet import why_other_tokens
from .base import Documented, Mechanism

KEY = "i2am reference control"
CONTROLS = "ref_control_list_all"  # in the options of a run that has any
READ = "ref_read_attn_control_list"
NAME = "reference"
OTHER_KEYS = (
    "self-attention to {} tokens, which are not the {} of the picture and as many of each of {} references: context "
    "references of AnimateDiff are not known"
)
BLENDED = (
    "a reference control has a strength or a mask: its tokens are that much of the reference, and for the rest of the "
    "picture itself"
)


class ReferenceControl(Mechanism):
    name = "reference control"
    priority = 95
    documented = (
        Documented(
            users="Advanced-ControlNet's Reference ControlNet, `reference_attn` and the attention of "
            "`reference_attn+adain`; several at once",
            captured="self-attention of the picture to the reference's features, written by a run of the U-Net",
            spatial="each layer's grid",
            certainty="exact",
            limits="the reference is written anew in each step, with noise. With a strength or a mask its tokens are "
            "blended with the picture's, which the summary says. What `adain` does is not attention: *I2AM Effect* "
            "measures both together. Steps in which it is off are not counted as 0: a mean is over those in which it "
            "is on. Context references of AnimateDiff are skipped. Not tried with `torch.compile`",
        ),
    )

    def is_in_use(self, chunk: Chunk, call: ModelCall) -> bool:
        """Where it is read, an ``_OfReferences`` locates it."""
        return False

    def may_be_read(self, role: str, call: ModelCall) -> bool:
        return role != "attn2" and CONTROLS in call.options

    def given(self, run: Given) -> list[Reference]:
        """Of 0 tokens each: how many depends on the grid of each layer."""
        controls = run.options.get(CONTROLS) or ()
        orders, known = [control.order for control in controls if _attends(control)], orders_of(controls)
        return [Reference(_name(order, known), 0, TokenGrid(0, 0), str(order)) for order in orders]

    def install(self, options: dict[str, Any], attend: Attend) -> None:
        comfy.patcher_extension.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, _around_calls(attend), options)


def _around_calls(attend: Attend) -> Callable:
    def watch(
        executor: Any, x: Tensor, t: Tensor, c_concat: Any, c_crossattn: Any, control: Any, options: dict[str, Any],
        **kwargs: Any,
    ) -> Any:  # fmt: skip
        with ExitStack() as stack:
            with own_forwards.unobserved_on_error():
                if CONTROLS in options:
                    for block in executor.class_obj.diffusion_model.modules():
                        if hasattr(getattr(block, "injection_holder", None), "bank_styles"):
                            _observe(block, options, attend, stack)
            return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)

    return watch


def _observe(block: ForeignModule, options: Mapping[str, Any], attend: Attend, stack: ExitStack) -> None:
    """Hand both attentions of a block to the engine. A holder of another kind has no bank of features."""

    def mechanism_for(args: tuple) -> Mechanism | None:
        banks = block.injection_holder.bank_styles
        if not banks.cn_idx:
            return own_forwards.OfModel()
        if args[1].shape[1] == args[0].shape[1]:  # rows of the negative conditioning once more, to the picture alone
            return None
        fidelity = sum(banks.style_cfgs) / len(banks.style_cfgs)
        return _OfReferences(tuple(banks.cn_idx), fidelity, options)

    if hasattr(block.injection_holder.bank_styles, "bank"):
        observed = ((block.attn1, mechanism_for), (block.attn2, lambda args: own_forwards.OfModel()))
        for module, which in observed:
            if module is not None:
                own_forwards.observe(module, options, attend, stack, which)


@dataclass(frozen=True)
class _OfReferences(ReferenceControl):
    """The self-attention of a block to the references of these ``orders``."""

    orders: tuple[int, ...]
    fidelity: float
    options: Mapping[str, Any]

    of_model = True

    def locate(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip:
        cells = site.queries
        if site.grid is None or site.grid.cells != cells:
            return Skip(why_other_tokens(site, call))
        if site.keys != (1 + len(self.orders)) * cells:
            return Skip(OTHER_KEYS.format(site.keys, cells, len(self.orders)))
        controls = self.options[CONTROLS]
        known = orders_of(controls)
        groups = tuple(
            TokenGroup(_name(order, known), slice(n * cells, (n + 1) * cells), cells, site.grid, str(order))
            for n, order in enumerate(self.orders, 1)
        )
        is_negative = call.options["cond_or_uncond"][chunk.rows.start // chunk.items] == 1
        gain = torch.full((1, 1), 1 - self.fidelity) if is_negative and self.fidelity else None
        blended = any(control.any_attn_strength_to_apply() for control in controls if control.order in self.orders)
        layer, note = Layer(site.layer, site.grid, site.heads), BLENDED if blended else ""
        return Located(layer, slice(None), site.keys, groups, gain, note)


def kind_of_reference(control: Any) -> str:
    """Such as "reference_attn+adain"; "" of a control of another kind."""
    kind = getattr(getattr(control, "ref_opts", None), "reference_type", "")
    return kind if isinstance(kind, str) else ""


def orders_of(controls: Iterable[Any]) -> list[int]:
    """Of all that have a reference, whatever they do with it in the present step: by these they are numbered."""
    return [control.order for control in controls if kind_of_reference(control)]


def _attends(control: Any) -> bool:
    return "attn" in kind_of_reference(control)


def _name(order: int, orders: Sequence[int]) -> str:
    """Numbered as they come in the chain of controls, where there are several."""
    return NAME if len(orders) == 1 else f"{NAME} {orders.index(order) + 1}"
