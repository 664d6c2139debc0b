"""Edit models of 2026 with reference latents: captured, steered and measured as by hand, in the real models."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import comfy_extras.nodes_flux as nodes_flux
import pytest
import tiny_edit_models
import tiny_graphs
import torch
from attention_packs import forwards
from by_hand import ByHand
from effect_oracle import Counterfactuals, rms
from effects_of import close, measured
from mechanisms import capture, expected_maps, measure, sampled, steered
from oracle import Oracle
from steered_oracle import Run
from this_core import of_model
from tiny_graphs import Graph

from i2am_pack.i2am_core.effect import Removal
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect

TEXT, PICTURE, FIRST, SECOND = 7, 12, 8, 6  # tokens: of a picture of 4 x 3, and references of 2 x 4 and 3 x 2


@dataclass(frozen=True)
class Family:
    """A tiny model, and the order of what its calls hold: of each kind of call, for its layers."""

    model: str  # in comfy/supported_models.py
    make: Callable[..., Graph]
    orders: Sequence[str]  # of T, the text, R, the references, and I, the picture
    layers: dict[str, str]  # name -> its order
    block: str  # the path of one block, whose attentions are of these layers
    of_block: Sequence[str]
    patch: int = 2

    def places(self, order: str, text: int = TEXT, picture: int = PICTURE, references: Sequence[int] = (FIRST, SECOND)):
        """The columns of each part of a call: of ``T`` and ``I``, and of each reference by its number."""
        counts = {"T": [("T", text)], "I": [("I", picture)], "R": list(enumerate(references))}
        places, start = {}, 0
        for name, count in (part for letter in order for part in counts[letter]):
            places[name] = range(start, start + count)
            start += count
        return places


FAMILIES = {
    "krea2": Family(
        "Krea2", tiny_edit_models.krea2_edit, ["TIR"], {"single 0": "TIR", "single 1": "TIR"}, "blocks.1", ["single 1"]
    ),
    "boogu": Family(
        "Boogu",
        tiny_edit_models.boogu_edit,
        ["TRI", "RI"],
        {
            "double 0": "TRI",
            "double 0 without the text": "RI",
            "double 1": "TRI",
            "double 1 without the text": "RI",
            "single 0": "TRI",
            "single 1": "TRI",
        },
        "double_stream_layers.0",
        ["double 0", "double 0 without the text"],
    ),
    "joyimage": Family(
        "JoyImage",
        tiny_edit_models.joyimage_edit,
        ["IRT"],
        {"double 0": "IRT", "double 1": "IRT"},
        "double_blocks.1",
        ["double 1"],
    ),
    "mage_flow": Family(
        "MageFlow",
        tiny_edit_models.mage_flow_edit,
        ["TIR"],
        {"double 0": "TIR", "double 1": "TIR"},
        "transformer_blocks.0",
        ["double 0"],
        patch=1,
    ),
}
EACH = pytest.mark.parametrize(
    "family", [pytest.param(family, marks=of_model(family.model), id=name) for name, family in FAMILIES.items()]
)


def end(places):
    """How many columns there are."""
    return max(columns.stop for columns in places.values())


def tokens_of(shape, patch):
    height, width = shape[-2:]
    return -(-height // patch) * -(-width // patch)


SHAPES = {
    "one": {},
    "odd sizes, three references": {"size": (7, 5), "lengths": (13, 13), "sizes": ((3, 5), (4, 2), (5, 7))},
    "a batch, guidance in one call": {"batch": 2, "cfg": 3.0},
    "guidance in two calls": {"cfg": 3.0, "lengths": (7, 12)},
    "a negative without references": {"cfg": 3.0, "negative": False},
}


@EACH
@pytest.mark.parametrize("shape", SHAPES)
def test_maps_equal_the_oracle(family, shape):
    graph = family.make(**SHAPES[shape])
    attribution = capture(graph)
    grid = attribution.layers[0].grid
    references = [tokens_of(r.shape, family.patch) for r in graph.references]
    assert grid.cells == tokens_of(graph.latent["samples"].shape, family.patch)
    assert {layer.name: layer.grid for layer in attribution.layers} == dict.fromkeys(family.layers, grid)
    assert [r.tokens for r in attribution.references] == references
    assert [r.name for r in attribution.references] == [f"reference latent {n + 1}" for n in range(len(references))]
    for order in family.orders:
        places = family.places(order, graph.text_tokens, grid.cells, references)
        keys = end(places)
        steps = measure(graph, places["I"], lambda call, keys=keys: call.k.shape[2] == keys)
        for number in range(len(references)):
            assert_layers_equal(attribution, layers_of(family, attribution, order), steps, number, places[number])


def layers_of(family, attribution, order):
    return [n for n, layer in enumerate(attribution.layers) if family.layers[layer.name] == order]


def assert_layers_equal(attribution, layers, steps, reference, columns, gain=None):
    assert len(steps) == attribution.steps
    for step, calls in enumerate(steps):
        assert len(calls) == len(layers)
        for layer, one in zip(layers, calls, strict=True):
            maps = attribution.layer_maps(reference, layer).maps
            for name, values in expected_maps(one, columns, gain).items():
                torch.testing.assert_close(maps[name][:, step].double(), values, atol=2e-5, rtol=1e-3)


def with_a_word_changed(graph):
    graph.positive[0][0] = graph.positive[0][0].clone()
    graph.positive[0][0][:, 4] *= -1


def with_a_cell_changed(graph):
    """Of the second reference: a token in row 1 or 2, column 0 or 1."""
    latents = graph.positive[0][1]["reference_latents"] = [x.clone() for x in graph.references]
    latents[1][..., 2, 1] *= -2


def with_a_cell_of_the_latent_changed(graph):
    graph.latent["samples"][..., 2, 1] = 3


@EACH
def test_a_change_of_one_cell_changes_its_own_column(family):
    """Where each part is, and that its cells are row by row, in the first call that holds all tokens.

    The refiners of Boogu and Krea 2 mix tokens of one part: Boogu's are left out, Krea 2 has one of the text.
    """
    places = family.places(family.orders[0])
    row, column = 2 // family.patch, 1 // family.patch
    changes = {
        with_a_cell_changed: [places[1][row * 2 + column]],
        with_a_cell_of_the_latent_changed: [places["I"][row * 3 + column]],
        with_a_word_changed: [*places["T"]] if family.model == "Krea2" else [places["T"][4]],
    }
    for change, expected in changes.items():
        graph, other = (unrefined(family, family.make()) for _ in range(2))
        graph.latent["samples"] += 1  # the host treats one of zeros in another way
        other.latent["samples"] += 1
        change(other)
        before, after = (first_keys(g, end(places)) for g in (graph, other))
        assert (before != after).any(-1).any(0).nonzero().flatten().tolist() == expected


def unrefined(family, graph):
    if family.model == "Boogu":
        graph.model = tiny_edit_models.boogu(num_refiner_layers=0)
    return graph


def first_keys(graph, keys):
    """Keys ``[H, K, D]`` of the first call with so many, of the positive conditioning."""
    oracle = Oracle()
    graph.sample(oracle.on(graph.model), steps=1, denoise=0.5)
    return next(call.k[-1] for call in oracle.calls if call.k.shape[2] == keys)


@pytest.mark.parametrize(
    ("name", "about"),
    [
        pytest.param("krea2", {"method": None}, marks=of_model("Krea2")),  # the node sets one
        pytest.param("mage_flow", {}, marks=of_model("MageFlow")),
    ],
)
def test_with_a_cache_of_keys_references_are_read_without_being_computed(name, about):
    """FluxKVCache: after the first step they are columns alone."""
    family = FAMILIES[name]
    graph = family.make(**about)
    graph.model = tiny_graphs.run(nodes_flux.FluxKVCache, graph.model)[0]
    attribution, places = capture(graph), family.places("TIR")
    steps = measure(graph, places["I"], lambda call: call.k.shape[2] == end(places))
    for number in range(2):
        assert_layers_equal(attribution, range(2), steps, number, places[number])


# Steering


def left(height, width):
    mask = torch.zeros(1, height, width)
    mask[:, :, : width // 2] = 1
    return mask


STEERED = {  # the node, and the columns and rows by what is where
    "all taken away": ({"strength": 0.0}, lambda p: ByHand(0.0, [*p[0], *p[1]])),
    "all, read directly": (
        {"strength": 3.0, "through": "directly"},
        lambda p: ByHand(3.0, [*p[0], *p[1]], rows=p["I"]),
    ),
    "the second, in one head": (
        {"strength": 0.2, "reference": 1, "heads": "1"},
        lambda p: ByHand(0.2, p[1], heads=[1]),
    ),
    "the left half of the first": (
        {"strength": 0.0, "reference": 0, "reference_region": left(2, 4)},
        lambda p: ByHand(0.0, [p[0][n] for n in (0, 1, 4, 5)]),
    ),
    "output": ({"strength": 0.5, "by": "output"}, lambda p: ByHand(0.5, [*p[0], *p[1]], "output")),
}


@EACH
@pytest.mark.parametrize("case", STEERED)
def test_steering_is_that_by_hand(family, case):
    node, hand = STEERED[case]
    graph = family.make(cfg=3.0)
    by_keys = {end(places): [hand(places)] for places in map(family.places, family.orders)}
    run = Run(lambda queries, keys: by_keys.get(keys, ()) if queries == keys else ())
    expected = graph.sample(run.on(graph.model))["samples"]
    plain, latent = graph.sample()["samples"], graph.sample(steered(graph.model, **node))["samples"]
    assert run.made
    assert (latent - plain).abs().max() > 20 * (latent - expected).abs().max()
    torch.testing.assert_close(latent, expected, rtol=2e-4, atol=2e-5 * max(10, float(expected.abs().max())))


@EACH
def test_a_canvas_is_a_reference_to_what_is_painted(family):
    """Its first column of tokens, in all layers; the others are painted."""
    graph = family.make(sizes=())
    reference = torch.zeros(1, *graph.latent["samples"].shape[-2:])
    reference[..., : reference.shape[-1] // 3] = 1
    marked = 1 - reference, reference
    model, handle = I2AMCapture.execute(graph.model, "canvas regions", "positive", "off", 512, *marked).args
    latent = graph.sample(model)
    assert torch.equal(latent["samples"], graph.sample()["samples"])
    attribution = I2AMCollect.execute(handle, latent).args[0]
    assert {layer.name for layer in attribution.layers} == set(family.layers)
    painted = torch.arange(PICTURE) % 3 > 0
    for order in family.orders:
        places = family.places(order, references=())
        keys = end(places)
        steps = measure(graph, places["I"], lambda call, keys=keys: call.k.shape[2] == keys)
        steps = [calls[-len(layers_of(family, attribution, order)) :] for calls in steps]  # behind the refiners
        columns = [places["I"][n] for n in range(0, PICTURE, 3)]
        assert_layers_equal(attribution, layers_of(family, attribution, order), steps, 0, columns, painted.float())


# Measuring


@EACH
@pytest.mark.parametrize("owner", [0, 1, "all references", "text"])
def test_effects_are_those_by_hand(family, owner):
    graph = family.make(cfg=3.0)
    removals = {
        "everything": taken_away(family, owner, 0.0),
        "directly": taken_away(family, owner, 0.0, rows="I"),
    }
    by_hand = Counterfactuals(taken_away(family, owner, 1.0), removals)
    plain = graph.sample(by_hand.on(graph.model))["samples"]
    effects = measured(graph, plain=plain, probe_steps=2, text=True, routes=tuple(removals)).effects
    assert not effects.unmeasured
    for step in range(2):
        for route in removals:
            close(effects.maps[Removal(step, owner, route)], by_hand.effect(step, route), by_hand.with_[step])


def taken_away(family, owner, strength, rows=None):
    """What an owner's columns count in each kind of call that has them."""
    numbers = {"all references": [0, 1], "text": ["T"]}.get(owner, [owner])
    by_keys = {}
    for places in map(family.places, family.orders):
        columns = [column for number in numbers for column in places.get(number, ())]
        by_keys[end(places)] = [ByHand(strength, columns, rows=rows and places[rows])] if columns else []
    return lambda queries, keys: by_keys.get(keys, ()) if queries == keys else ()


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(FAMILIES[name], marks=of_model(FAMILIES[name].model), id=name)
        for name in FAMILIES
        if name != "boogu"
    ],
)
def test_taking_the_last_away_is_what_the_host_does_without_it(family):
    """Of Boogu, the picture's place is behind its references: without one, the host runs another way."""
    graph, sizes = family.make(cfg=3.0), [tuple(r.shape[-2:]) for r in family.make().references]
    by_hand = Counterfactuals(lambda queries, keys: ())
    plain = graph.sample(by_hand.on(graph.model))["samples"]
    without = Counterfactuals(lambda queries, keys: (), at=by_hand.noisy)
    other = family.make(cfg=3.0, sizes=tuple(sizes[:1]))
    other.sample(without.on(other.model))
    effects = measured(graph, plain=plain, probe_steps=2).effects
    close(effects.maps[Removal(1, 1)], rms(by_hand.with_[1], without.with_[1]), by_hand.with_[1])


