"""Adapters of Flux: packs that add attention to an image's own tokens in its blocks, past ComfyUI's attention.

What each pack's contract is: ``flux_ip_adapter``, ``flux_pulid`` and ``flux_xlabs``. What their attention says:
``flux_adapter_call``. They also run the model's own without the run's options: ``own_forwards`` observes that.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import comfy.patcher_extension
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....i2am_core.attribution import Reference
from ....i2am_core.tokens import TokenGroup
from .. import own_forwards
from ..attention_call import Arguments
from ..blocks import ForeignModule
from ..callers import function_of
from ..located import Chunk, Given, ModelCall
from ..pending_call import Attend, PendingCall
from . import flux_ip_adapter, flux_pulid, flux_xlabs
from .base import Documented, Mechanism
from .flux_adapter_call import AdapterMechanism, SkippedAdapter

KEY = "i2am flux adapters"
UNCHOSEN = "attention of an adapter, which is not the mechanism that was chosen"


class FluxAdapters(AdapterMechanism):
    documented = (
        Documented(
            users="IP-Adapter for Flux (ComfyUI-IPAdapter-Flux and what has its contract), before or after Capture; "
            "several at once",
            captured="attention of its own, and how much it counts (weight, start and end): measured from what the "
            "pack made of it",
            spatial="no: 128 tokens of one vector",
            certainty="exact",
            limits="steps in which it is off count as 0; a share is of a softmax of its own, not comparable with joint "
            "attention. The joint attention that the pack runs beside it, of reference latents and of the text, is "
            "captured too. Tried with the real pack on ComfyUI 0.3.75; newer cores call its forward with more than it "
            "takes, by reading. Not tried with `torch.compile`",
        ),
        Documented(
            users="PuLID for Flux (ComfyUI_PuLID_Flux_ll and what has its contract); several at once",
            captured="the same, with its mask",
            spatial="no: 32 tokens of one face",
            certainty="exact: its arithmetic is compared in the run",
            limits="its attention has other heads than the model's, so that a block is two layers of maps beside "
            "reference latents. Tried with the real pack on ComfyUI 0.3.75, with an argument of newer cores taken away",
        ),
        Documented(
            users="the IP-Adapter of XLabs (x-flux-comfyui), mended so that it runs in ComfyUI's samplers",
            captured="the same",
            spatial="no: 4 or 16 tokens of one vector",
            certainty="exact",
            limits="one picture, of one image, without guidance: the pack adds the mean over all rows of a batch, "
            "which is refused. Nothing is seen of its own *Xlabs Sampler*",
        ),
    )

    def is_in_use(self, chunk: Chunk, call: ModelCall) -> bool:
        """No attention of an adapter comes through ComfyUI's override. An ``AdapterCall`` locates it."""
        return False

    def may_be_read(self, role: str, call: ModelCall) -> bool:
        return False

    def given(self, run: Given) -> list[Reference]:
        """Also those that start late or have a weight of 0."""
        return list(dict.fromkeys(map(Reference.of, _groups(run.denoiser, run.options))))

    def install(self, options: dict[str, Any], attend: Attend) -> None:
        replacements = options.get("patches_replace", {}).get("dit", {})
        for block, patch in replacements.items():
            replacements[block] = flux_pulid.intercept(patch, attend)
        comfy.patcher_extension.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, _around_calls(attend), options)


class UnchosenFluxAdapters(FluxAdapters):
    """Adapters beside another mechanism that alone was chosen: these packs run the model's own attention, too."""

    def given(self, run: Given) -> list[Reference]:
        return []

    def install(self, options: dict[str, Any], attend: Attend) -> None:
        def attend_to_model(arguments: Arguments, options: Mapping[str, Any], mechanism: Mechanism) -> PendingCall:
            if mechanism.is_off:
                return PendingCall(arguments)
            return attend(
                arguments, options, mechanism if mechanism.of_model else SkippedAdapter(UNCHOSEN, absent=True)
            )

        super().install(options, attend_to_model)


def packs_of(denoiser: ForeignModule, options: Mapping[str, Any]) -> set[str]:
    """The packs whose adapters are in a model."""
    blocks = flux_ip_adapter.blocks_with_adapters(denoiser), flux_xlabs.blocks_with_adapters(denoiser)
    own = [*blocks[0], *blocks[1], *flux_pulid.patches_with_pulid(options)]
    return {function_of(type(one)).pack for one in own}


def _groups(denoiser: ForeignModule, options: Mapping[str, Any]) -> Iterator[TokenGroup]:
    for block in flux_ip_adapter.blocks_with_adapters(denoiser):
        yield from flux_ip_adapter.groups_of(block)
    for block in flux_xlabs.blocks_with_adapters(denoiser):
        yield from flux_xlabs.groups_of(block)
    for patch in flux_pulid.patches_with_pulid(options):
        yield from flux_pulid.groups_of(patch)


def _around_calls(attend: Attend) -> Callable:
    """A wrapper around each call of the denoiser, whose blocks are a pack's only when the model is loaded."""

    def watch(
        executor: Any, x: Tensor, t: Tensor, c_concat: Any, c_crossattn: Any, control: Any, options: dict[str, Any],
        **kwargs: Any,
    ) -> Any:  # fmt: skip
        denoiser = executor.class_obj.diffusion_model
        denoiser = getattr(denoiser, "_orig_mod", denoiser)
        with ExitStack() as stack:
            with own_forwards.unobserved_on_error():
                for block in flux_xlabs.blocks_with_adapters(denoiser):
                    flux_xlabs.intercept(block, options, attend, stack)
                own = [*flux_ip_adapter.blocks_with_adapters(denoiser)]
                for block in own:
                    flux_ip_adapter.intercept(block, options, attend, stack)
                if own or any(flux_pulid.patches_with_pulid(options)):
                    for block in (*getattr(denoiser, "double_blocks", ()), *getattr(denoiser, "single_blocks", ())):
                        own_forwards.observe(block, options, attend, stack)
            return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)

    return watch
