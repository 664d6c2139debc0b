"""Several conditionings at once, further evaluations for guidance, and a set-up that fails."""

import comfy_extras.nodes_pag as nodes_pag
import pytest
import tiny_graphs
import torch
from mechanisms import capture
from selected import maps

from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.comfy import captured
from i2am_pack.nodes.comfy.mechanisms import MECHANISMS
from i2am_pack.nodes.comfy.tags import KEY, tag


def share(graph, **selection):
    return maps(capture(graph), "r2g", "unified", "share", **selection).values


def with_entries(graph, *changes):
    """The positive conditioning once for each change of what it is about."""
    ((tokens, about),) = graph.positive
    graph.positive = [[tokens, about | change] for change in changes]
    return graph


@pytest.mark.parametrize("name", ["wan_i2v", "wan_phantom", "qwen_edit", "flux_kontext"])
def test_a_conditioning_given_twice_has_the_share_of_one(name):
    once = share(getattr(tiny_graphs, name)())
    twice = share(with_entries(getattr(tiny_graphs, name)(), {}, {"strength": 1.0}))
    torch.testing.assert_close(twice, once, atol=1e-6, rtol=1e-3)


def test_a_default_conditioning_has_what_others_leave():
    left = torch.zeros(1, 8, 6)
    left[:, :, :3] = 1
    masked = {"mask": left, "mask_strength": 1.0, "set_area_to_bounds": False}
    both = share(with_entries(tiny_graphs.flux_kontext(), masked, {"default": True}))
    once = share(tiny_graphs.flux_kontext())
    torch.testing.assert_close(both[..., [0, 2]], once[..., [0, 2]], atol=1e-3, rtol=0.05)
    assert (both / once).max() < 1.1  # a cell on the edge is a mean of both


def test_a_masked_video_is_refused():
    masked = {"mask": torch.ones(1, 4, 6), "mask_strength": 1.0, "set_area_to_bounds": False}
    graph = with_entries(tiny_graphs.wan_i2v(), masked, {})
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512).args
    watched = graph.sample(model)
    assert torch.equal(watched["samples"], graph.sample()["samples"])
    with pytest.raises(ValueError, match="of a video that are limited to an area or a mask"):
        I2AMCollect.execute(handle, watched)


def test_an_area_of_the_negative_does_not_cut_the_canvas_of_the_positive():
    graph = tiny_graphs.sd15_canvas(size=(16, 16))
    ((tokens, about),) = graph.negative
    graph.negative = [[tokens, about], [tokens, about | {"area": (8, 8, 0, 8), "strength": 1.0}]]
    region = torch.zeros(1, 16, 16)
    region[:, :, :8] = 1
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512, None, region).args
    attribution = I2AMCollect.execute(handle, graph.sample(model)).args[0]
    assert any("has a part of the canvas only" in reason for reason in attribution.skipped)
    assert attribution.references[0].grid.width * 2 == 16


def test_a_pass_with_perturbed_attention_does_not_count():
    def tagged():
        graph = tiny_graphs.sd15_text(cfg=3.0)
        tokens, about = graph.positive[0]
        about[KEY] = [tag("it", 3, tokens[:, 3:], None)]
        return graph

    plain, graph = capture(tagged()), tagged()
    graph.model = tiny_graphs.run(nodes_pag.PerturbedAttentionGuidance, graph.model, 3.0)[0]
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512).args
    watched = graph.sample(model)
    assert torch.equal(watched["samples"], graph.sample()["samples"])
    attribution = I2AMCollect.execute(handle, watched).args[0]
    assert attribution.captured_calls == plain.captured_calls
    assert any("a further evaluation for guidance" in reason for reason in attribution.skipped)
    first, second = (a.layer_maps(0, 0).maps["r2g_share"][:, 0] for a in (plain, attribution))
    torch.testing.assert_close(first, second)  # of the first step, before guidance has changed the latent


@pytest.mark.parametrize("broken", ["mask", "mechanism"])
def test_a_set_up_that_fails_is_not_the_end_of_the_picture(broken, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("out of luck")

    graph = tiny_graphs.flux_kontext()
    plain = graph.sample()
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512).args
    if broken == "mask":
        monkeypatch.setattr(captured, "mask_of", fail)
    else:
        monkeypatch.setattr(MECHANISMS["IP-Adapter"], "install", fail)
    watched = graph.sample(model)
    assert torch.equal(plain["samples"], watched["samples"])
    with pytest.raises(ValueError, match="RuntimeError: out of luck"):
        I2AMCollect.execute(handle, watched)
    monkeypatch.undo()
    next_output = graph.sample(model)
    assert I2AMCollect.execute(handle, next_output).args[0].entries