# Blocks


@EACH
def test_a_block_of_another_pack_is_lost_alone_and_named(family):
    graph = family.make()
    whole = {layer.name for layer in capture(graph).layers}
    graph.model = forwards.calls_original(graph.model, family.block)
    assert {layer.name for layer in capture(graph).layers} == whole == set(family.layers)
    graph.model = replaced(graph.model, family.block)
    _, attribution = sampled(graph)
    assert {layer.name for layer in attribution.layers} == whole - set(family.of_block)
    assert sum(n for reason, n in attribution.skipped.items() if "replaced.<locals>.forward" in reason) == 2 * len(
        family.of_block
    )
    with pytest.raises(ValueError, match="attention that was not observed"):
        graph.sample(steered(graph.model, 0.0))


def replaced(model, path):
    """A block that hands on what it was given: no attention is made in it."""
    key = f"diffusion_model.{path}.forward"

    def forward(*args, **kwargs):
        if "encoder_hidden_states" in kwargs:
            streams = kwargs["hidden_states"], kwargs["encoder_hidden_states"]
            return streams if "temb" in kwargs and "Joy" in type(block).__name__ else streams[::-1]
        return args[:2] if "Double" in type(block).__name__ else args[0]

    model = model.clone()
    block = model.get_model_object(f"diffusion_model.{path}")
    model.add_object_patch(key, forward)
    return model


