"""LongCat-Image-Edit: reference latents behind the picture, and the image in its text, which is no T5's."""

import pytest
import tiny_longcat
from by_hand import ByHand
from effect_oracle import Counterfactuals
from effects_of import close, measured
from mechanisms import assert_maps_equal, capture, measure, steered
from steered_oracle import Run
from this_core import of_model

from i2am_pack.i2am_core import TokenGrid
from i2am_pack.i2am_core.effect import Removal
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.tag_reference import I2AMTagReference

SHAPES = [
    {},
    {"size": (7, 5), "lengths": (13, 13)},
    {"batch": 2, "cfg": 3.0},
    {"cfg": 3.0, "lengths": (7, 12)},
    {"cfg": 3.0, "negative": False},
]


@pytest.mark.parametrize("shape", SHAPES)
def test_reference_latents_equal_the_oracle(shape):
    graph = tiny_longcat.longcat_edit(**shape)
    attribution = capture(graph)
    height, width = graph.latent["samples"].shape[-2:]
    assert attribution.mechanism == "reference latents"
    assert [layer.name for layer in attribution.layers] == ["double 0", "double 1", "single 0", "single 1"]
    assert [r.grid for r in attribution.references] == [TokenGrid(2, 4), TokenGrid(3, 2)]
    first = graph.text_tokens + -(-height // 2) * -(-width // 2)
    steps = measure(graph, range(graph.text_tokens, first))
    assert_maps_equal(attribution, steps, 0, range(first, first + 8))
    assert_maps_equal(attribution, steps, 1, range(first + 8, first + 14))


def by_hand(strength, columns):
    return lambda queries, keys: [ByHand(strength, columns)] if keys == 33 else ()


def test_steered_is_steered_by_hand():
    graph = tiny_longcat.longcat_edit(cfg=3.0)
    latent = graph.sample(steered(graph.model, 0.0, reference=1))["samples"]
    run = Run(by_hand(0.0, range(27, 33)))
    expected, plain = graph.sample(run.on(graph.model))["samples"], graph.sample()["samples"]
    assert run.made and (latent - plain).abs().max() > 20 * (latent - expected).abs().max()


def test_its_effect_is_that_by_hand():
    graph = tiny_longcat.longcat_edit(cfg=3.0)
    hand = Counterfactuals(by_hand(1.0, []), {0: by_hand(0.0, range(19, 27))})
    plain = graph.sample(hand.on(graph.model))["samples"]
    effects = measured(graph, plain=plain, probe_steps=2).effects
    close(effects.maps[Removal(1, 0)], hand.effect(1, 0), hand.with_[1])


@pytest.mark.parametrize("tokens", [256 + 729, 512 + 2])
def test_its_text_is_never_taken_for_redux(tokens):
    """A text of a language model may have any length, and no style model is made for it."""
    graph = tiny_longcat.longcat_long_text(tokens)
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512).args
    with pytest.raises(ValueError, match="TextEncodeQwenImageEdit") as refusal:
        I2AMCollect.execute(handle, graph.sample(model))
    assert "style model" not in str(refusal.value)


@of_model("LongCatImage")
def test_the_image_in_the_text_equals_the_oracle():
    clip = tiny_longcat.longcat_clip()
    graph = tiny_longcat.longcat_by_clip(clip)
    graph.positive = I2AMTagReference.execute(graph.positive, graph.positive, graph.references[0], clip).args[0]
    attribution = capture(graph, steps=1)
    assert [(r.name, r.tokens) for r in attribution.references] == [
        ("reference latent 1", 8),
        ("image 1 in the text", 37 * 37),
    ]
    text = graph.text_tokens
    assert text == 1 + 37 * 37 + 1 + 512
    steps = measure(graph, range(text, text + 12), steps=1)
    assert_maps_equal(attribution, steps, 0, range(text + 12, text + 20))
    assert_maps_equal(attribution, steps, 1, range(1, 1 + 37 * 37))
