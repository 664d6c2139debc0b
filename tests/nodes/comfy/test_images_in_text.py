"""Images that a language model reads among its text: where their tokens are is proved, and they are references."""

import inspect

import comfy.text_encoders.qwen_vl as qwen_vl
import pytest
import tiny_graphs
import tiny_qwen_images as tiny
import torch
from by_hand import ByHand
from effect_oracle import Counterfactuals
from effects_of import close, measured
from mechanisms import assert_maps_equal, capture, measure, steered
from steered_oracle import Run
from tiny_graphs import TinyVAE

import nodes as comfyui_nodes
from i2am_pack.i2am_core import TokenGrid
from i2am_pack.i2am_core.effect import Removal
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.tag_reference import I2AMTagReference

IN_ROWS = "reverse" in inspect.getsource(qwen_vl.Qwen2VLVisionTransformer.forward)  # else in windows, up to 0.3.75
LABEL = "Picture 1: "
PATCH = 28  # px of the picture that the language model gets, a side of one of its tokens


@pytest.fixture(scope="module")
def clip():
    return tiny.qwen_clip()


def tagged(graph, clip, **inputs):
    """With the images in its text tagged."""
    named = dict(zip(("image", "image2", "image3"), graph.references, strict=False))
    graph.positive = I2AMTagReference.execute(graph.positive, graph.positive, clip=clip, **named | inputs).args[0]
    return graph


