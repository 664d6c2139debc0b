"""Reference-only: the first picture of a U-Net's batch is the reference, and all attend to its features too.

``ReferenceOnlySimple`` of comfyanonymous/ComfyUI_experiments keeps that picture from being denoised, and its patch of
self-attention (attn1) puts the reference's N tokens after the N of each picture.
"""

import torch
from torch import Tensor

from ....i2am_core.attribution import Layer, Reference
from ....i2am_core.recording.recorder import Verdict
from ....i2am_core.tokens import TokenGrid, span
from ..callers import patches_of_packs
from ..located import CallSite, Chunk, Given, Located, ModelCall, Skip
from ..token_orders.unet import why_other_tokens
from .base import Documented, Mechanism

FIRST = (
    "the first picture of the sampled batch is the reference itself: its maps are empty, the others are what was made"
)
NAME = "reference"
ALONE = (
    "reference-only on a batch that holds the reference alone, so that no picture is made: connect the latent that its "
    "node gives to the sampler"
)
OTHER = "self-attention to twice the tokens, of which the second half is not the batch's first picture"
ROUNDING = 1e-2  # of the largest key: two products of the same features may differ in their last digits, in 16 bits


class ReferenceOnly(Mechanism):
    name = "reference-only"
    priority = 100
    documented = (
        Documented(
            users="an attn1 patch that adds the features of the batch's first picture, as `ReferenceOnlySimple` does",
            captured="self-attention of each picture to those features",
            spatial="each layer's grid",
            certainty="exact, proved by the keys themselves",
            limits="the first picture is the reference: its maps are 0. Advanced-ControlNet works otherwise: see "
            "reference control",
        ),
    )

    def given(self, run: Given) -> list[Reference]:
        """One of 0 tokens, where a pack changes self-attention: it may be this. Each layer has as many as its grid."""
        return [Reference(NAME, 0, TokenGrid(0, 0))] if _is_changed(run) else []

    def may_be_read(self, role: str, call: ModelCall) -> bool:
        return role != "attn2" and _is_changed(call)

    def is_in_use(self, chunk: Chunk, call: ModelCall) -> bool:
        return "UNetModel" in call.family

    def locate(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip | None:
        cells = site.queries if site.grid is None else site.grid.cells
        if site.role != "attn1" or site.keys != 2 * cells or not _is_changed(call):
            return None
        if site.grid is None or cells != site.queries:
            return Skip(why_other_tokens(site, call))
        k = site.k[chunk.rows]
        if len(k) == 1:
            return Skip(ALONE if bool(_ends_with_the_first(k)) else OTHER)
        made = torch.ones(len(k), 1)
        made[0] = 0
        reference = span(NAME, site.queries, site.grid)
        layer = Layer(site.layer, site.grid, site.heads)
        verdicts = (Verdict(_ends_with_the_first(k), OTHER),)
        return Located(layer, slice(None), site.keys, (reference,), made, FIRST, verdicts)


def _is_changed(run: Given | ModelCall) -> bool:
    """Whether a pack changes the self-attention of a U-Net."""
    patches = patches_of_packs(run.options, "attn1_patch") if "UNetModel" in run.family else []
    return not all(patch.is_of_comfyui_node for patch in patches)


def _ends_with_the_first(k: Tensor) -> Tensor:
    """Whether the second half of the keys ``[items, H, 2N, D]`` is the first item's first half, for all items."""
    own, added = k.chunk(2, 2)
    return (added - own[:1]).abs().amax() <= ROUNDING * own.abs().amax()
