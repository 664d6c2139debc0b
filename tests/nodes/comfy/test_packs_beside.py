"""A pack that may bring a reference of its own, beside one that is captured, is named; one that cannot is not."""

import inspect
import types

import comfy_extras.nodes_freelunch as nodes_freelunch
import comfy_extras.nodes_sag as nodes_sag
import pytest
import tiny_graphs
import torch
from comfy.ldm.modules.attention import optimized_attention
from effect_runs import picture_and_drawn
from steered_graphs import adapter_beside_tags, ip_adapter, tagged_unet

from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.comfy.packs_beside import BRINGERS, _parts_of, packs_beside
from i2am_pack.nodes.comfy.unobservable import is_named

SURE = "through attention of its own that these maps do not show: sample once more"
PERHAPS = "if a reference comes by that, through attention of its own, these maps do not show it"


def notes(graph, mechanism="auto"):
    """What is said of packs in a run of which something is captured, whose picture stays as it is."""
    model, handle = I2AMCapture.execute(graph.model, mechanism, "positive", "off", 512).args
    plain, drawn_by_plain = picture_and_drawn(graph.sample)
    latent, drawn = picture_and_drawn(lambda: graph.sample(model))
    assert torch.equal(plain, latent) and drawn == drawn_by_plain
    attribution, _, summary = I2AMCollect.execute(handle, {"samples": latent}).args
    said = [note for note in attribution.notes if SURE in note or PERHAPS in note]
    assert attribution.entries and all(note in summary for note in said)
    return said


def of_pack(function, folder):
    function.__module__ = f"/work/ComfyUI/custom_nodes/{folder}.nodes"
    return function


def tokens():
    return tiny_graphs.noise(7, 1, 4, 16)


# What replaces the model's forward, or a block of it


def forward_of(graph, folder):
    """As PuLID replaces it: it hands on the options, so that all else is captured, and adds attention of its own."""
    model = graph.model.clone()
    original = type(model.model.diffusion_model).forward_orig

    def forward(self, *args, **kwargs):
        given = inspect.signature(original).bind(self, *args, **kwargs)
        given.arguments["txt"] = given.arguments["txt"] * 1.0
        return original(*given.args, **given.kwargs)

    of_pack(forward, folder)
    model.add_object_patch("diffusion_model.forward_orig", types.MethodType(forward, model.model.diffusion_model))
    graph.model = model
    return graph


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("ComfyUI_PuLID_Flux_ll", SURE),
        ("ComfyUI-IPAdapter-Flux", SURE),
        ("unheard-of", PERHAPS),
        ("ComfyUI-TeaCache", None),
    ],
)
def test_a_forward_of_a_pack_beside_a_captured_reference(folder, said):
    graph = forward_of(tiny_graphs.flux_kontext(), folder)
    assert [said in note and folder in note for note in notes(graph)] == [True] * bool(said)


def test_a_block_of_a_pack_beside_a_captured_reference():
    """As IPAdapter-Flux does: a class of its own in the place of one block."""
    graph = tiny_graphs.flux_kontext()
    graph.model = graph.model.clone()
    block = graph.model.model.diffusion_model.double_blocks[0]
    kind = type("DoubleStreamBlockIPA", (type(block),), {"__module__": "/work/custom_nodes/unheard-of.flux.layers"})
    original, block.__class__ = type(block), kind
    try:
        (note,) = notes(graph)
    finally:
        block.__class__ = original
    assert "this run also has DoubleStreamBlockIPA of custom_nodes/unheard-of.flux.layers: if" in note


def test_a_layer_of_a_pack_that_keeps_weights_in_its_own_format_is_not_named():
    """As of GGUF."""
    graph = tiny_graphs.flux_kontext()
    layer = graph.model.model.diffusion_model.img_in
    kind = type("Linear", (type(layer),), {"__module__": "/work/custom_nodes/ComfyUI-GGUF.ops"})
    original, layer.__class__ = type(layer), kind
    try:
        assert notes(graph) == []
    finally:
        layer.__class__ = original


