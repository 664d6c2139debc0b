"""Z-Image Omni: reference latents before the picture, in the refiner of latents too, and SigLIP's tokens of each."""

import dataclasses
import re

import pytest
import tiny_graphs
import tiny_z_image_omni as tiny
import torch
from by_hand import ByHand
from effect_oracle import Counterfactuals
from effects_of import close, measured
from mechanisms import capture, expected_maps, measure, steered
from steered_oracle import Run
from this_core import of_model

from i2am_pack.i2am_core import TokenGrid
from i2am_pack.i2am_core.effect import Removal
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.comfy.located import CallSite, ModelCall, Regions, Skip
from i2am_pack.nodes.comfy.token_orders import sequence_of
from i2am_pack.nodes.comfy.token_orders.lumina import siglip_groups

omni = of_model("TextEncodeZImageOmni", "comfy_extras.nodes_zimage")
TEXTS = 32 + 32 + 32 + 64  # of two references, the conditioning's own of 7, and 35 left over
SIGLIP = 32 + 32 + 32  # 15 and 8 of the references, and none of the picture
LATENTS = 32 + 32 + 32  # 8 and 6 of the references, and 12 of the picture: as many as SIGLIP
NAMES = ["reference latent 1", "reference latent 2", "image 1 through CLIP vision", "image 2 through CLIP vision"]
GRIDS = [TokenGrid(2, 4), TokenGrid(3, 2), TokenGrid(3, 5), TokenGrid(2, 4)]


def check(attribution, number, layer, calls, columns):
    """All maps of a reference in a layer, in each step, against the weights on its columns of that call."""
    for step, measured_call in enumerate(calls):
        for name, values in expected_maps(measured_call, columns).items():
            got = attribution.layer_maps(number, layer).maps[name][:, step].double()
            torch.testing.assert_close(got, values, atol=2e-5, rtol=1e-3)


def calls_of(graph, texts, siglip):
    """Of each layer, its calls in each step: the refiner of latents, then two layers over all tokens."""
    first = texts + siglip
    refiner = measure(graph, range(64, 76), lambda call: call.k.shape[2] == LATENTS)  # SigLIP's, if any, is before it
    layers = measure(graph, range(first + 64, first + 76), lambda call: call.k.shape[2] == first + LATENTS)
    return [[step[-1] for step in refiner], *([step[n] for step in layers] for n in range(2))]


@omni
@pytest.mark.parametrize(
    ("shape", "texts"),
    [
        ({}, TEXTS),
        ({"cfg": 3.0, "lengths": (40, 7)}, TEXTS + 32),
        ({"batch": 2, "cfg": 3.0, "contexts": (3, 4)}, TEXTS - 64),  # with one left over, ComfyUI fails on batches
    ],
)
def test_every_reference_equals_the_oracle(shape, texts):
    graph = tiny.z_image_omni(**shape)
    attribution = capture(graph)
    assert [(r.name, r.grid) for r in attribution.references] == list(zip(NAMES, GRIDS, strict=True))
    assert [layer.name for layer in attribution.layers] == ["noise refiner 0", "block 0", "block 1"]
    refiner, *layers = calls_of(graph, texts, SIGLIP)
    for number, start in enumerate((0, 32)):
        columns = range(start, start + GRIDS[number].cells)
        check(attribution, number, 0, refiner, columns)
        for layer, calls in enumerate(layers, 1):
            check(attribution, number, layer, calls, [texts + SIGLIP + column for column in columns])
    for number, start in ((2, texts), (3, texts + 32)):
        assert attribution.layer_maps(number, 0) is None
        for layer, calls in enumerate(layers, 1):
            check(attribution, number, layer, calls, range(start, start + GRIDS[number].cells))


@omni
def test_without_siglip_in_the_model():
    """A model without the layers for it reads nothing of what CLIP vision gives."""
    graph = tiny.z_image_omni(siglip=False, contexts=(3,))
    attribution = capture(graph)
    assert [r.name for r in attribution.references] == NAMES[:2]
    texts = 32 + 32 + 32  # of the first reference, an empty one for the second, and the conditioning's own
    refiner, *layers = calls_of(graph, texts, 0)
    for number, start in enumerate((0, 32)):
        columns = range(start, start + GRIDS[number].cells)
        check(attribution, number, 0, refiner, columns)
        for layer, calls in enumerate(layers, 1):
            check(attribution, number, layer, calls, [texts + column for column in columns])
    assert (
        "images through CLIP vision: this model ignores it (this model has no part that reads it)"
        in attribution.summary()
    )


@omni
def test_without_a_vae_the_model_reads_neither():
    graph = tiny.z_image_omni(sizes=())
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512).args
    ignored = re.escape("CLIP vision: this model ignores it (it is read only where there is a reference latent as well")
    with pytest.raises(ValueError, match=ignored):
        I2AMCollect.execute(handle, graph.sample(model))


