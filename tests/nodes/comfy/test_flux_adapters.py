"""IP-Adapter for Flux: the maps are softmaxes over its own tokens, times what the pack multiplies them with.

With a stand-in of the pack's contract; on the real pack: ``tests/nodes/packs/test_flux_packs.py``.
"""

import flux_adapter_runs as runs
import pytest
import tiny_graphs
from flux_adapters_standin import StandIn

PACK = StandIn()
GRAPHS = {
    "text": lambda: tiny_graphs.flux_text(),
    "a batch": lambda: tiny_graphs.flux_text(batch=2),
    "odd cells": lambda: tiny_graphs.flux_text(size=(7, 5)),
    "guidance in one call": lambda: tiny_graphs.flux_text(cfg=3.0),
    "guidance in two calls": lambda: tiny_graphs.flux_text(cfg=3.0, lengths=(7, 13)),
    "beside two reference latents": lambda: tiny_graphs.flux_kontext(),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_the_maps_are_the_weights_times_the_gain(case):
    runs.check_maps(PACK, GRAPHS[case]())
