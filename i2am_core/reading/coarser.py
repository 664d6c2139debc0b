"""A finished attribution in less detail: what the recorder would have kept with a smaller budget."""

import dataclasses

import torch
from torch import Tensor

from ..attribution import HEAD_DETAILS, Attribution, HeadDetail, LayerMaps
from ..half import Half, Precise, full
from ..kinds import KIND_OF
from ..tokens import TokenGrid


def with_heads(attribution: Attribution, heads: HeadDetail) -> Attribution:
    """The attribution with heads in this detail, unless they are in a coarser one already."""
    if HEAD_DETAILS.index(attribution.heads) >= HEAD_DETAILS.index(heads):
        return attribution
    entries = {}
    for (reference, layer), entry in attribution.entries.items():
        grid = attribution.layers[layer].grid
        own = entry.reference_grid or attribution.references[reference].grid
        head_maps: dict[str, Precise] = {}
        if heads != "merged":
            over_steps = entry.head_maps or {key: _over_steps(full(x), entry.seen) for key, x in entry.maps.items()}
            head_maps = {
                key: _over_frames(full(x), own if KIND_OF[key].on_reference else grid)
                if heads == "over steps and frames"
                else x
                for key, x in over_steps.items()
            }
        entries[reference, layer] = dataclasses.replace(
            entry, maps={key: _mean_of_heads(x) for key, x in entry.maps.items()}, head_maps=head_maps
        )
    return dataclasses.replace(attribution, entries=entries, heads=heads)


def in_half_precision(attribution: Attribution) -> Attribution:
    """The attribution with its maps in half precision, those of heads over steps among them."""

    def of(entry: LayerMaps) -> LayerMaps:
        maps, head_maps = ({key: _half(x) for key, x in one.items()} for one in (entry.maps, entry.head_maps))
        return dataclasses.replace(entry, maps=maps, head_maps=head_maps)

    entries = {place: of(entry) for place, entry in attribution.entries.items()}
    return dataclasses.replace(attribution, entries=entries)


def _half(maps: Precise) -> Half:
    return maps if isinstance(maps, Half) else Half.of(maps)


def _mean_of_heads(maps: Precise) -> Precise:
    """``[items, bins, 1, cells]``, in the precision that they have."""
    if maps.shape[2] == 1:
        return maps
    mean = full(maps).mean(2, keepdim=True)
    return Half.of(mean) if isinstance(maps, Half) else mean


def _over_steps(maps: Tensor, seen: Tensor) -> Tensor:
    """``[items, 1, heads, cells]``: the mean in which each step weighs the same."""
    return torch.einsum("b,ibhc->ihc", seen / seen.sum(), maps)[:, None]


def _over_frames(maps: Tensor, grid: TokenGrid | None) -> Tensor:
    frames = 1 if grid is None else grid.frames
    return maps.unflatten(-1, (frames, -1)).mean(-2) if frames > 1 and maps.shape[-1] % frames == 0 else maps