@omni
def test_the_summary_says_what_was_captured():
    summary = capture(tiny.z_image_omni()).summary()
    assert "given: 2 reference latents: captured (by reference latents)" in summary
    assert "given: images through CLIP vision: captured (by vision tokens)" in summary
    assert "unknown" not in summary


def by_hand(strength, number):
    """A reference counts otherwise: a latent in the refiner of latents, too, where it is columns of its own."""
    start, cells = (0, 32)[number % 2], GRIDS[number].cells
    first = TEXTS + SIGLIP if number < 2 else TEXTS
    calls = 0

    def steers(queries, keys):
        nonlocal calls
        if keys == TEXTS + SIGLIP + LATENTS:
            return [ByHand(strength, range(first + start, first + start + cells))]
        if keys != LATENTS:
            return ()
        calls += 1  # SigLIP's refiner is before that of latents
        return [ByHand(strength, range(start, start + cells))] if calls % 2 == 0 and number < 2 else ()

    return steers


@omni
@pytest.mark.parametrize("number", [0, 3])
def test_steered_is_steered_by_hand(number):
    graph = tiny.z_image_omni()
    latent = graph.sample(steered(graph.model, 0.0, reference=number))["samples"]
    run = Run(by_hand(0.0, number))
    expected, plain = graph.sample(run.on(graph.model))["samples"], graph.sample()["samples"]
    assert run.made and (latent - plain).abs().max() > 20 * (latent - expected).abs().max()


@omni
def test_effects_are_those_by_hand():
    graph = tiny.z_image_omni()
    hand = Counterfactuals(
        lambda queries, keys: [ByHand(1.0, [])] if keys in (LATENTS, TEXTS + SIGLIP + LATENTS) else (),
        {number: by_hand(0.0, number) for number in (1, 2)},
    )
    plain = graph.sample(hand.on(graph.model))["samples"]
    effects = measured(graph, plain=plain, probe_steps=2).effects
    for number in (1, 2):
        close(effects.maps[Removal(1, number)], hand.effect(1, number), hand.with_[1])


# On every core: the order of tokens, by the lengths that are seen in the real model


def call_site(layer, tokens):
    return CallSite(layer, "", tokens, tokens, heads=4, grid=None, k=torch.empty(1, 4, tokens, 64))


def model_call(siglip=True, **conditions):
    model = tiny_graphs.z_image_text().model.model
    model.diffusion_model.siglip_embedder = torch.nn.Identity() if siglip else None
    return ModelCall(0, (), model, torch.Size((1, 16, 8, 6)), 7, conditions, {}, Regions())


REFERENCES = {
    "ref_latents": [torch.zeros(1, 16, 4, 8), torch.zeros(1, 16, 6, 4)],
    "ref_contexts": [torch.zeros(1, count, 12) for count in (3, 4, 35)],
    "siglip_feats": [torch.zeros(1, 3, 5, 10), torch.zeros(1, 2, 4, 10)],
}


def test_the_order_of_its_tokens():
    call = model_call(**REFERENCES)
    sequence = sequence_of(call_site("block 0", TEXTS + SIGLIP + LATENTS), call)
    assert sequence.text == slice(64, 71) and len(sequence.all_text) == TEXTS
    assert [group.index for group in siglip_groups(call)] == [slice(160, 175), slice(192, 200)]
    assert [group.index for group in sequence.references] == [slice(256, 264), slice(288, 294)]
    assert sequence.picture == sequence.queries == slice(320, 332)
    assert [group.grid for group in (*sequence.references, *siglip_groups(call))] == GRIDS


def test_its_refiners_are_known_by_name_where_their_lengths_are_alike():
    call = model_call(**REFERENCES)
    refined = sequence_of(call_site("noise refiner 0", LATENTS), call)
    assert [group.index for group in refined.references] == [slice(0, 8), slice(32, 38)]
    assert refined.picture == slice(64, 76) and len(refined.all_text) == 0
    for layer, tokens in (("siglip refiner 0", SIGLIP), ("context refiner 0", TEXTS)):
        skip = sequence_of(call_site(layer, tokens), call)
        assert isinstance(skip, Skip) and skip.absent


def test_lengths_that_do_not_fit_are_refused():
    call = model_call(**REFERENCES)
    for layer, tokens in (("block 0", LATENTS), ("block 0", TEXTS + LATENTS), ("noise refiner 0", LATENTS + 32)):
        assert "tokens, which are not" in sequence_of(call_site(layer, tokens), call).reason


def test_fewer_texts_and_images_than_latents():
    few = dataclasses.replace(model_call(), conditions={"ref_latents": REFERENCES["ref_latents"]})
    sequence = sequence_of(call_site("block 0", 96 + 96 + LATENTS), few)
    assert sequence.text == slice(64, 71) and sequence.picture == slice(256, 268)
    assert siglip_groups(few) == ()


def test_without_latents_the_others_are_not_read():
    call = model_call(**{name: REFERENCES[name] for name in ("ref_contexts", "siglip_feats")})
    assert sequence_of(call_site("block 0", 64), call).references == ()
    assert siglip_groups(call) == ()
