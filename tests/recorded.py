"""Attributions whose maps are known, recorded the way a sampler does it."""

import torch

from i2am_core import Place, Positions, Recorder, Reference, TokenGrid, attribute, span

STEPS, HEADS, ITEMS = 10, 3, 2
FINE, COARSE = TokenGrid(6, 4), TokenGrid(3, 2)
REFERENCE = Reference("reference", 12, TokenGrid(3, 4))
BIG_BUDGET = 2**30


def record(layers, budget=BIG_BUDGET, calls_per_step=1, masked=True, steps=STEPS):
    """Random attention at every layer and step; returns the attribution and what each call gave."""
    recorder = Recorder(torch.linspace(10, 0, steps + 1), ITEMS, budget)
    number = recorder.reference(REFERENCE)
    given = {}
    for step in range(steps):
        for _ in range(calls_per_step):
            for layer in layers:
                cells = layer.grid.cells
                q, k = torch.randn(ITEMS, layer.heads, cells, 8), torch.randn(ITEMS, layer.heads, 20, 8)
                scope = (torch.arange(cells) % 2 == 0).expand(ITEMS, cells) if masked else None
                rows = torch.arange(cells) if recorder.pairs_fit(number, layer, cells, REFERENCE.tokens) else None
                (m,) = attribute(
                    q, k, [span("reference", 5, REFERENCE.grid)], positions=Positions(scope=scope, pair_rows=rows)
                )
                recorder.add(Place(layer, step, number), m, rows)
                given.setdefault((layer, step), []).append(m)
    mask = torch.ones(ITEMS, 6, 4) if masked else None
    return recorder.freeze(grid=FINE, denoise_mask=mask), given
