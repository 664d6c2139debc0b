"""The order of means: every level is exactly the mean of another before the one clamp; and what this changed."""

import dataclasses
from pathlib import Path

import old_arithmetic
import pytest
import torch
from recorded import BIG_BUDGET, COARSE, FINE, HEADS, record

from i2am_core import Layer, MapKind, Selection, maps
from i2am_core.files import load
from i2am_core.kinds import UNSCOPED
from i2am_core.reading.levels import unclamped
from i2am_core.reading.specific import specific
from i2am_core.reading.specific import unclamped as specific_unclamped
from i2am_core.regions import cells_of
from i2am_core.showing.view import view

LAYERS = [Layer("fine", FINE, HEADS), Layer("coarse", COARSE, HEADS)]
FIXTURES = sorted((Path(__file__).resolve().parents[1] / "fixtures" / "attributions").glob("*.safetensors"))
RIGHT = (torch.arange(12) > 6).expand(12, 12).float()
EXACT = dict(rtol=1e-12, atol=1e-15)
ROUNDING = dict(rtol=1e-5, atol=1e-7)


def in_64_bits(attribution, steep=False):
    """The same maps as float64; where ``steep``, one cell in seven keeps its value, others in each step and head."""
    entries = {}
    for place, entry in attribution.entries.items():
        made = {}
        for name, values in entry.maps.items():
            bins, heads, cells = (torch.arange(n) for n in values.shape[1:])
            there = (cells + 3 * bins[:, None, None] + 2 * heads[:, None] + sum(place)) % 7 == 0
            made[name] = torch.where(there, values.double(), 0) if steep else values.double()
        pairs = {name: values.double() for name, values in entry.pairs.items()}
        entries[place] = dataclasses.replace(entry, maps=made, pairs=pairs)
    return dataclasses.replace(attribution, entries=entries)


@pytest.fixture(scope="module")
def steep():
    torch.manual_seed(0)
    return in_64_bits(record(LAYERS)[0], steep=True)


def merged(attribution, bins=1, heads=False):
    """What a recorder with less memory keeps: neighbouring bins joined, and the mean of heads."""
    count = len(attribution.bins) // bins
    groups = [range(n * bins, (n + 1) * bins) for n in range(count)]
    entries = {}
    for place, entry in attribution.entries.items():
        made = {}
        for name, values in entry.maps.items():
            values = torch.stack([values[:, list(group)].mean(1) for group in groups], 1)
            made[name] = values.mean(2, keepdim=True) if heads else values
        seen = torch.stack([entry.seen[list(group)].sum() for group in groups])
        entries[place] = dataclasses.replace(entry, maps=made, seen=seen)
    joined = tuple(range(attribution.bins[g[0]].start, attribution.bins[g[-1]].stop) for g in groups)
    return dataclasses.replace(attribution, entries=entries, bins=joined, heads="merged" if heads else "in each step")


@pytest.mark.parametrize("kind", UNSCOPED, ids=lambda kind: kind.key)
def test_levels_are_means_of_one_another(steep, kind):
    unified = unclamped(steep, kind).values[0]
    time = unclamped(steep, kind, "time", time_groups=3).values  # of 4, 3 and 3 steps
    weighted = sum(part * n / 10 for part, n in zip(time, (4, 3, 3), strict=True))
    torch.testing.assert_close(weighted, unified, **EXACT)
    layers = unclamped(steep, kind, "layer").values
    torch.testing.assert_close(layers.mean(0), unified, **EXACT)
    torch.testing.assert_close(unclamped(steep, kind, "head").values.mean(0), unified, **EXACT)
    torch.testing.assert_close(maps(steep, kind).values[0], unified.clamp(min=0), **EXACT)


@pytest.mark.parametrize("kind", UNSCOPED, ids=lambda kind: kind.key)
@pytest.mark.parametrize(("bins", "heads"), [(2, False), (5, False), (1, True), (10, True)])
def test_merging_bins_or_heads_changes_nothing(steep, kind, bins, heads):
    less = merged(steep, bins, heads)
    for level in ("unified", "layer"):
        torch.testing.assert_close(maps(less, kind, level).values, maps(steep, kind, level).values, **EXACT)