# Functions


def test_all_parts_are_walked_over_once_in_their_order():
    shared = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.ReLU())
    whole = torch.nn.ModuleDict({"a": torch.nn.Sequential(shared, torch.nn.ModuleList()), "b": shared})
    whole.register_module("nothing", None)
    whole["c"] = torch.nn.Sequential(shared[1], torch.nn.Linear(1, 1))
    assert list(_parts_of(whole)) == list(whole.modules())


def around_model(graph, function, folder="unheard-of"):
    graph.model = graph.model.clone()
    graph.model.set_model_unet_function_wrapper(of_pack(function, folder))
    return graph


def plain(apply_model, given):
    return apply_model(given["input"], given["timestep"], **given["c"])


def with_tensor():
    own = tokens()

    def around(apply_model, given):
        return plain(apply_model, given) + 0 * own.sum()

    return around


def with_network():
    network = torch.nn.Linear(2, 2)

    def around(apply_model, given, network=network):
        return plain(apply_model, given)

    return around


def with_object():
    class Around:
        def __init__(self):
            self.state = {"images": [tokens()]}

        def __call__(self, apply_model, given):
            return plain(apply_model, given)

    Around.__module__ = "/work/ComfyUI/custom_nodes/unheard-of.nodes"
    return Around()


@pytest.mark.parametrize("make", [with_tensor, with_network])
def test_a_function_that_has_something_is_named(make):
    (note,) = notes(around_model(tiny_graphs.flux_kontext(), make()))
    assert PERHAPS in note and "around of custom_nodes/unheard-of.nodes" in note


def test_an_object_that_has_something_is_named():
    graph = tiny_graphs.flux_kontext()
    graph.model = graph.model.clone()
    graph.model.set_model_unet_function_wrapper(with_object())
    assert "Around" in notes(graph)[0]


def compiled_or_guided(graph):
    """Functions of ordinary graphs: they close over numbers, other functions, and the model that is sampled."""
    denoiser, patcher, scale = graph.model.model.diffusion_model, graph.model, 1.5
    graph.model = graph.model.clone()
    options = graph.model.model_options["transformer_options"]

    def sage(attention, *args, **kwargs):
        return attention(*args, **kwargs)

    def around(apply_model, given):
        assert denoiser is not None and patcher is not None and scale
        return plain(apply_model, given)

    def wrapper(executor, *args, **kwargs):
        return executor(*args, **kwargs)

    options["optimized_attention_override"] = of_pack(sage, "ComfyUI-KJNodes")
    graph.model.set_model_unet_function_wrapper(of_pack(around, "ComfyUI-KJNodes"))
    graph.model.add_wrapper_with_key("diffusion_model", "compile", of_pack(wrapper, "ComfyUI-KJNodes"))
    return graph


def remembering(graph):
    """What remembers answers, and is a cache by its name."""
    answers = []

    def around(apply_model, given):
        answers.append(plain(apply_model, given))
        return answers[-1]

    return around_model(graph, around, "Comfy-WaveSpeed.fbcache")


def core_nodes(graph):
    graph.model = tiny_graphs.run(nodes_freelunch.FreeU, graph.model, 1.1, 1.2, 0.9, 0.2)[0]
    graph.model = graph.model.clone()
    patches = graph.model.model_options["transformer_options"]["patches"]
    for functions in patches.values():
        for function in functions:
            function.__module__ = "/work/ComfyUI/comfy_extras/nodes_freelunch"  # as ComfyUI itself names them
    return graph


@pytest.mark.parametrize("put", [compiled_or_guided, remembering])
def test_functions_of_ordinary_graphs_are_not_named(put):
    assert notes(put(tiny_graphs.flux_kontext())) == []


def test_nodes_of_comfyui_are_not_named():
    assert notes(core_nodes(tagged_unet())) == []


@pytest.mark.parametrize("mechanism", ["auto", "IP-Adapter"])
def test_an_adapter_that_is_captured_is_not_named(mechanism):
    assert notes(ip_adapter(), mechanism) == []


