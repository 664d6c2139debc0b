"""How maps were read and pair maps averaged on commit 8e54b74: an oracle for the code that came after.

A trimmed copy that imports nothing of the pack: it works on the fields of any attribution. What differs since
then is the order of means: maps were clamped for each step, head and layer before they were averaged, and pair maps
were means over calls instead of steps.
"""

import numpy as np
import torch
import torch.nn.functional as F


def resize(values, height, width):
    """Bicubic, clamped at 0; a map of that size passes unchanged."""
    if values.shape[-2:] == (height, width):
        return values
    flat = values.reshape(-1, 1, *values.shape[-2:])
    resized = F.interpolate(flat, size=(height, width), mode="bicubic", align_corners=False)
    return resized.clamp(min=0).reshape(*values.shape[:-2], height, width)


class Layer:
    """The maps of one layer, clamped for each step and head: ``values [bins, heads, frames, h, w]``."""

    def __init__(self, number, heads, bins, weights, values):
        self.number, self.heads, self.bins, self.weights, self.values = number, heads, bins, weights, values

    def over_bins(self):
        weight = self.weights / self.weights.sum()
        return (self.values * weight[:, None, None, None, None]).sum(0)

    def mean(self):
        return self.over_bins().mean(0)

    def restricted(self, bins):
        keep = [i for i, b in enumerate(self.bins) if b in bins]
        return Layer(self.number, self.heads, [self.bins[i] for i in keep], self.weights[keep], self.values[keep])


def maps(a, direction, level="unified", normalization="paper", scoped=False, reference=0, item=0, **chosen):
    """``levels.maps`` for levels unified, time, head, layer and frame; ``chosen``: bins, layers, heads, time_groups."""
    bins = chosen.get("bins", list(range(len(a.bins))))
    layers = select(a, direction, normalization, scoped, reference, item, bins, chosen, level == "frame")
    if level == "unified":
        return mean_of([x.mean() for x in layers])
    if level == "frame":
        return mean_of([x.mean() for x in layers])
    if level == "layer":
        return torch.cat([x.mean() for x in layers])
    if level == "time":
        count = min(chosen.get("time_groups", 5), len(bins)) or len(bins)
        return torch.cat([of_group(layers, set(group.tolist())) for group in np.array_split(bins, count)])
    groups = {}
    for x in layers:
        groups.setdefault(a.layers[x.number].heads, []).append(x)
    return torch.cat([mean_of([x.over_bins() for x in members])[:, 0] for members in groups.values()])


def of_group(layers, bins):
    parts = [part for x in layers if (part := x.restricted(bins)).bins]
    return mean_of([x.mean() for x in parts]) if parts else torch.zeros(layers[0].values.shape[-3:])


def mean_of(values):
    return torch.stack(values).mean(0)


def select(a, direction, normalization, scoped, reference, item, bins, chosen, by_frame):
    field = f"{direction}_{normalization}" + ("_scope" if scoped else "")
    entries = {n: e for (r, n), e in sorted(a.entries.items()) if r == reference}
    entries = {n: e for n, e in entries.items() if n in chosen.get("layers", entries)}
    grids = {
        n: a.layers[n].grid if direction == "r2g" else e.reference_grid or a.references[reference].grid
        for n, e in entries.items()
    }
    largest = max(grids.values(), key=lambda grid: grid.height * grid.width)
    layers = []
    for n, entry in entries.items():
        seen = [b for b in bins if entry.seen[b] > 0]
        if not seen:
            continue
        heads = chosen.get("heads", list(range(entry.maps[field].shape[2])))
        values = entry.maps[field][item][seen][:, heads]
        values = values.unflatten(-1, (grids[n].frames, grids[n].height, grids[n].width))
        values = values if by_frame else values.mean(2, keepdim=True)
        layers.append(Layer(n, heads, seen, entry.seen[seen], resize(values, largest.height, largest.width)))
    return layers


def specific(a, cells, direction, reference=0, item=0):
    """``specific.specific`` for all layers; ``cells(grid)`` is the region on a grid, ``[cells]`` boolean."""
    by_layer = []
    for (r, n), entry in sorted(a.entries.items()):
        if r != reference or not entry.pairs:
            continue
        grid, reference_grid = a.layers[n].grid, entry.reference_grid or a.references[reference].grid
        if direction == "g2r":
            in_region = cells(grid)[entry.pair_rows]
            values, on = entry.pairs["g2r_pairs"][item][in_region].mean(0), reference_grid
        else:
            values, on = torch.zeros(grid.cells, dtype=entry.pairs["r2g_pairs"].dtype), grid
            values[entry.pair_rows] = entry.pairs["r2g_pairs"][item][:, cells(reference_grid)].mean(1)
        by_layer.append(values.unflatten(0, (on.frames, on.height, on.width)).mean(0))
    height, width = max((x.shape for x in by_layer), key=lambda shape: shape[0] * shape[1])
    return mean_of([resize(x, height, width) for x in by_layer])


def sheet(a, direction, normalization, scoped, reference, item, groups):
    """The viewer's rows of the mean of all layers: over everything, and for each group of bins (all heads)."""
    layers = select(a, direction, normalization, scoped, reference, item, list(range(len(a.bins))), {}, False)
    return torch.cat([of_group(layers, set(group)) for group in [range(len(a.bins)), *groups]])


def pairs_of_calls(calls):
    """What a recorder kept of the pair maps ``[items, A, M]`` of all calls, in whatever steps they were."""
    return torch.stack(list(calls)).mean(0)
