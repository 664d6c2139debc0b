"""Qwen-Image-Layered: a picture in layers, and the one that it is taken apart from as a reference latent.

The pinned ComfyUI has no such model; its token order there: ``test_layers_of_qwen_image_are_frames``.
"""

import pytest
from by_hand import ByHand
from effect_oracle import Counterfactuals
from effects_of import close, measured
from mechanisms import assert_maps_equal, capture, measure, steered
from steered_oracle import Run
from this_core import of_model

from i2am_pack.i2am_core import TokenGrid
from i2am_pack.i2am_core.effect import Removal

pytestmark = of_model("EmptyQwenImageLayeredLatentImage", "comfy_extras.nodes_qwen")


def layered(**shape):
    import tiny_layered

    return tiny_layered.layered(**shape)


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"size": (6, 10), "lengths": (13, 13), "sizes": ((3, 5), (5, 7))},
        {"batch": 2, "cfg": 3.0},
        {"cfg": 3.0, "lengths": (7, 12)},
        {"method": "index_timestep_zero"},
        {"method": "offset"},
    ],
)
def test_reference_latents_equal_the_oracle(shape):
    graph = layered(**shape)
    attribution = capture(graph)
    height, width = graph.latent["samples"].shape[-2:]
    grid = TokenGrid(height // 2, width // 2, 3)
    assert {layer.grid for layer in attribution.layers} == {grid}
    counts = [-(-r.shape[-2] // 2) * -(-r.shape[-1] // 2) for r in graph.references]
    assert [r.tokens for r in attribution.references] == counts
    first = graph.text_tokens + grid.cells
    steps = measure(graph, range(graph.text_tokens, first))
    for number, count in enumerate(counts):
        assert_maps_equal(attribution, steps, number, range(first, first + count))
        first += count


def by_hand(strength, columns):
    return lambda queries, keys: [ByHand(strength, columns)] if keys == 7 + 36 + 12 else ()


def test_steered_is_steered_by_hand():
    graph = layered(cfg=3.0)
    latent = graph.sample(steered(graph.model, 0.0))["samples"]
    run = Run(by_hand(0.0, range(43, 55)))
    expected, plain = graph.sample(run.on(graph.model))["samples"], graph.sample()["samples"]
    assert run.made and (latent - plain).abs().max() > 20 * (latent - expected).abs().max()


def test_its_effect_is_that_by_hand():
    graph = layered(cfg=3.0)
    hand = Counterfactuals(by_hand(1.0, []), {0: by_hand(0.0, range(43, 55))})
    plain = graph.sample(hand.on(graph.model))["samples"]
    effects = measured(graph, plain=plain, probe_steps=2).effects
    close(effects.maps[Removal(1, 0)], hand.effect(1, 0), hand.with_[1])
