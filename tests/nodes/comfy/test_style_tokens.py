"""Tokens that a style node adds to the text: tagged, or guessed where their number allows, and said to be a guess."""

import comfy_extras.nodes_flux as nodes_flux
import pytest
import tiny_graphs
import torch
from mechanisms import assert_maps_equal, capture, measure
from selected import maps

import nodes as comfyui_nodes
from i2am_pack.i2am_core import TokenGrid
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.tag_reference import I2AMTagReference


def before_style(graph, text=7):
    tokens, about = graph.positive[0]
    return [[tokens[:, :text], about]]


def tag(graph, image=None, text=7):
    graph.positive = I2AMTagReference.execute(before_style(graph, text), graph.positive, image).args[0]
    return graph


@pytest.mark.parametrize("strength", [0.7, 1.0])
@pytest.mark.parametrize("images", [1, 2])
def test_redux_by_multiplication_equals_the_oracle(strength, images):
    graph = tag(tiny_graphs.flux_redux(strength=strength, images=images))
    check(graph, images)


@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_redux_by_a_bias_on_attention_equals_the_oracle(strength):
    """The bias on the reference's columns is part of every softmax."""
    check(tag(tiny_graphs.flux_redux_bias(strength=strength)), 1)


def test_redux_in_a_batch_with_guidance():
    check(tag(tiny_graphs.flux_redux(batch=2, cfg=3.0)), 1)


def check(graph, images):
    attribution = capture(graph)
    assert attribution.mechanism == "style tokens" and not any("guess" in note for note in attribution.notes)
    assert [r.grid for r in attribution.references] == [TokenGrid(27, 27)] * images
    columns = 7 + 729 * images
    steps = measure(graph, range(columns, columns + 12))
    for number in range(images):
        assert_maps_equal(attribution, steps, number, range(7 + 729 * number, 7 + 729 * (number + 1)))


def test_redux_beside_reference_latents():
    graph = tiny_graphs.with_references(tag(tiny_graphs.flux_redux()), 5, ((4, 8),))
    attribution = capture(graph)
    assert [r.name for r in attribution.references] == ["reference latent 1", "style tokens"]
    steps = measure(graph, range(736, 748))
    assert_maps_equal(attribution, steps, 0, range(748, 756))
    assert_maps_equal(attribution, steps, 1, range(7, 736))
    result = maps(attribution, "r2g", "reference", "share")
    assert result.values.shape[0] == 2 and ", share " in result.labels[0]


@pytest.mark.parametrize(
    ("count", "grid"),
    [
        *((13 * 13, TokenGrid(13, 13)), (9 * 9, TokenGrid(9, 9)), (5 * 5, TokenGrid(5, 5))),
        *((30, None), (9 * 16, None), (14 * 14, None), (4, None), (1, None), (2 * 81, None)),
    ],
)
def test_other_numbers_of_tokens(count, grid):
    """AdvancedReflux makes fewer patches of an image, and packs what a mask leaves over: 9 x 16 are no 12 x 12."""
    graph = tiny_graphs.flux_text()
    text, about = graph.positive[0]
    graph.positive = [[torch.cat([text, tiny_graphs.noise(9, 1, count, text.shape[2])], 1), about]]
    attribution = capture(tag(graph))
    assert [(r.tokens, r.grid, r.approximate) for r in attribution.references] == [(count, grid, grid is not None)]
    guesses = [note for note in attribution.notes if note.startswith("a guess:")]
    assert [str(grid) in note and "If it was given a mask" in note for note in guesses] == [True] * (grid is not None)
    assert not attribution.references[0].alone
    assert_maps_equal(attribution, measure(graph, range(7 + count, 19 + count)), 0, range(7, 7 + count))


def test_whole_images_are_no_guess():
    attribution = capture(tag(tiny_graphs.flux_redux(images=2)))
    assert [(r.grid, r.approximate) for r in attribution.references] == [(TokenGrid(27, 27), False)] * 2
    assert not any("guess" in note for note in attribution.notes)


def test_tags_survive_nodes_that_come_after():
    graph = tag(tiny_graphs.flux_redux())
    longer = comfyui_nodes.ConditioningConcat().concat(graph.positive, tiny_graphs.flux_text(text=8).positive)[0]
    graph.positive = tiny_graphs.run(nodes_flux.FluxGuidance, longer, 2.5)[0]
    attribution = capture(graph)
    assert_maps_equal(attribution, measure(graph, range(743, 755)), 0, range(7, 736))


def test_the_token_that_differs_has_the_most_at_its_cell():
    """All tokens of the style alike but one: so are their maps."""
    graph = tiny_graphs.flux_redux()
    graph.positive[0][0][:, 7:] = graph.positive[0][0][:, 7:8]
    graph.positive[0][0][:, 7 + 5 * 27 + 11] = tiny_graphs.noise(3, 1, graph.positive[0][0].shape[2])
    attribution = capture(tag(graph))
    for layer in range(len(attribution.layers)):
        used = maps(attribution, "g2r", layers=str(layer)).values[0]
        others = used.flatten()[torch.arange(729) != 5 * 27 + 11]
        torch.testing.assert_close(others, others.mean().expand(728), rtol=1e-4, atol=0)
        assert (used[5, 11] - others.mean()).abs() > 0.01 * others.mean()


def test_without_a_tag_the_place_is_a_guess_and_says_so():
    graph = tiny_graphs.flux_redux(lengths=(256, 7))
    attribution = capture(graph)
    assert any(note.startswith("a guess:") for note in attribution.notes)
    assert [r.name for r in attribution.references] == ["style tokens (a guess)"]
    assert_maps_equal(attribution, measure(graph, range(985, 997)), 0, range(256, 985))


def test_a_longer_prompt_cannot_be_guessed():
    graph = tiny_graphs.flux_redux(lengths=(300, 7))
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512).args
    with pytest.raises(ValueError, match="attention in which I2AM knows no reference"):
        I2AMCollect.execute(handle, graph.sample(model))


def test_the_reference_image_comes_along():
    graph = tag(tiny_graphs.flux_redux(), torch.rand(1, 40, 60, 3))
    attribution = capture(graph)
    assert attribution.pictures["reference 0"].shape == (40, 40, 3)


def test_bad_input_gets_a_sentence():
    graph = tiny_graphs.flux_redux()
    before = before_style(graph)
    with pytest.raises(ValueError, match="is not conditioning_before"):
        I2AMTagReference.execute(graph.positive, before)
    with pytest.raises(ValueError, match="is not conditioning_before"):
        I2AMTagReference.execute([[before[0][0] + 1, {}]], graph.positive)
    with pytest.raises(ValueError, match="has 1 entries and conditioning_before has 2"):
        I2AMTagReference.execute(before * 2, graph.positive)
    with pytest.raises(ValueError, match=r"got 2 images for 1 reference"):
        I2AMTagReference.execute(before, graph.positive, torch.rand(2, 8, 8, 3))
