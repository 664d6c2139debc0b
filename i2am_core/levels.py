"""The levels of I2AM: unified, time, head and layer maps of an attribution, by selection.

A map of a layer is resized bicubically to the largest grid of the selected layers and clamped at 0; only
then are maps averaged (paper, section 3). Steps, layers and heads weigh the same, each within its kind.
A map of a video is the mean of its frames, unless they are asked for one by one.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .attribution import Attribution, Direction, Layer, LayerMaps, Normalization
from .selection import parse_selection
from .tokens import TokenGrid

Level = Literal["unified", "time", "head", "layer", "reference", "frame"]


@dataclass(frozen=True)
class Maps:
    """Maps ``[n, h, w]`` of one level, a label for each, and the scope that G2R was asked in."""

    values: Tensor
    labels: list[str]
    scope: str


def maps(
    attribution: Attribution,
    direction: Direction,
    level: Level = "unified",
    normalization: Normalization = "paper",
    *,
    scope: str = "auto",
    steps: str = "all",
    layers: str = "all",
    heads: str = "all",
    time_groups: int = 5,
    reference: int = 0,
    item: int = 0,
) -> Maps:
    """The maps of ``level``, in the units of ``normalization`` (see ``attention``).

    ``scope`` says which generated positions ask, for G2R: 'whole image', 'inpainting mask', or 'auto', which
    is the mask where the run had one. ``time_groups`` splits the selected steps for the time level; 0
    keeps each apart. Level 'reference' has a map of each reference in place of ``reference``, the strongest
    first; level 'frame' one of each frame of a video's latent. Raises ValueError where the selection is bad or
    nothing was captured for it.
    """
    if level == "reference":
        selection = dict(scope=scope, steps=steps, layers=layers, heads=heads, item=item)
        return _reference_maps(attribution, direction, normalization, selection)
    by_frame = level == "frame"
    selected = _select(attribution, direction, normalization, scope, steps, layers, heads, reference, item, by_frame)
    if level == "unified":
        values, labels = [_mean([_over_heads(_over_bins(x)) for x in selected.layers])], ["unified"]
    elif level == "time":
        values, labels = _time_maps(attribution, selected, time_groups)
    elif level == "head":
        values, labels = _head_maps(attribution, selected)
    elif level == "layer":
        values = [_over_heads(_over_bins(x)) for x in selected.layers]
        labels = [f"layer {x.number}: {x.layer.name}" for x in selected.layers]
    elif level == "frame":
        values, labels = _frame_maps(selected, direction)
    else:
        raise ValueError(f"level '{level}' does not exist: choose unified, time, head, layer, reference or frame.")
    return Maps(torch.cat(values), labels, selected.scope)


def resize(values: Tensor, height: int, width: int) -> Tensor:
    """Bicubic resize of maps ``[..., h, w]``, clamped at 0. Maps of that size pass unchanged."""
    if values.shape[-2:] == (height, width):
        return values
    flat = values.reshape(-1, 1, *values.shape[-2:])
    resized = F.interpolate(flat, size=(height, width), mode="bicubic", align_corners=False)
    return resized.clamp(min=0).reshape(*values.shape[:-2], height, width)


@dataclass(frozen=True)
class _LayerSelection:
    number: int
    layer: Layer
    heads: list[int]
    bins: list[int]  # of the selected bins, those in which the layer was seen
    weights: Tensor  # [bins]
    values: Tensor  # [bins, heads, frames, h, w], resized; one frame, the mean, where they are not told apart


@dataclass(frozen=True)
class _Selection:
    layers: list[_LayerSelection]
    bins: list[int]
    scope: str


def _select(
    attribution: Attribution,
    direction: Direction,
    normalization: Normalization,
    scope: str,
    steps: str,
    layers: str,
    heads: str,
    reference: int,
    item: int,
    by_frame: bool,
) -> _Selection:
    attribution.check_item(item)
    shown = attribution.check_reference(reference)
    if direction == "g2r" and shown.grid is None:
        raise ValueError(
            f"reference {reference} ('{shown.name}') has {shown.tokens} tokens without a spatial layout, so there is "
            "no generated-to-reference map: use the direction 'reference to generated'."
        )
    scope = resolve_scope(attribution, scope, item)
    field = f"{direction}_{normalization}"
    if direction == "g2r" and scope == "inpainting mask":
        field += "_scope"
    bins = select_bins(attribution, steps)
    names = [layer.name for layer in attribution.layers]
    numbers = parse_selection(layers, len(names), "layers", names)
    entries = {n: e for n in numbers if (e := attribution.layer_maps(reference, n)) is not None}
    if direction == "g2r" and shown.grid is not None:
        grids = {n: entry.reference_grid or shown.grid for n, entry in entries.items()}
    else:
        grids = {n: attribution.layers[n].grid for n in entries}
    if not entries:
        raise ValueError(f"the selected layers never looked at reference {reference} ('{shown.name}'): select others.")
    largest = max(grids.values(), key=lambda grid: grid.height * grid.width)
    chosen = []
    for n, entry in entries.items():
        part = _select_layer(attribution, n, entry, field, bins, heads, item, grids[n], largest, by_frame)
        if part is not None:
            chosen.append(part)
    if not chosen:
        raise ValueError(f"nothing was captured in the selected steps ({steps}): select others.")
    return _Selection(chosen, bins, scope)


def _select_layer(
    attribution: Attribution,
    number: int,
    entry: LayerMaps,
    field: str,
    bins: list[int],
    heads: str,
    item: int,
    grid: TokenGrid,
    largest: TokenGrid,
    by_frame: bool,
) -> _LayerSelection | None:
    layer = attribution.layers[number]
    if attribution.heads_kept:
        head_numbers = parse_selection(heads, layer.heads, f"heads in layer '{layer.name}'")
    elif heads.strip().lower() in ("", "all"):
        head_numbers = [0]
    else:
        raise ValueError(
            f"heads cannot be told apart here, only their mean fitted budget_mb: write 'all', not '{heads}'."
        )
    seen = [b for b in bins if entry.seen[b] > 0]
    if not seen:
        return None
    values = entry.maps[field][item][seen][:, head_numbers]
    values = values.unflatten(-1, (grid.frames, grid.height, grid.width))
    values = resize(values if by_frame else values.mean(2, keepdim=True), largest.height, largest.width)
    return _LayerSelection(number, layer, head_numbers, seen, entry.seen[seen], values)


def resolve_scope(attribution: Attribution, scope: str, item: int) -> str:
    """'whole image' or 'inpainting mask', from those or 'auto', which takes the mask where there is one."""
    mask = attribution.denoise_mask
    has_mask = mask is not None and bool((mask[item] > 0).any())
    if scope == "auto":
        return "inpainting mask" if has_mask else "whole image"
    if scope == "inpainting mask" and not has_mask:
        raise ValueError(
            f"this run had no inpainting mask for picture {item}, or an empty one, so scope 'inpainting mask' "
            "has nothing to show: use 'whole image'."
        )
    if scope not in ("whole image", "inpainting mask"):
        raise ValueError(f"scope '{scope}' does not exist: choose auto, whole image or inpainting mask.")
    return scope


def select_bins(attribution: Attribution, steps: str) -> list[int]:
    """The time bins of the selected steps, which must be whole bins."""
    chosen = set(parse_selection(steps, attribution.steps, "steps"))
    bins = [b for b, held in enumerate(attribution.bins) if chosen & set(held)]
    if chosen != {step for b in bins for step in attribution.bins[b]}:
        groups = ", ".join(_numbers_text(b) for b in attribution.bins)
        raise ValueError(
            f"steps '{steps}' cannot be told apart: within budget_mb this attribution kept the groups {groups}. "
            "Select whole groups, or raise budget_mb and sample again."
        )
    return bins


def _time_maps(attribution: Attribution, selected: _Selection, groups: int) -> tuple[list[Tensor], list[str]]:
    if groups < 0:
        raise ValueError(f"time_groups must be 0 (each step apart) or more, got {groups}.")
    count = min(groups, len(selected.bins)) or len(selected.bins)
    values, labels = [], []
    for group in np.array_split(selected.bins, count):
        wanted = set(group.tolist())
        held = [step for b in sorted(wanted) for step in attribution.bins[b]]
        label = (
            f"{'step' if len(held) == 1 else 'steps'} {_numbers_text(held)}, sigma {attribution.sigmas[held[0]]:.3g}"
        )
        parts = [part for x in selected.layers if (part := _restrict(x, wanted)) is not None]
        if parts:
            values.append(_mean([_over_heads(_over_bins(x)) for x in parts]))
        else:
            values.append(torch.zeros(selected.layers[0].values.shape[-3:]))
            label += " (not captured)"
        labels.append(label)
    return values, labels


def _head_maps(attribution: Attribution, selected: _Selection) -> tuple[list[Tensor], list[str]]:
    """Heads are numbered within the layers that share a head count: head 3 of 10 is not head 3 of 20."""
    if not attribution.heads_kept:
        raise ValueError("heads cannot be told apart in this attribution: only their mean fitted budget_mb. Raise it.")
    groups: dict[int, list[_LayerSelection]] = defaultdict(list)
    for x in selected.layers:
        groups[x.layer.heads].append(x)
    values, labels = [], []
    for count, members in groups.items():
        mean = _mean([_over_bins(x) for x in members])  # [heads, 1, h, w]
        where = "1 layer" if len(members) == 1 else f"{len(members)} layers"
        for position, head in enumerate(members[0].heads):
            values.append(mean[position])
            labels.append(f"head {head} of {count} ({where})")
    return values, labels


def _frame_maps(selected: _Selection, direction: Direction) -> tuple[list[Tensor], list[str]]:
    """Frames are those of the latent, of which a video has one for several of its pictures."""
    counts = {x.values.shape[2] for x in selected.layers}
    if counts == {1}:
        what = "the picture" if direction == "r2g" else "the reference"
        raise ValueError(f"level 'frame' is for videos: {what} has a single frame, so choose another level.")
    if len(counts) > 1:
        raise ValueError("the selected layers have different numbers of frames: select layers that share one.")
    values = _mean([_over_heads(_over_bins(x)) for x in selected.layers])
    return [values], [f"frame {n}" for n in range(len(values))]


def _reference_maps(
    attribution: Attribution, direction: Direction, normalization: Normalization, selection: dict[str, Any]
) -> Maps:
    """Which reference wins where: who has the largest share of the attention, in how many cells."""
    if direction != "r2g":
        raise ValueError(
            "level 'reference' compares references on the picture that they act in: use the direction "
            "'reference to generated', or choose one reference and another level."
        )
    names = [layer.name for layer in attribution.layers]
    chosen = parse_selection(selection["layers"], len(names), "layers", names)
    numbers = sorted({reference for reference, layer in attribution.entries if layer in chosen})
    if not numbers:
        raise ValueError("the selected layers never looked at a reference: select others.")
    shares, shown = (
        [maps(attribution, "r2g", "unified", which, reference=n, **selection).values for n in numbers]
        for which in ("share", normalization)
    )
    height, width = max((x.shape[-2:] for x in shares), key=lambda shape: shape[0] * shape[1])
    share, asked = (torch.cat([resize(x, height, width) for x in values]) for values in (shares, shown))
    winner, strength = share.argmax(0), share.mean((1, 2))
    order = strength.argsort(descending=True).tolist()
    labels = [
        f"reference {numbers[n]}: {attribution.references[numbers[n]].name}, share {100 * strength[n]:.2g}%, "
        f"the strongest in {100 * (winner == n).float().mean():.0f}% of the picture"
        for n in order
    ]
    return Maps(asked[order], labels, resolve_scope(attribution, selection["scope"], selection["item"]))


def _restrict(x: _LayerSelection, bins: set[int]) -> _LayerSelection | None:
    keep = [i for i, b in enumerate(x.bins) if b in bins]
    if not keep:
        return None
    return _LayerSelection(x.number, x.layer, x.heads, [x.bins[i] for i in keep], x.weights[keep], x.values[keep])


def _over_bins(x: _LayerSelection) -> Tensor:
    """``[heads, frames, h, w]``: every step weighs the same."""
    weight = x.weights / x.weights.sum()
    return (x.values * weight[:, None, None, None, None]).sum(0)


def _over_heads(values: Tensor) -> Tensor:
    return values.mean(0)


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean(0)


def _numbers_text(numbers: Iterable[int]) -> str:
    """Ascending numbers as they are typed: '0-4,10'."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
