"""Which tokens of a located attention call are meant: columns of references, or of parts of them, and rows."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...i2am_core.regions import cells_of
from ...i2am_core.tokens import TokenGroup
from .consumers.base import LocatedIn
from .located import Located


def columns_of(groups: Sequence[TokenGroup], match: Located, keys: int) -> list[Tensor]:
    """All columns of these references in a call of so many ``keys``, with those that have no place in the image.

    Such are class tokens: of an IP-Adapter a reference of the same key beside it, of Wan ``Located.placeless``.
    """
    keys_of_images = {group.key for group in groups if group.grid is not None and group.key}
    beside = [group for group in match.references if group.grid is None and group.key in keys_of_images]
    placeless = [match.placeless[group.name] for group in groups if group.name in match.placeless]
    return [match.columns(index, keys) for index in (*(group.index for group in (*groups, *beside)), *placeless)]


def is_alone(one: LocatedIn, keys: int) -> bool:
    """Whether the references are all that there is to look at, in a call of so many ``keys``."""
    columns = [x for match in one.by_mechanism.values() for x in columns_of(match.references, match, keys)]
    return len(torch.cat(columns).unique()) == keys


def columns_in(region: Tensor, group: TokenGroup, match: Located, keys: int) -> Tensor:
    """The columns of a reference's tokens in a region ``[H, W]`` that is painted on it. The group has a grid."""
    assert group.grid is not None
    inside = cells_of(region, group.grid)
    inside = inside if group.cells is None else inside[group.cells]
    return match.columns(torch.arange(match.keys)[group.index][inside], keys)


def rows_of_picture(one: LocatedIn, queries: int, region: Tensor | None) -> Tensor:
    """The rows of tokens that are the picture, or the part in ``region [n, H, W]`` of it: ``[items or 1, queries]``."""
    match = one.first
    rows = torch.zeros(1, queries, dtype=torch.bool)
    rows[:, match.queries] = True
    if match.gain is not None:  # where it is 0 a row is not of the picture
        counts = match.gain.cpu() != 0
        rows = rows.repeat(len(counts), 1)
        rows[:, match.queries] &= counts
    if region is not None:
        placed = one.chunk.placement.on(match.layer.grid)
        inside = placed.here(cells_of(region, placed.grid))
        assert inside is not None
        rows = rows.repeat(max(1, len(inside) // len(rows)), 1)
        rows[:, match.queries] &= inside
    return rows
