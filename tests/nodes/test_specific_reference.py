"""I2AM Specific Reference over a real attribution."""

import pytest
import torch
import workflow
from asked import specific

from i2am_pack.i2am_core.showing import render
from i2am_pack.nodes.specific_reference import I2AMSpecificReference

DEFAULTS = dict(
    direction="generated to reference", steps="all", layers="all", heads="all", reference=0, item=0,
    colormap="jet", opacity=0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def graph():
    return workflow.make(batch=2)


@pytest.fixture(scope="module")
def attribution(graph):
    return graph.attribution(steps=4)


def answer(attribution, region, **changes):
    return I2AMSpecificReference.execute(attribution, region, **DEFAULTS | changes).args


def test_what_is_drawn_is_the_map(graph, attribution):
    region = graph.scene["mask"]
    overlay, heatmap, mask = answer(attribution, region, item=1, layers="output 3.0", image=graph.scene["reference"])
    values = specific(attribution, region[1], "g2r", layers="5", item=1).values
    torch.testing.assert_close(mask, render.heat(values[None], (64, 64)))
    torch.testing.assert_close(overlay, render.overlay(graph.scene["reference"][1:], heatmap, 0.5))


def test_the_other_direction_takes_a_region_of_the_reference(graph, attribution):
    _, heatmap, _ = answer(attribution, graph.scene["reference_mask"], direction="reference to generated")
    assert heatmap.shape == (1, 512, 512, 3)


@pytest.mark.parametrize(
    ("region", "changes", "message"),
    [
        (torch.zeros(1, 64, 64), {}, "the region is empty"),
        (torch.ones(1, 64, 96), {}, "the generated picture's mask is 96x64"),
        (torch.ones(3, 64, 64), {}, r"a batch of 3 masks for 2 generated picture\(s\)"),
        (torch.ones(1, 64, 64), dict(steps="0-1"), "means over steps and heads"),
        (torch.ones(1, 64, 64), dict(layers="9"), "6 layers, numbered 0 to 5"),
    ],
)
def test_bad_input_is_one_clear_sentence(attribution, region, changes, message):
    with pytest.raises(ValueError, match=message):
        answer(attribution, region, **changes)


def test_without_pair_maps(graph):
    with pytest.raises(ValueError, match="set pair_maps of I2AM Capture"):
        answer(graph.attribution(pair_maps="off"), torch.ones(1, 64, 64))
