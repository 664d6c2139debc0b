"""Effects whose every number is known, made by hand and put into an attribution: what nodes are checked against."""

import dataclasses

import torch

from i2am_pack.i2am_core import Attribution, Effects, Reference, RegionEffects, Removal, TokenGrid

MEASURED = (0, 2, 3)  # the steps, of five
FLOOR = 1e-3
CHANNELS = 48  # of the demo model
LARGEST = {0: 1.0, 2: 2.0, 3: 0.5}  # of an owner's effect in each of these steps
SCALES = {0: 1.0, 1: 0.5, "all references": 1.5, "text": 3.0}
REGIONS = TokenGrid(2, 3)
REGIONS_STEP = 2
SECOND = Reference("coat", 4, None, "second")


def noise(seed, *shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def measured(attribution, owners=(0,), routes=("everything",), regions=("taken away",), predicted=MEASURED):
    """The same attribution with effects of these owners: random ones, by LARGEST and SCALES."""
    items, grid = attribution.items, attribution.grid
    maps = {
        Removal(step, owner, route): noise(10 * step + n + 100 * m, items, grid.cells)
        * LARGEST[step]
        * SCALES.get(owner, 1.0)
        for step in MEASURED
        for n, owner in enumerate(owners)
        for m, route in enumerate(routes)
    }
    of_regions = {
        (0, cut): RegionEffects(REGIONS_STEP, routes[0], REGIONS, noise(n, items, REGIONS.cells, grid.cells))
        for n, cut in enumerate(regions)
    }
    shape = (items, CHANNELS, *((grid.frames,) if grid.frames > 1 else ()), grid.height, grid.width)
    predictions = {
        (step, owner): noise(1000 + step + 10 * n, *shape).half()
        for step in predicted
        for n, owner in enumerate((None, *owners))
    }
    effects = Effects(maps, torch.full((items, grid.cells), FLOOR), of_regions, predictions, {}, 9, 1.5)
    return dataclasses.replace(attribution, effects=effects)


def with_second(attribution):
    """The same, as if another reference had been given, which has no layout and which nothing reads."""
    return dataclasses.replace(attribution, references=(*attribution.references, SECOND))


def without_attention(attribution):
    """The same, as if nothing of attention had been observed."""
    return dataclasses.replace(attribution, references=(), layers=(), entries={}, captured_calls=0, mechanism="")


def with_effects(attribution, **changes):
    """The same with some fields of its effects changed."""
    return dataclasses.replace(attribution, effects=dataclasses.replace(attribution.effects, **changes))


def video(frames=3) -> Attribution:
    """An attribution of one video, with no attention and no mask."""
    return Attribution((), (), {}, tuple(range(n, n + 1) for n in range(5)), tuple(range(5, -1, -1)), 1, "merged",
                       TokenGrid(4, 6, frames=frames))  # fmt: skip
