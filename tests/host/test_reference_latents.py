"""Reference latents in joint attention: the maps are those of an independent oracle, and the picture stays."""

import pytest
import tiny_graphs
from mechanisms import assert_maps_equal, capture, measure
from this_core import layer_names

from i2am_pack.i2am_core import TokenGrid


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"size": (7, 5), "lengths": (13, 13)},
        {"batch": 2, "cfg": 3.0},
        {"cfg": 3.0, "lengths": (7, 12)},
        {"cfg": 3.0, "negative": False},
        {"method": "uxo/uno"},
    ],
)
def test_flux_kontext_equals_the_oracle(shape):
    graph = tiny_graphs.flux_kontext(**shape)
    attribution = capture(graph)
    height, width = graph.latent["samples"].shape[-2:]
    text, grid = graph.text_tokens, TokenGrid(-(-height // 2), -(-width // 2))
    assert [layer.name for layer in attribution.layers] == layer_names("double 0", "double 1", "single 0", "single 1")
    assert {layer.grid for layer in attribution.layers} == {grid}
    assert [r.grid for r in attribution.references] == [TokenGrid(2, 4), TokenGrid(3, 2)]
    first = text + grid.cells
    steps = measure(graph, range(text, first))
    assert_maps_equal(attribution, steps, 0, range(first, first + 8))
    assert_maps_equal(attribution, steps, 1, range(first + 8, first + 14))
