"""Runs in which nothing, or not all, can be seen: refused with the reason and with what to do instead."""

import inspect
import types

import pytest
import tiny_graphs
import torch

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


@pytest.mark.parametrize("module", ["nunchaku.models.transformers", "custom_nodes.CatVTON.diffusers_wrapper"])
def test_models_of_other_libraries_are_recognised_by_name(module):
    kind = type("Transformer", (torch.nn.Module,), {"__module__": module})
    outer = torch.nn.Module()
    outer.model = kind()
    message = why_unobservable(outer)
    assert module in message and ("use the same model" in message or "ComfyUI's own nodes" in message)


def test_a_tile_is_not_taken_for_the_picture():
    """A tiled sampler hands the denoiser parts of the latent, and tells nobody where they lie."""
    graph = tiny_graphs.sd15_canvas(cfg=1.0)
    model = graph.model.clone()

    def tiled(apply_model, given):
        x, conditions = given["input"], given["c"]
        halves = [apply_model(half, given["timestep"], **conditions) for half in x.split(x.shape[-1] // 2, -1)]
        return torch.cat(halves, -1)

    model.set_model_unet_function_wrapper(tiled)
    assert "a call for 4x8 cells, where the latent has 8x8" in refusal(graph, model)
