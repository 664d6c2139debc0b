"""One token with nothing to compete with: a softmax over one key is 1, so that there is nothing to see."""

import json

import pytest
import tiny_graphs
import torch
from mechanisms import assert_maps_equal, capture, measure
from selected import maps

from i2am_pack.i2am_core import ALONE, load, save
from i2am_pack.nodes.comfy.tags import KEY, tag
from i2am_pack.nodes.imacs import I2AMIMACS
from i2am_pack.nodes.maps import I2AMMaps
from i2am_pack.nodes.viewer import I2AMViewer

SCORE = dict(scope="auto", penalty=3.0, threshold=0.4, steps="all", layers="all", heads="all", reference=0, item=0)
LEVELS = ["unified", "time", "head", "layer", "reference"]


def one_token(graph, text=0):
    """As Paint by Example: the conditioning is CLIP's one token of the reference, here behind ``text`` others."""
    tokens, about = graph.positive[0]
    width, own = tokens.shape[2], tiny_graphs.noise(5, 1, 1, tokens.shape[2])
    both = torch.cat([tiny_graphs.noise(6, 1, text, width), own], 1)
    graph.positive = [[both, about | {KEY: [tag("the reference", text, own, None)]}]]
    return graph


@pytest.fixture(scope="module")
def alone():
    return capture(one_token(tiny_graphs.sd15_text()))


def drawn(attribution, level, normalization):
    """Heat and labels of I2AM Maps."""
    _, _, heat, labels = I2AMMaps.execute(
        attribution, "reference to generated", level, normalization, "auto", "all", "all", "all", 0, 0, 0, "jet",
        "each map", 0.5,
    ).args  # fmt: skip
    return heat, labels.splitlines()


@pytest.mark.parametrize("normalization", ["paper", "share"])
@pytest.mark.parametrize("level", LEVELS)
def test_nothing_is_drawn_of_one_token_alone(alone, level, normalization):
    heat, labels = drawn(alone, level, normalization)
    assert not heat.any() and all(ALONE in label and label.endswith(", flat") for label in labels)
    values = maps(alone, "r2g", level, normalization).values
    assert ((values.amax((1, 2)) - values.amin((1, 2))) <= 1e-5 * values.amax((1, 2))).all()
    if normalization == "share":
        torch.testing.assert_close(values, torch.ones_like(values))


def test_it_is_said_everywhere(alone, tmp_path):
    assert alone.references[0].alone and ALONE in alone.summary()
    mask = torch.zeros(1, alone.grid.height * 8, alone.grid.width * 8)
    mask[:, : mask.shape[1] // 2] = 1
    score, _, report = I2AMIMACS.execute(alone, **SCORE, inpainting_mask=mask).args
    assert score != score  # not a number
    assert json.loads(report)["r2g"]["score"] is None and json.loads(report)["r2g"]["reason"] == ALONE
    assert I2AMViewer.execute(alone, mask=mask).ui["i2am_view"]
    save(alone, tmp_path / "alone.i2am.safetensors")
    assert load(tmp_path / "alone.i2am.safetensors").references == alone.references


def test_beside_other_tokens_it_is_a_reference_as_any(alone):
    """The logits of one of several keys do change what it gets."""
    graph = one_token(tiny_graphs.sd15_text(), text=3)
    attribution = capture(graph)
    assert not attribution.references[0].alone and ALONE not in attribution.summary()
    assert drawn(attribution, "unified", "paper")[0].any() and drawn(attribution, "unified", "share")[0].any()


def test_in_joint_attention_it_competes_with_the_text_and_the_picture():
    graph = tiny_graphs.flux_text()
    tokens, about = graph.positive[0]
    own = tiny_graphs.noise(5, 1, 1, tokens.shape[2])
    graph.positive = [[torch.cat([tokens, own], 1), about | {KEY: [tag("style", tokens.shape[1], own, None)]}]]
    attribution = capture(graph)
    place = tokens.shape[1]
    assert not attribution.references[0].alone
    assert_maps_equal(attribution, measure(graph, range(place + 1, place + 13)), 0, range(place, place + 1))
    assert drawn(attribution, "unified", "paper")[0].any()
