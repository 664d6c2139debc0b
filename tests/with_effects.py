"""Attributions with effects that are known: every value is drawn, and none of a run."""

import dataclasses

import torch
from selected import core_of

FLOOR = 1e-4


def with_effects(attribution, steps=(0, 2), owners=(0, 1, "text"), routes=("everything",), regions=(2, 3), cuts=None):
    """The attribution, with effects of some owners in some steps, and of regions of the first reference."""
    core = core_of(attribution)
    items, grid = attribution.items, attribution.grid
    cuts = ("taken away", "only this left") if cuts is None else cuts

    def drawn(*shape):
        return torch.rand(items, *shape, grid.cells) + 0.1

    effects = core.Effects(
        {core.Removal(step, owner, route): drawn() for step in steps for owner in owners for route in routes},
        drawn() * FLOOR,
        {(0, cut): core.RegionEffects(steps[0], routes[0], core.TokenGrid(*regions), drawn(6)) for cut in cuts},
        {(step, owner): predicted(items, grid) for step in steps for owner in (None, *owners)},
        {"all references together": "out of memory"},
        evaluations=17,
        seconds=1.5,
    )
    return dataclasses.replace(attribution, effects=effects)


def predicted(items, grid, channels=4):
    frames = (grid.frames,) if grid.frames > 1 else ()
    return torch.randn(items, channels, *frames, grid.height, grid.width)


def without_attention(attribution, references=True):
    """Its effects alone, as of a model whose attention reads no reference."""
    references = attribution.references if references else ()
    return dataclasses.replace(
        attribution,
        references=references,
        layers=(),
        entries={},
        captured_calls=0,
        skipped={},
        row_sums={},
        mechanism="",
        pictures={name: x for name, x in attribution.pictures.items() if references or "reference" not in name},
        notes=("no mechanism reads a reference in this model",),
    )
