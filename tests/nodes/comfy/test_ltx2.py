"""LTX-2: a video and its sound in one run. The video is captured, and its guides are taken away from the sound, too."""

import comfy_extras.nodes_lt as nodes_lt
import pytest
import tiny_graphs
import tiny_ltxv
import torch
from by_hand import ByHand
from mechanisms import assert_maps_equal, measure, steered
from oracle import Oracle
from steered_oracle import Run
from tiny_graphs import run

from i2am_pack.i2am_core import TokenGrid
from i2am_pack.i2am_core.effect import Removal, effect_of
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.comfy.captured import capture_with
from i2am_pack.nodes.comfy.handle import Capture, Settings
from i2am_pack.nodes.comfy.measured import effect_with
from i2am_pack.nodes.comfy.removals import Settings as Removals

VIDEO = range(24)


def parts(samples):
    return samples.unbind() if getattr(samples, "is_nested", False) else [samples]


def captured(graph, model=None):
    """The attribution, of the latent as the sampler gives it, which is the same without us: video and sound."""
    watched, handle = I2AMCapture.execute(model or graph.model, "auto", "positive", "off", 512).args
    plain, latent = graph.sample(model), graph.sample(watched)
    for one, other in zip(parts(plain["samples"]), parts(latent["samples"]), strict=True):
        assert torch.equal(one, other)
    return I2AMCollect.execute(handle, latent).args[0], handle, latent


def to_guides(keys):
    return lambda call: call.q.shape[2] == call.k.shape[2] == keys


@pytest.mark.parametrize("sound", [False, True])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_guides_of_a_video_with_its_sound(sound, cfg):
    graph = tiny_ltxv.ltx2((1.0, 1.0), sound, cfg)
    attribution, handle, latent = captured(graph)
    assert [layer.name for layer in attribution.layers] == ["double 0", "double 1"]
    assert {layer.grid for layer in attribution.layers} == {TokenGrid(2, 4, 3)}
    assert [r.name for r in attribution.references] == ["guide 1", "guide 2"] and attribution.missed == ()
    steps = measure(graph, VIDEO, to_guides(40))
    for number in range(2):
        assert_maps_equal(attribution, steps, number, range(24 + 8 * number, 32 + 8 * number))
    assert {(x.key, x.fate) for x in attribution.given} == {("keyframe_idxs", "captured")}
    oracle = Oracle()
    graph.sample(oracle.on(graph.model))
    of_branch = sum(oracle.forwards[call.forward].cond_or_uncond.count(0) for call in oracle.calls)
    assert attribution.captured_calls + sum(attribution.skipped.values()) == of_branch
    if sound:
        video = run(nodes_lt.LTXVSeparateAVLatent, latent)[0]
        assert handle.find(video["samples"]) is handle.find(latent["samples"])


def test_guides_of_another_strength_beside_sound():
    graph = tiny_ltxv.ltx2((0.5,))
    attribution, _, _ = captured(graph)
    steps = measure(graph, VIDEO, lambda call: (call.q.shape[2], call.k.shape[2]) == (24, 32))
    assert_maps_equal(attribution, steps, 0, range(24, 32))
    assert attribution.missed == ()


@pytest.mark.parametrize("through", ["everything", "directly"])
def test_a_guide_is_steered_and_measured_beside_sound(through):
    """Everywhere is also where the sound looks at it, from which the video learns of it.

    Of one step, without guidance, the latent is the prediction.
    """
    graph = tiny_ltxv.ltx2((1.0, 1.0), cfg=1.0)

    def by_hand(queries, keys):
        if (queries, keys) == (40, 40):
            return [ByHand(0.0, range(32, 40), rows=None if through == "everything" else VIDEO)]
        return [ByHand(0.0, range(32, 40))] if (queries, keys) == (5, 40) and through == "everything" else ()

    oracle = Run(by_hand)
    plain = parts(graph.sample(steps=1)["samples"])
    expected = parts(graph.sample(oracle.on(graph.model), steps=1)["samples"])
    latent = parts(graph.sample(steered(graph.model, 0.0, reference=1, through=through), steps=1)["samples"])
    assert oracle.made == (4 if through == "everything" else 2)
    for one, other, before in zip(latent, expected, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-4, atol=2e-4)
        assert (one - before).abs().max() > 1e-3
    attribution = with_effect(graph, plain, routes=(through,))
    assert_effect(attribution.effects.maps[Removal(0, 1, through)], plain, expected)


def assert_effect(effect, plain, other):
    """Of the video: what is predicted of its guides the sampler throws away."""
    expected = effect_of(plain[0], other[0]).float()
    torch.testing.assert_close(effect[:, :24], expected[:, :24], rtol=1e-3, atol=1e-4)
    assert expected[:, :24].max() > 1e-2


def with_effect(graph, plain, **settings):
    handle = Capture(Settings("auto", "positive", "off", 2**29))
    model = effect_with(capture_with(graph.model, handle), Removals(probe_steps=1, **settings))
    latent = graph.sample(model, steps=1)["samples"]
    for one, other in zip(parts(latent), plain, strict=True):
        assert torch.equal(one, other)
    return handle.find(latent)


def test_another_conditioning_and_the_text_beside_sound():
    graph, other = tiny_ltxv.ltx2(cfg=1.0), tiny_ltxv.ltx2(cfg=1.0)
    other.positive = [[-tokens, about] for tokens, about in other.positive]
    plain, without = (parts(x.sample(steps=1)["samples"]) for x in (graph, other))
    effects = with_effect(graph, plain, without=other.positive, text=True).effects
    assert not effects.unmeasured
    assert_effect(effects.maps[Removal(0, "conditioning")], plain, without)

    def by_hand(queries, keys):
        return [ByHand(0.0, range(9))] if keys == 9 else ()

    no_text = parts(graph.sample(Run(by_hand).on(graph.model), steps=1)["samples"])
    assert_effect(effects.maps[Removal(0, "text")], plain, no_text)


GUIDANCE = {
    "LTXVSpatioTemporalGuidance": {"scale": 1.0, "blocks": "1", "start_percent": 0.0, "end_percent": 1.0},
    "LTXVModalityGuidance": {"modality_scale": 3.0, "start_percent": 0.0, "end_percent": 1.0},
}


@pytest.mark.parametrize("node", GUIDANCE)
def test_evaluations_that_guidance_makes_without_some_attention_are_not_counted(node):
    graph = tiny_ltxv.ltx2(cfg=1.0)
    model = run(getattr(nodes_lt, node), graph.model, **GUIDANCE[node])[0]
    plain, _, _ = captured(graph)
    attribution, _, _ = captured(graph, model)
    assert any("a further evaluation for guidance" in reason for reason in attribution.skipped)
    first, again = (x.layer_maps(0, 0).maps["r2g_share"][:, 0] for x in (plain, attribution))
    assert torch.equal(first, again)  # of the first step, before the latents are others
    latent = graph.sample(steered(model, 0.5))["samples"]
    assert not torch.equal(parts(latent)[0], parts(graph.sample(model)["samples"])[0])


def test_other_models_of_several_latents_are_refused():
    graph = tiny_graphs.wan_text()
    import comfy.nested_tensor

    video = graph.latent["samples"]
    graph.latent = {"samples": comfy.nested_tensor.NestedTensor((video, torch.zeros(1, 8, 5, 16)))}
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512).args
    with pytest.raises(Exception):  # noqa: B017 - the model itself cannot run it
        graph.sample(model)
    with pytest.raises(ValueError, match="several latents at once"):
        handle.find(video)