def test_merging_used_to_change_steep_maps(steep):
    """What it was on the run of a model is said below."""
    kind = MapKind("r2g")
    before, after = (old_arithmetic.maps(a, "r2g") for a in (steep, merged(steep, 10, heads=True)))
    new = maps(steep, kind).values
    each = [Selection(steps=str(n), layers="coarse,fine") for n in range(len(steep.bins))]
    heads = [unclamped(steep, kind, "head", one).values for one in each]
    assert min(x.min() for x in heads) < 0
    for one, x in zip(each, heads, strict=True):
        assert torch.equal(maps(steep, kind, "head", one).values, x.clamp(min=0))
    assert 0.01 < difference(before, after) < 0.5
    assert difference(new, maps(merged(steep, 10, heads=True), kind).values) < 1e-12


def difference(one, other):
    """The largest, as a part of the map's maximum."""
    return ((one - other).abs().max() / other.max()).item()


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.name.split(".")[0])
def test_maps_are_those_of_the_old_arithmetic_where_nothing_was_below_zero(path):
    """Of every kept attribution, in every level: equal where no step or head was clamped, else within its size."""
    attribution = load(path)
    clamped = 0.0
    for reference, described in enumerate(attribution.references):
        for kind in UNSCOPED:
            if kind.on_reference and described.grid is None:
                continue
            selection = Selection(reference=reference, item=attribution.items - 1)
            resolved = selection.of(attribution)
            scoped = resolved.kind(kind).scoped
            place = dict(reference=reference, item=attribution.items - 1)
            for level in ("unified", "time", "head", "layer"):
                old = old_arithmetic.maps(attribution, kind.direction, level, kind.normalization, scoped, **place)
                new = maps(attribution, kind, level, selection).values
                clamped = max(clamped, difference(new, old))
                if len({grid(attribution, kind, reference, n) for n in resolved.layers}) == 1:
                    torch.testing.assert_close(new, old, **ROUNDING)  # nothing was resized
    assert clamped < 0.1


def grid(attribution, kind, reference, layer):
    if kind.on_reference:
        grid = attribution.entries[reference, layer].reference_grid or attribution.references[reference].grid
        return grid.height, grid.width
    return attribution.layers[layer].grid.height, attribution.layers[layer].grid.width


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.name.split(".")[0])
def test_regions_and_the_viewer_follow(path):
    attribution = load(path)
    seen = view(attribution, BIG_BUDGET)
    for reference, described in enumerate(attribution.references):
        resolved = Selection(reference=reference).of(attribution)
        paired = [n for n in resolved.layers if attribution.entries[reference, n].pairs]
        sizes = {attribution.layers[n].grid.cells for n in paired}
        if paired and described.grid is not None:
            for direction in ("g2r", "r2g"):
                new = specific(attribution, RIGHT, direction, Selection(reference=reference)).values
                old = old_arithmetic.specific(attribution, lambda g: cells_of(RIGHT, g), direction, reference)
                raw = specific_unclamped(attribution, RIGHT, direction, Selection(reference=reference)).values
                torch.testing.assert_close(new, raw.clamp(min=0))
                if len(sizes) == 1:
                    torch.testing.assert_close(new, old, **ROUNDING)
        low, high = seen.tensors[f"range/0/{reference}/all/r2g_paper"][0]
        row = low + seen.tensors[f"maps/0/{reference}/all/r2g_paper"][0].float() / 255 * (high - low)
        exact = maps(attribution, MapKind("r2g"), selection=Selection(reference=reference)).values[0]
        torch.testing.assert_close(row, exact, rtol=0, atol=(high - low).item() / 500 + 1e-7)


def test_what_the_clamp_changed_in_a_run_of_a_unet():
    """A kept run whose layers have several grids: then, one number for all steps and heads gave another map."""
    attribution = load(next(path for path in FIXTURES if path.name.startswith("canvas_regions")))
    whole = merged(attribution, len(attribution.bins), heads=True)
    old = difference(old_arithmetic.maps(attribution, "r2g"), old_arithmetic.maps(whole, "r2g"))
    new = difference(maps(attribution, MapKind("r2g")).values, maps(whole, MapKind("r2g")).values)
    assert 0.005 < old < 0.05  # of the map's maximum: 0.9 %
    assert new < 1e-6