def test_an_adapter_beside_tagged_tokens_that_were_chosen():
    """The skipped calls say that there is one; the attention to the text, inside its function, is captured."""
    graph = adapter_beside_tags()
    assert notes(graph, "cross-attention tokens") == notes(graph) == []


def test_reference_only_that_is_captured_is_not_named():
    assert notes(tiny_graphs.sd15_reference_only()) == []


# Names


@pytest.mark.parametrize(
    ("owner", "names", "named"),
    [
        ("custom_nodes.x-flux-comfyui.nodes", ["xflux"], True),
        ("custom_nodes.XLabsTools", ["xlabs"], True),
        ("custom_nodes.xlabs_nodes", ["xlabs"], True),
        ("custom_nodes.mypixlabs", ["xlabs"], False),
        ("custom_nodes.MyPixLabs.nodes", ["xlabs"], False),
        ("custom_nodes.maxflux", ["xflux"], False),
        ("custom_nodes.Max-Flux.nodes", ["xflux"], False),
        ("custom_nodes.sampler_x.flux", ["xflux"], False),
        ("custom_nodes.pixlabs-x", ["xlabs"], False),
        ("custom_nodes.xfluxion", ["xflux"], False),
        ("custom_nodes.ComfyUI_PuLID_Flux_ll.PulidFluxHook", BRINGERS, True),
        ("custom_nodes.PuLID_ComfyUI.pulid", BRINGERS, True),
        ("custom_nodes.ComfyUI-PuLID-Flux-Enhanced", BRINGERS, True),
        ("custom_nodes.stipulidae", BRINGERS, False),
        ("custom_nodes.IPAFlux", BRINGERS, True),
        ("custom_nodes.tipaflux", BRINGERS, False),
        ("/home/pulid/custom_nodes/other.nodes", BRINGERS, False),
        ("nunchaku.models.transformers", ["nunchaku"], True),
        ("custom_nodes.SVDQuant.nodes", ["svdquant"], True),
    ],
)
def test_names_are_matched_by_whole_words(owner, names, named):
    assert is_named(owner, names) == named


def test_a_model_that_is_a_packs_is_not_beside_itself():
    graph = tiny_graphs.flux_text()
    model = graph.model.model
    kind = type("Flux", (type(model.diffusion_model),), {"__module__": "/work/custom_nodes/models.nodes"})
    original, model.diffusion_model.__class__ = type(model.diffusion_model), kind
    try:
        assert packs_beside(model, {}) == []
    finally:
        model.diffusion_model.__class__ = original


def attends(own):
    def attend(q, k, v, extra_options):
        return optimized_attention(q, k + 0 * own.sum(), v, extra_options["n_heads"])

    return attend


def test_attention_of_a_pack_in_one_block_beside_tagged_tokens():
    graph = tagged_unet()
    graph.model = graph.model.clone()
    graph.model.set_model_attn2_replace(of_pack(attends(tokens()), "unheard-of"), "middle", 0)
    assert any("attend of custom_nodes/unheard-of.nodes: if" in note for note in notes(graph))


def test_nodes_that_guide_are_not_named():
    graph = tagged_unet()
    graph.model = tiny_graphs.run(nodes_sag.SelfAttentionGuidance, graph.model, 0.5, 2.0)[0]
    assert notes(graph) == []


def test_packs_are_each_named():
    graph = forward_of(tiny_graphs.flux_kontext(), "ComfyUI_PuLID_Flux_ll")
    graph = around_model(graph, with_tensor(), "ComfyUI-IPAdapter-Flux")
    graph.model.add_wrapper_with_key("diffusion_model", "other", of_pack(wrapping(tokens()), "unheard-of"))
    sure, perhaps = notes(graph)
    assert "PuLID_Flux_ll" in sure and "IPAdapter-Flux" in sure and "unheard-of" in perhaps


def wrapping(own):
    def wrapper(executor, *args, **kwargs):
        return executor(*args, **kwargs) + 0 * own.sum()

    return wrapper
