"""Runs in which nothing, or not all, can be seen: refused with the reason and with what to do instead."""

import inspect
import types

import comfy_extras.nodes_freelunch as nodes_freelunch
import given_graphs
import ip_adapter_standin
import pytest
import tiny_graphs
import torch
from comfy.ldm.modules.attention import optimized_attention

from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.comfy.unobservable import why_unobservable


def refusal(graph, model):
    model, handle = I2AMCapture.execute(model, "auto", "positive", "off", 512).args
    with pytest.raises(ValueError) as raised:
        I2AMCollect.execute(handle, graph.sample(model))
    return str(raised.value)


@pytest.mark.parametrize("module", ["custom_nodes.ComfyUI_PuLID_Flux_ll.PulidFluxHook", "custom_nodes.unheard_of"])
def test_a_forward_without_options_is_named(module):
    """As packs do that replace a model's forward: attention gets no transformer_options, and is not overridden."""
    graph = tiny_graphs.flux_kontext()
    model = graph.model.clone()
    original = type(model.model.diffusion_model).forward_orig

    def forward(self, *args, **kwargs):
        given = inspect.signature(original).bind(self, *args, **kwargs)
        given.arguments["transformer_options"] = {}
        return original(*given.args, **given.kwargs)

    forward.__module__ = module
    model.add_object_patch("diffusion_model.forward_orig", types.MethodType(forward, model.model.diffusion_model))
    message = refusal(graph, model)
    if "PuLID" in module:
        assert "PuLID_Flux_ll" in message and "remove it for the run" in message
    else:
        assert "no attention of the Flux went through ComfyUI's" in message


@pytest.mark.parametrize(
    "folder", ["ComfyUI-IPAdapter-Flux", "ComfyUI_IPAdapter-Flux.flux", "comfyui-ipadapter_flux_plus", "IPAFlux"]
)
def test_a_pack_is_recognised_however_its_folder_is_written(folder):
    denoiser = type("Flux", (torch.nn.Module,), {"__module__": f"/home/teacache/custom_nodes/{folder}.nodes"})()
    assert "replaces the model's forward by its own" in why_unobservable(denoiser)


def test_what_is_before_the_packs_folder_names_nobody():
    denoiser = type("Flux", (torch.nn.Module,), {"__module__": "/home/teacache/custom_nodes/other.nodes"})()
    assert "calls attention on its own" in why_unobservable(denoiser)


def of_pack(function, folder):
    function.__module__ = f"/work/ComfyUI/custom_nodes/{folder}.nodes"
    return function


def test_a_pack_that_replaces_the_forward_while_the_model_is_called():
    """As TeaCache does: afterwards, the model is as it was, and only the run's options know it."""
    graph = tiny_graphs.flux_text()
    model = graph.model.clone()
    denoiser = model.model.diffusion_model
    original = type(denoiser).forward_orig

    def forward(self, *args, **kwargs):
        given = inspect.signature(original).bind(self, *args, **kwargs)
        given.arguments["transformer_options"] = {}
        return original(*given.args, **given.kwargs)

    def around(apply_model, given):
        denoiser.forward_orig = types.MethodType(forward, denoiser)
        try:
            return apply_model(given["input"], given["timestep"], **given["c"])
        finally:
            del denoiser.forward_orig

    model.set_model_unet_function_wrapper(of_pack(around, "ComfyUI-TeaCache"))
    message = refusal(graph, model)
    assert "ComfyUI-TeaCache" in message and "answers some steps from memory" in message


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("ComfyUI-PLADIS", "makes attention of its own"),
        ("x-flux-comfyui", "makes attention of its own"),
        ("unheard-of", "what it does there is not known"),
    ],
)
def test_where_nothing_is_captured_a_packs_attention_is_named(folder, reason):
    """It may be what the reference came by: which pack it is, and what can be done."""
    graph = tiny_graphs.sd15_text()
    model = graph.model.clone()

    def attend(q, k, v, extra_options):
        return optimized_attention(q, k, v, extra_options["n_heads"])

    model.set_model_attn2_replace(of_pack(attend, folder), "middle", 0)
    message = refusal(graph, model)
    assert folder in message and reason in message
    assert ("remove it for the run" in message) != ("sample once more without it" in message)


def test_pulid_with_a_method_of_its_own_is_named():
    """Its ``ortho`` methods take from the attention what the text's has of it: no multiple of it, and so skipped."""
    graph = tiny_graphs.sd15_text()
    model = graph.model.clone()

    def pulid_attention(out, q, k, v, extra_options, **kwargs):
        own = optimized_attention(q, k.flip(1), v, extra_options["n_heads"])
        return own - (own * out).sum(-2, keepdim=True) / (out * out).sum(-2, keepdim=True) * out

    kwargs = {"sigma_start": 1e9, "sigma_end": 0.0}
    replacement = ip_adapter_standin.Replacement(of_pack(pulid_attention, "PuLID_ComfyUI"), **kwargs)
    model.set_model_attn2_replace(replacement, "input", 1)
    message = refusal(graph, model)
    assert "PuLID_ComfyUI" in message and "choose its method 'neutral'" in message


def test_core_nodes_are_no_packs():
    graph = tiny_graphs.sd15_text()
    model = tiny_graphs.run(nodes_freelunch.FreeU, graph.model, 1.1, 1.2, 0.9, 0.2)[0]
    message = refusal(graph, model)
    assert "another pack" not in message and "found no reference" in message


@pytest.mark.parametrize("module", ["nunchaku.models.transformers", "custom_nodes.CatVTON.diffusers_wrapper"])
def test_models_of_other_libraries_are_recognised_by_name(module):
    kind = type("Transformer", (torch.nn.Module,), {"__module__": module})
    outer = torch.nn.Module()
    outer.model = kind()
    message = why_unobservable(outer)
    assert module in message and ("use the same model" in message or "ComfyUI's own nodes" in message)


def in_halves(apply_model, given):
    x, conditions = given["input"], given["c"]
    halves = [apply_model(half, given["timestep"], **conditions) for half in x.split(x.shape[-1] // 2, -1)]
    return torch.cat(halves, -1)


def test_a_tile_is_not_taken_for_the_picture():
    """A tiled sampler hands the denoiser parts of the latent, and tells nobody where they lie."""
    graph = tiny_graphs.sd15_canvas(cfg=1.0)
    model = graph.model.clone()
    model.set_model_unet_function_wrapper(in_halves)
    message = refusal(graph, model)
    assert "the model was given a latent of 4x8, where that of the run is 8x8" in message
    assert "I2AM could not look for a reference in the positive conditioning" in message
    assert "sample without them to capture" in message
    for wrong in ("found no reference", "Condition on the reference", "I2AM Effect", "captured nothing"):
        assert wrong not in message


def test_tiles_of_a_run_that_was_given_something():
    """Whatever it was, its own advice does not help while the picture is cut."""
    graph = given_graphs.with_reference(tiny_graphs.flux_text(size=(8, 8)), (4, 4))
    model = graph.model.clone()
    model.set_model_unet_function_wrapper(in_halves)
    message = refusal(graph, model)
    assert "Given: reference latents" in message and "could not look for a reference" in message
    assert "found no reference" not in message and "Measure it" not in message
