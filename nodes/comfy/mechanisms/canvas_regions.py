"""Reference and generated picture on one canvas, side by side: ACE++, IC-LoRA, CatVTON-Flux, in-context inpainting.

No tokens are the reference's by nature: what is painted attends, in self-attention, to another region of the same
picture. A person says which region that is; the inpainting mask says what is painted, or a person.
"""

import torch
from torch import Tensor

from ....i2am_core.attribution import Reference
from ....i2am_core.regions import cells_of
from ....i2am_core.tokens import TokenGrid, TokenGroup
from ..located import CallSite, Chunk, Given, Located, ModelCall, Skip
from ..token_orders import sequence_of
from .base import Documented, Mechanism

NAME, KEY = "reference region", "canvas"


class CanvasRegions(Mechanism):
    name = "canvas regions"
    priority = 90
    documented = (
        Documented(
            users="ACE++, IC-LoRA, CatVTON-Flux, side-by-side inpainting, in any model of this table and in the "
            "self-attention of U-Nets",
            captured="self-attention of the painted cells to those of the reference region",
            spatial="the region's bounding box",
            certainty="exact",
            limits="the regions are what you mark (`reference_region`, and `generated_region` or the inpainting "
            "mask). Cells that are both are taken for painted",
        ),
    )

    def may_be_read(self, role: str, call: ModelCall) -> bool:
        return call.regions.reference is not None and ("UNetModel" not in call.family or role != "attn2")

    def given(self, run: Given) -> list[Reference]:
        """A reference of 0 tokens: how many cells the region has depends on the grid of each layer."""
        return [] if run.regions.reference is None else [Reference(NAME, 0, TokenGrid(0, 0), KEY)]

    def is_in_use(self, chunk: Chunk, call: ModelCall) -> bool:
        return call.regions.reference is not None

    def locate(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip | None:
        generated_region, reference_region = call.regions.generated, call.regions.reference
        if reference_region is None or ("UNetModel" in call.family and site.role != "attn1"):
            return None
        if generated_region is None:
            return Skip("a reference region without a generated one: give generated_region, or use an inpainting mask")
        if chunk.placement.partial:
            return Skip("canvas regions of a conditioning or context window that has a part of the canvas only")
        sequence = sequence_of(site, call)
        if isinstance(sequence, Skip):
            return sequence
        masks = len(generated_region)
        if masks not in (1, chunk.items):
            return Skip(f"{masks} masks of the generated region for {chunk.items} pictures: give one, or one for each")
        painted, marked = call.once(
            ("cells of the canvas", sequence.grid),
            lambda: (cells_of(generated_region, sequence.grid), cells_of(reference_region[0], sequence.grid)),
        )
        reference = marked & ~painted.any(0)
        if not reference.any() or not painted.any():
            return Skip(f"a region without a cell of its own on a grid of {sequence.grid}")
        columns = torch.arange(site.keys)[sequence.picture]
        group = _group(reference, sequence.grid, columns)
        return sequence.located(site, (group,), painted.float())


def _group(reference: Tensor, grid: TokenGrid, columns: Tensor) -> TokenGroup:
    """The cells of the reference region, on the grid of their bounding box."""
    frame, y, x = (reference.unflatten(0, (grid.frames, grid.height, grid.width))).nonzero().unbind(1)
    top, left = int(y.min()), int(x.min())
    box = TokenGrid(int(y.max()) - top + 1, int(x.max()) - left + 1, grid.frames)
    cells = (frame * box.height + y - top) * box.width + x - left
    return TokenGroup(NAME, columns[reference], len(cells), box, KEY, cells)
