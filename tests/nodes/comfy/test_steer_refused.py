"""Where I2AM Steer refuses a run, in which words, and that nothing is left of it then."""

import comfy.model_management
import comfy_extras.nodes_easycache as nodes_easycache
import given_graphs
import pytest
import tiny_graphs
import torch
from attention_packs import forwards, transformers
from mechanisms import steered
from steered_graphs import kontext

from i2am_pack.nodes.comfy.consumers.steer import ROW_COUPLING


def untouched(graph, plain):
    """Nothing of ours is left: the model samples as before."""
    denoiser = graph.model.model.diffusion_model
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in denoiser.modules())
    assert torch.equal(graph.sample()["samples"], plain)


def sage_attention(attention, *args, **kwargs):
    """A stand-in for a pack's override, which is known by its name."""
    return attention(*args, **kwargs)


def with_override(model):
    model = model.clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = sage_attention
    return model


def remembers(model):
    """A pack that gives the denoiser's last answer again, and says so nowhere."""
    answers = {}

    def answer(executor, x, *args, **kwargs):
        if x.shape not in answers:
            answers[x.shape] = executor(x, *args, **kwargs)
            return answers[x.shape]
        return answers[x.shape]

    model = model.clone()
    model.add_wrapper_with_key("diffusion_model", "speed", answer)
    return model


def easy_cache(model):
    node = nodes_easycache.EasyCacheNode
    return tiny_graphs.run(node, model, 0.2, 0.0, 1.0, False)[0]


REFUSED = {
    "a block of another pack": (
        lambda model: transformers.replaces_blocks(model, [("double_block", 1)]),
        {},
        "attention that was not observed: it ran in ",
    ),
    "a forward of another pack": (
        lambda model: forwards.without(model, "double_blocks.1"),
        {},
        "cannot steer this run",
    ),
    "an override that mixes rows": (with_override, {}, "sage_attention of .*whose kernel mixes rows"),
    "a cache of ComfyUI": (easy_cache, {}, "the node behind 'easycache' is a cache by its name"),
    "a cache by its name": (transformers.answers_from_a_cache, {}, "the node behind 'cache' is a cache by its name"),
    "a cache of a pack": (remembers, {}, "the model did not run 4 of its blocks in a later step"),
    "attention of a pack": (
        lambda model: transformers.adds_to_blocks(model, [("double_block", 1)]),
        {},
        "attention that .* makes, in place of the model's own or beside it",
    ),
    "a block that runs twice": (
        lambda model: transformers.runs_twice(model, [("double_block", 1)]),
        {},
        "a block that .* runs more than once",
    ),
    "no such reference": (
        None,
        {"reference": 5},
        r"reference 5 does not exist: I2AM Steer found 0 \('reference latent 1'\), 1 \('reference latent 2'\)",
    ),
    "another aspect": (
        None,
        {"reference": 0, "reference_region": torch.ones(1, 64, 64)},
        r"reference_region is 64 wide and 64 high, but reference 0 \('reference latent 1'\) .* has 4 by 2 tokens",
    ),
    "another aspect of the picture": (
        None,
        {"generated_region": torch.ones(1, 16, 64)},
        "generated_region is 64 wide and 16 high, but the latent has 6 by 8 cells",
    ),
    "three pictures": (None, {"generated_region": torch.ones(3, 8, 6)}, r"got 3 masks as generated_region for 1"),
    "steps": (None, {"steps": "0-9"}, "I2AM Steer: there are 2 steps, numbered 0 to 1: '0-9' is out of range"),
    "layers": (None, {"layers": "7"}, "I2AM Steer: there are 4 layers, numbered 0 to 3: '7' is out of range"),
    "layers by name": (None, {"layers": "output*"}, "output"),
    "heads": (
        None,
        {"heads": "4"},
        "I2AM Steer: there are 2 heads in layer 'double 0', numbered 0 to 1: '4' is out of",
    ),
    "another mechanism": (None, {"mechanism": "IP-Adapter"}, "found no reference .*mechanism 'IP-Adapter'"),
    "a canvas without a region": (None, {"mechanism": "canvas regions"}, "on a canvas needs reference_region"),
}


WAYS = [("attention", name) for name in REFUSED]
WAYS += [("guidance", name) for name in REFUSED if not name.startswith(("layers", "heads"))]


@pytest.mark.parametrize(("by", "name"), WAYS)
def test_a_run_that_cannot_be_steered_ends_with_a_sentence(by, name):
    patch, settings, message = REFUSED[name]
    graph = kontext()
    plain = graph.sample()["samples"]
    model = steered(patch(graph.model) if patch else graph.model, 0.5, by, **settings)
    with pytest.raises(ValueError, match=message):
        graph.sample(model, steps=4 if "cache" in name else 2)
    untouched(graph, plain)


@pytest.mark.parametrize("by", ["attention", "guidance"])
def test_without_a_reference_there_is_nothing_to_steer(by):
    graph = tiny_graphs.flux_text(cfg=3.0)
    with pytest.raises(ValueError, match=r"found no reference .*positive and negative conditioning"):
        graph.sample(steered(graph.model, 0.0, by))