# What is said where nothing was captured


@pytest.mark.parametrize(
    ("name", "node"),
    [
        pytest.param("boogu", "TextEncodeBooguEdit", marks=of_model("Boogu")),
        pytest.param("joyimage", "TextEncodeJoyImageEdit", marks=of_model("JoyImage")),
        pytest.param("mage_flow", "TextEncodeMageFlowEdit", marks=of_model("MageFlow")),
    ],
)
def test_an_image_that_may_be_in_the_text_alone_is_offered(name, node):
    """Their nodes give it to the language model, and make a latent of it where a VAE is connected."""
    graph = FAMILIES[name].make(sizes=())
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512).args
    with pytest.raises(ValueError, match=f"what {node} makes of an image is part of the text.*connect the VAE as well"):
        I2AMCollect.execute(handle, graph.sample(model))


@pytest.mark.parametrize("method", [pytest.param("index_timestep_zero", marks=of_model("Krea2"))])
def test_krea_2_has_its_references_in_the_same_places_by_each_method(method):
    attribution = capture(tiny_edit_models.krea2_edit(method=method))
    assert [r.tokens for r in attribution.references] == [FIRST, SECOND]
    assert {layer.name for layer in attribution.layers} == {"single 0", "single 1"}


@of_model("Krea2")
def test_krea_2_reads_no_references_without_a_method_and_that_is_said():
    graph = tiny_edit_models.krea2_edit(method=None)
    assert torch.equal(
        graph.sample()["samples"], tiny_edit_models.krea2_edit(sizes=(), method=None).sample()["samples"]
    )
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512).args
    latent = graph.sample(model)
    with pytest.raises(ValueError, match=r"ignores it \(this model reads them only where a method .*FluxKontextMulti"):
        I2AMCollect.execute(handle, latent)
    with pytest.raises(ValueError, match="FluxKontextMultiReferenceLatentMethod"):
        graph.sample(steered(graph.model, 0.0))


@of_model("Krea2")
def test_without_references_the_text_of_krea_2_alone_is_measured():
    graph = tiny_edit_models.krea2_edit(sizes=(), method=None)
    effects = measured(graph, probe_steps=1, text=True).effects
    assert effects.owners == ["text"]
