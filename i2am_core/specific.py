"""The specific reference attribution map (SRAM): what made *this* part of the picture, and where *that* part went.

Paper, section 3. From the pair maps of the chosen layers: the mean over a region A of the picture of
``softmax_j S[i, j]`` (which parts of the reference made A), or the mean over a region B of the reference of
``softmax_i S[i, j]`` (where B went).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .attribution import Attribution, Direction, LayerMaps
from .levels import resize
from .regions import cells_of
from .selection import parse_selection
from .tokens import TokenGrid


@dataclass(frozen=True)
class SpecificMap:
    """A map ``[h, w]``, and ``note``: what it was taken from, in words."""

    values: Tensor
    note: str


def specific(
    attribution: Attribution,
    region: Tensor,
    direction: Direction,
    *,
    layers: str = "all",
    steps: str = "all",
    heads: str = "all",
    reference: int = 0,
    item: int = 0,
) -> SpecificMap:
    """The map of a region ``[H, W]`` in [0, 1], given on the picture for 'g2r' and on the reference for 'r2g'.

    'g2r' lives on the reference's grid and sums to 1 (before resizing, where layers see it on several grids); 'r2g'
    lives on the largest grid of the chosen layers, and where pair maps were kept for every position it sums to 1
    (before resizing). Of a video, the region is the same in all frames, and the map is the mean of the frames. Raises
    ValueError where nothing was kept that could answer.
    """
    attribution.check_item(item)
    shown = attribution.check_reference(reference)
    if shown.grid is None:
        raise ValueError(f"reference {reference} ('{shown.name}') has no spatial layout: no part of it can be named.")
    if not (region > 0).any():
        raise ValueError("the region is empty: paint the part of the image that you ask about.")
    _check_means(attribution, steps, heads)
    names = [layer.name for layer in attribution.layers]
    kept = {
        n: entry
        for n in parse_selection(layers, len(names), "layers", names)
        if (entry := attribution.layer_maps(reference, n)) is not None and entry.pairs
    }
    if not kept:
        raise ValueError(
            "no pair maps were kept for the selected layers: set pair_maps of I2AM Capture to 'inpainting mask' or "
            "'everywhere' (and raise budget_mb if the summary says that they did not fit), then sample again. Areas of "
            "conditionings and context windows keep none."
        )
    parts = [
        _of_layer(attribution, n, entry, region, direction, entry.reference_grid or shown.grid, item)
        for n, entry in kept.items()
    ]
    found = [part for part in parts if part is not None]
    if not found:
        raise ValueError(
            "no pair maps were kept for this region: it lies outside the inpainting mask. Choose a region inside it, "
            "or set pair_maps of I2AM Capture to 'everywhere' and sample again."
        )
    height, width = max((x.shape for x in found), key=lambda shape: shape[0] * shape[1])
    values = torch.stack([resize(x, height, width) for x in found]).mean(0)
    partial = any(_rows(e) < attribution.layers[n].grid.cells for n, e in kept.items())
    where = ", of the inpainting mask only" if partial else ""
    return SpecificMap(values, f"mean of {len(found)} layer(s): {', '.join(names[n] for n in kept)}{where}")


def _check_means(attribution: Attribution, steps: str, heads: str) -> None:
    every_step = len(parse_selection(steps, attribution.steps, "steps")) == attribution.steps
    if not every_step or heads.strip().lower() not in ("", "all"):
        raise ValueError(
            f"pair maps are kept as means over steps and heads, so steps '{steps}' and heads '{heads}' cannot be told "
            "apart here: use 'all' for both. Layers can be chosen."
        )


def _of_layer(
    attribution: Attribution,
    number: int,
    entry: LayerMaps,
    region: Tensor,
    direction: Direction,
    reference: TokenGrid,
    item: int,
) -> Tensor | None:
    """The map of one layer, or None where the region holds no position whose pairs were kept."""
    grid = attribution.layers[number].grid
    assert entry.pair_rows is not None
    if direction == "g2r":
        asked = cells_of(region, grid)[entry.pair_rows]
        if not asked.any():
            return None
        return _over_frames(entry.pairs["g2r_pairs"][item][asked].mean(0), reference)
    tokens = cells_of(region, reference)
    values = torch.zeros(grid.cells)
    values[entry.pair_rows] = entry.pairs["r2g_pairs"][item][:, tokens].mean(1)
    return _over_frames(values, grid)


def _over_frames(values: Tensor, grid: TokenGrid) -> Tensor:
    return values.unflatten(0, (grid.frames, grid.height, grid.width)).mean(0)


def _rows(entry: LayerMaps) -> int:
    return 0 if entry.pair_rows is None else len(entry.pair_rows)