GIVEN = {  # graph, settings: what is said of what was given, what to do, and whether to connect a reference
    "another mechanism": (
        kontext,
        {"mechanism": "IP-Adapter"},
        "I2AM Steer looks for 'IP-Adapter' alone, and this is read by 'reference latents'",
        "Set mechanism of I2AM Steer to auto.",
        False,
    ),
    "ignored": (
        lambda: given_graphs.with_reference(tiny_graphs.sd15_text(), (4, 4)),
        {},
        "Given: reference latents: this model ignores it",
        "give the reference in a way that this model reads.",
        False,
    ),
    "elsewhere": (given_graphs.unclip, {}, "as the vector beside the time step", "Measure it with I2AM Effect", False),
    "perhaps": (
        lambda: tiny_graphs.sd15_text(lengths=(81, 81)),
        {},
        "It may be that there are: tokens of an image, among the 81 of the text",
        "place I2AM Tag Reference after it.",
        True,
    ),
    "a canvas": (
        tiny_graphs.sd15_canvas,
        {},
        "the part of the picture that the inpainting mask keeps",
        "reference_region of I2AM Steer",
        True,
    ),
}


@pytest.mark.parametrize("by", ["attention", "guidance"])
@pytest.mark.parametrize("case", GIVEN)
def test_what_was_given_is_said_where_there_is_nothing_to_steer(case, by):
    make, settings, said, advice, connect = GIVEN[case]
    graph = make()
    plain = graph.sample()["samples"]
    with pytest.raises(ValueError, match="found no reference") as refused:
        graph.sample(steered(graph.model, 0.0, by, **settings))
    message = str(refused.value)
    assert said in message and advice in message and ("Connect a reference" in message) == connect
    assert "I2AM Capture" not in message
    untouched(graph, plain)


@pytest.mark.parametrize("by", ["attention", "guidance"])
def test_the_negative_conditioning_is_not_run_without_guidance(by):
    graph = kontext(cfg=1.0)
    for steps in (1, 3):
        with pytest.raises(ValueError, match="set to the negative conditioning, but the model is not run with it"):
            graph.sample(steered(graph.model, 0.0, by, branch="negative"), steps=steps)


def test_a_guess_is_not_steered():
    graph = tiny_graphs.flux_redux(lengths=(256, 7))
    with pytest.raises(ValueError, match=r"cannot steer .* a guess: .*I2AM Tag Reference after the style node"):
        graph.sample(steered(graph.model, 0.0))


def test_tokens_without_places_have_no_region():
    graph = tiny_graphs.flux_uso()
    mask = torch.ones(1, 8, 8)
    with pytest.raises(ValueError, match=r"the tokens of reference 1 \('USO style 1'\) have no places"):
        graph.sample(steered(graph.model, 0.0, reference=1, reference_region=mask))


@pytest.mark.parametrize(
    ("strength", "by", "message"),
    [
        (-0.5, "attention", "range of 'attention', 0 to 10: only 'output' and 'guidance' go below 0"),
        (7.0, "output", "strength 7 is outside the range of 'output', -2 to 5"),
        (5.5, "guidance", "strength 5.5 is outside the range of 'guidance', -2 to 5"),
        (float("nan"), "attention", "strength of I2AM Steer is nan: give a number"),
    ],
)
def test_a_strength_outside_its_range(strength, by, message):
    with pytest.raises(ValueError, match=message):
        steered(tiny_graphs.flux_text().model, strength, by)


def test_masks_and_models_that_are_none():
    model = tiny_graphs.flux_text().model
    with pytest.raises(ValueError, match="reference_region marks nothing"):
        steered(model, 0.0, reference_region=torch.zeros(1, 8, 8))
    with pytest.raises(ValueError, match="got 2 masks as reference_region: give one"):
        steered(model, 0.0, reference_region=torch.ones(2, 8, 8))
    with pytest.raises(ValueError, match="I2AM Steer needs a diffusion model from one of ComfyUI's loaders, but got a"):
        steered(object(), 0.0)


@pytest.mark.parametrize(
    ("name", "mixes"),
    [
        ("sage_attention", True),
        ("PatchSageAttention", True),
        ("block_sparse", True),
        ("attention_int8", True),
        ("message_of", False),
    ],
)
def test_kernels_that_mix_rows_are_known_by_their_names(name, mixes):
    assert bool(ROW_COUPLING.search(name)) == mixes


def test_an_interrupt_leaves_nothing(monkeypatch):
    graph = kontext()
    plain = graph.sample()["samples"]

    def interrupt(step, *args):
        raise comfy.model_management.InterruptProcessingException

    monkeypatch.setattr("latent_preview.prepare_callback", lambda *args: interrupt)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        graph.sample(steered(graph.model, 0.0))
    monkeypatch.undo()
    untouched(graph, plain)