def columns_of(start, height, width):
    """The columns of an image's tokens, cell by cell: written here from what the model's class says of its windows."""
    cells = [(y, x) for y in range(height) for x in range(width)]
    in_order = cells if IN_ROWS else sorted(cells, key=lambda cell: (cell[0] // 4, cell[1] // 4, *cell))
    place = {cell: start + n for n, cell in enumerate(in_order)}
    return [place[cell] for cell in cells]


def places(clip):
    """Of the two images of Plus: behind a label and the token that begins an image; one more ends it."""
    label = len(clip.tokenizer.qwen25_7b.tokenizer(LABEL)["input_ids"])
    first = label + 1
    second = first + 14 * 14 + 1 + label + 1
    return columns_of(first, *tiny.GRIDS[0]), columns_of(second, *tiny.GRIDS[1])


# Where they are


@pytest.mark.parametrize("prompt", ["", "a cat", "put the hat of the second image on the cat " * 9])
def test_two_images_equal_the_oracle(clip, prompt):
    graph = tagged(tiny.qwen_plus(clip, prompt), clip)
    attribution = capture(graph)
    assert attribution.mechanism == "images in the text"
    assert [(r.name, r.grid) for r in attribution.references] == [
        (f"image {n} in the text", TokenGrid(*grid)) for n, grid in enumerate(tiny.GRIDS, 1)
    ]
    text = graph.positive[0][0].shape[1]
    steps = measure(graph, range(text, text + 12))
    for number, columns in enumerate(places(clip)):
        assert_maps_equal(attribution, steps, number, columns)


def test_one_image_equals_the_oracle(clip):
    graph = tagged(tiny.qwen_one(clip), clip)
    attribution = capture(graph, steps=1)
    assert [(r.name, r.grid) for r in attribution.references] == [("image 1 in the text", TokenGrid(37, 37))]
    text = graph.positive[0][0].shape[1]
    steps = measure(graph, range(text, text + 12), steps=1)
    assert_maps_equal(attribution, steps, 0, columns_of(1, 37, 37))


def test_beside_the_same_images_as_reference_latents(clip):
    """The VAE makes latents of them, which are references of their own."""
    graph = tagged(tiny.qwen_plus(clip, vae=TinyVAE(16, 1, 128)), clip)
    attribution = capture(graph)
    assert [r.name for r in attribution.references] == [
        *("reference latent 1", "reference latent 2", "image 1 in the text", "image 2 in the text")
    ]
    text = graph.positive[0][0].shape[1]
    steps = measure(graph, range(text, text + 12))
    first = attribution.references[0].tokens
    end = text + 12 + first + attribution.references[1].tokens
    latents = range(text + 12, text + 12 + first), range(text + 12 + first, end)
    for number, columns in enumerate([*latents, *places(clip)]):
        assert_maps_equal(attribution, steps, number, columns)


@pytest.mark.parametrize("alike", [True, False])
def test_in_a_batch_with_guidance(clip, alike):
    """The negative text is as long, so that both are one call; or it is not, and they are two."""
    graph = tagged(tiny.qwen_plus(clip, batch=2, cfg=3.0), clip)
    if alike:
        graph.negative = comfyui_nodes.ConditioningZeroOut().zero_out(graph.positive)[0]
    attribution = capture(graph)
    text = graph.positive[0][0].shape[1]
    steps = measure(graph, range(text, text + 12))
    assert steps[0][0].weights.shape[0] == 2
    for number, columns in enumerate(places(clip)):
        assert_maps_equal(attribution, steps, number, columns)


@pytest.fixture(scope="module")
def unmixed():
    """Each token holds what is in its own place alone: neither eyes nor language model attend to others."""
    clip = tiny.qwen_clip()
    encoder = clip.cond_stage_model.qwen25_7b.transformer
    for block in encoder.visual.blocks:
        block.attn.proj.weight.zero_()
        block.attn.proj.bias.zero_()
    for layer in encoder.model.layers:
        layer.self_attn.o_proj.weight.zero_()
    return clip


@pytest.mark.parametrize("cell", [(0, 0), (1, 5), (7, 9), (13, 13)])
def test_a_cell_is_where_the_image_changes_its_token(unmixed, cell):
    """What is painted into the middle of one cell changes the token at its place, and no other."""
    images = [torch.full((1, 384, 384, 3), 0.5) for _ in range(2)]
    y, x = (int((n + 0.5) * 384 / 14) for n in cell)
    images[1][:, y - 5 : y + 5, x - 5 : x + 5, 0] = 1
    plain, painted = (
        tiny_graphs.run(tiny.nodes_qwen.TextEncodeQwenImageEditPlus, unmixed, "", image1=image)[0] for image in images
    )
    changed = (plain[0][0] != painted[0][0]).any(-1)[0].nonzero().flatten().tolist()
    (tag,) = I2AMTagReference.execute(painted, painted, images[1], unmixed).args[0][0][1]["i2am_references"]
    cells = tag.get("cells", torch.arange(14 * 14)).tolist()
    here = cell[0] * 14 + cell[1]
    assert changed == [tag["start"] + cells.index(here)] == [columns_of(6, 14, 14)[here]]


# What a person gets


def test_the_summary_says_what_the_words_hold(clip):
    attribution = capture(tagged(tiny.qwen_plus(clip), clip), steps=1)
    summary = attribution.summary()
    assert "the language model has read 'image 1 in the text', 'image 2 in the text' before the words behind" in summary
    assert "196 tokens of 'image 1 in the text' in the text, tagged: captured (by images in the text)" in summary
    assert attribution.pictures["reference 1"].shape == (48, 96, 3)


def test_tags_survive_nodes_that_come_after(clip):
    graph = tagged(tiny.qwen_plus(clip), clip)
    graph.positive = comfyui_nodes.ConditioningConcat().concat(graph.positive, tiny_graphs.flux_text(text=8).positive)[
        0
    ]
    attribution = capture(graph)
    text = graph.positive[0][0].shape[1]
    assert_maps_equal(attribution, measure(graph, range(text, text + 12)), 1, places(clip)[1])


def test_a_second_image_without_a_first(clip):
    """Its number is that of its input, and the label in the text is another."""
    graph = tiny.qwen_plus(clip, sizes=())
    image = tiny.images()[1]
    graph.positive = tiny_graphs.run(tiny.nodes_qwen.TextEncodeQwenImageEditPlus, clip, "a cat", image2=image)[0]
    attribution = capture(tagged(graph, clip, image2=image), steps=1)
    assert [(r.name, r.grid) for r in attribution.references] == [("image 2 in the text", TokenGrid(*tiny.GRIDS[1]))]


# Steer and Effect


def by_hand(clip, text, strength, number):
    hands = [ByHand(strength, places(clip)[number])]
    return lambda queries, keys: hands if keys == text + 12 else ()


@pytest.mark.parametrize(("strength", "number"), [(0.0, 1), (3.0, 0)])
def test_steered_is_steered_by_hand(clip, strength, number):
    graph = tagged(tiny.qwen_plus(clip), clip)
    text = graph.positive[0][0].shape[1]
    latent = graph.sample(steered(graph.model, strength, reference=number))["samples"]
    run = Run(by_hand(clip, text, strength, number))
    expected, plain = graph.sample(run.on(graph.model))["samples"], graph.sample()["samples"]
    assert run.made
    assert (latent - plain).abs().max() > 20 * (latent - expected).abs().max()
    torch.testing.assert_close(latent, expected, rtol=2e-4, atol=2e-5 * max(10, float(expected.abs().max())))


def test_a_region_on_the_image_is_steered_there(clip):
    graph = tagged(tiny.qwen_plus(clip), clip)
    text = graph.positive[0][0].shape[1]
    region = torch.zeros(1, 14, 14)
    region[:, 5:, 3:] = 1
    columns = [c for c, inside in zip(places(clip)[0], region.flatten(), strict=True) if inside]
    latent = graph.sample(steered(graph.model, 0.0, reference=0, reference_region=region))["samples"]
    run = Run(lambda queries, keys: [ByHand(0.0, columns)] if keys == text + 12 else ())
    expected, plain = graph.sample(run.on(graph.model))["samples"], graph.sample()["samples"]
    assert (latent - plain).abs().max() > 20 * (latent - expected).abs().max()


def test_its_effect_is_that_by_hand(clip):
    graph = tagged(tiny.qwen_plus(clip), clip)
    text = graph.positive[0][0].shape[1]
    hand = Counterfactuals(
        lambda queries, keys: [ByHand(1.0, [])] if keys == text + 12 else (),
        {n: by_hand(clip, text, 0.0, n) for n in range(2)},
    )
    plain = graph.sample(hand.on(graph.model))["samples"]
    effects = measured(graph, plain=plain, probe_steps=2).effects
    for number in range(2):
        close(effects.maps[Removal(1, number)], hand.effect(1, number), hand.with_[1])


# What is not proved is refused


def refused(graph, clip, match, **inputs):
    with pytest.raises(ValueError, match=match):
        tagged(graph, clip, **inputs)


def test_other_images_are_refused(clip):
    graph = tiny.qwen_plus(clip)
    graph.references = tiny.images(seed=30)
    refused(graph, clip, "cannot prove where the image is.*makes other tokens of it, which differ by")
    graph.references = tiny.images()[::-1]
    refused(graph, clip, "cannot prove where the image is")
    named = capture(tagged(tiny.qwen_plus(clip), clip, image2=None), steps=1).references
    assert [r.name for r in named] == ["image 1 in the text"]  # what comes behind it changes nothing in it


def test_a_conditioning_that_was_changed_is_refused(clip):
    graph = tiny.qwen_plus(clip)
    graph.positive = comfyui_nodes.ConditioningZeroOut().zero_out(graph.positive)[0]
    refused(graph, clip, "and its conditioning before anything changes it")


def test_a_text_without_images_is_refused(clip):
    graph = tiny.qwen_plus(clip, sizes=())
    graph.references = tiny.images()
    refused(graph, clip, "makes 399 tokens up to the last image, and the conditioning has")


def test_bad_input_gets_a_sentence(clip):
    graph = tiny.qwen_plus(clip, sizes=())
    refused(graph, clip, "a clip is connected, but no image")
    refused(graph, None, "connect the clip of the text encode node", image3=tiny.images()[0])
    refused(graph, object(), "this clip takes no images", image=tiny.images()[0])


# Without a tag


def test_without_a_tag_it_is_said_what_may_be_in_the_text(clip):
    graph = tiny.qwen_plus(clip)
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512).args
    with pytest.raises(ValueError, match="place I2AM Tag Reference after it, with the same clip and image; or connect"):
        I2AMCollect.execute(handle, graph.sample(model))


def test_beside_reference_latents_too_where_the_text_is_long_enough(clip):
    summary = capture(tiny.qwen_plus(clip, vae=TinyVAE(16, 1, 128)), steps=1).summary()
    assert "perhaps given: tokens of an image, among the 407 of the text (what TextEncodeQwenImageEdit makes" in summary
    assert "If an image is connected there, place I2AM Tag Reference after it, with the same clip and image" in summary
    assert "perhaps given" not in capture(tiny_graphs.qwen_edit(), steps=1).summary()
