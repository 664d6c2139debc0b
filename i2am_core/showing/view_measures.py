"""What the maps of a viewer on a picture come to, beside the maps themselves."""

import torch
from torch import Tensor

from ..attribution import Attribution
from ..kinds import MapKind
from ..reading.metrics import concentration, share_inside
from ..regions import cells_of, cover_of
from ..selection import resolve_scope
from ..tokens import TokenGrid
from .header import Measure

MEASURES: tuple[Measure, ...] = ("share", "inside", "concentration")


def add_measures(
    measured: Tensor, rows: Tensor, kind: MapKind, about: tuple[Attribution, int], mask: Tensor | None
) -> None:
    """Fill in the measures ``[3, n]`` that maps ``[n, h, w]`` of a kind tell, of a run and an item of it.

    The share is that of 'share', the other two are of 'paper'; ``mask [H, W]`` is for the part inside.
    """
    if kind.normalization == "share":
        _measure_share(measured, rows, _scope_mask(*about))
    else:
        _measure_place(measured, rows, mask)


def _scope_mask(attribution: Attribution, item: int) -> Tensor | None:
    scoped = resolve_scope(attribution, "auto", item) == "inpainting mask"
    return attribution.denoise_mask[item] if scoped and attribution.denoise_mask is not None else None


def _measure_share(measured: Tensor, rows: Tensor, scope: Tensor | None) -> None:
    """Fill in how much of the attention of the positions in scope went to the reference."""
    grid = TokenGrid(*rows.shape[1:])
    in_scope = torch.ones(grid.cells, dtype=torch.bool) if scope is None else cells_of(scope, grid)
    measured[MEASURES.index("share")] = rows.flatten(1)[:, in_scope].mean(1)


def _measure_place(measured: Tensor, rows: Tensor, mask: Tensor | None) -> None:
    """Fill in how concentrated maps are, and how much of each lies in the mask."""
    measured[MEASURES.index("concentration")] = concentration(rows)
    if mask is not None:
        cover = cover_of(mask, TokenGrid(*rows.shape[1:])).view(rows.shape[1:])
        measured[MEASURES.index("inside")] = torch.tensor([share_inside(row, cover) for row in rows])
