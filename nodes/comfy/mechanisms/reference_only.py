"""Reference-only: the first picture of a U-Net's batch is the reference, and all attend to its features as well.

``ReferenceOnlySimple`` of comfyanonymous/ComfyUI_experiments keeps that picture from being denoised, and its patch of
self-attention (attn1) puts the reference's N tokens after the N of each picture.
"""

import torch
from torch import Tensor

from ....i2am_core.attribution import Layer, Reference
from ....i2am_core.recording.recorder import Verdict
from ....i2am_core.tokens import TokenGrid, span
from ..callers import function_of
from ..located import CallSite, Chunk, Given, Located, ModelCall, Skip
from .base import Documented, Mechanism

FIRST = "picture 0 of the batch is the reference itself: its maps are empty, those of what was made start at picture 1"
NAME = "reference"
ALONE = "reference-only on a batch that holds the reference alone: no picture is made"
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
            limits="the first picture is the reference: its maps are 0. Advanced-ControlNet works otherwise and is "
            "not captured",
        ),
    )

    def given(self, run: Given) -> list[Reference]:
        """It may be, where a pack changes self-attention; how many tokens it has, the layers say."""
        patches = run.options.get("patches", {}).get("attn1_patch", ()) if "UNetModel" in run.family else ()
        theirs = any(function_of(patch).foreign and function_of(patch).pack != "comfy_extras" for patch in patches)
        return [Reference(NAME, 0, TokenGrid(0, 0))] if theirs else []

    def locate(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip | None:
        if site.role != "attn1" or site.keys != 2 * site.queries:
            return None
        k = site.k[chunk.rows]
        if len(k) == 1:
            return Skip(ALONE if bool(_ends_with_the_first(k)) else OTHER)
        if site.grid is None or site.grid.cells != site.queries:
            return Skip(f"{site.queries} positions ask, which are not the {site.grid} cells of the feature map")
        made = torch.ones(len(k), 1)
        made[0] = 0
        reference = span(NAME, site.queries, site.grid)
        layer = Layer(site.layer, site.grid, site.heads)
        proved = (Verdict(_ends_with_the_first(k), OTHER),)
        return Located(layer, slice(None), site.keys, (reference,), made, FIRST, proved)


def _ends_with_the_first(k: Tensor) -> Tensor:
    """Whether the second half of the keys ``[items, H, 2N, D]`` is the first item's first half, for all items."""
    own, added = k.chunk(2, 2)
    return (added - own[:1]).abs().amax() <= ROUNDING * own.abs().amax()
