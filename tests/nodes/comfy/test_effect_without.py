"""The conditioning `without`: for every model that ComfyUI samples, also where no attention can be read."""

from types import SimpleNamespace

import comfy.hooks
import comfy_extras.nodes_cosmos as nodes_cosmos
import comfy_extras.nodes_video_model as nodes_video_model
import comfy_extras.nodes_wan as nodes_wan
import pytest
import tiny_graphs
import tiny_models
import torch
from comfy import context_windows
from effect_oracle import Counterfactuals, rms
from effects_of import close, measured
from steered_graphs import tagged
from tiny_graphs import Graph, TinyVAE

import nodes as comfyui_nodes
from i2am_pack.i2am_core import effect_maps
from i2am_pack.i2am_core.effect import Removal
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.effect import I2AMEffect


def evaluated(graph, conditioning=None, at=(), branch=0, **sampling):
    """The predictions of a run without anything of ours, with another positive or negative conditioning."""
    positive, negative = graph.positive, graph.negative
    if conditioning is not None:
        positive, negative = (positive, conditioning) if branch else (conditioning, negative)
    other = Graph(graph.model, positive, negative, graph.latent, graph.cfg)
    by_hand = Counterfactuals(lambda queries, keys: (), {}, branch, at)
    return by_hand, other.sample(by_hand.on(graph.model), **sampling)["samples"]


def check(graph, without, branch="positive", **settings):
    """The effect is the difference to the host's own evaluation with that conditioning, in both steps."""
    number = ("positive", "negative").index(branch)
    own, plain = evaluated(graph, branch=number)
    other, _ = evaluated(graph, without, own.noisy, number)
    attribution = measured(graph, branch=branch, plain=plain, probe_steps=2, without=without, **settings)
    for step in range(2):
        effect = attribution.effects.maps[Removal(step, "conditioning")]
        close(effect, rms(own.with_[step], other.with_[step]), own.with_[step])
    return attribution


# Models whose reference attention does not show


def wan22_i2v(**shape):
    """Wan 2.2 14B: the first frame is channels alone, and no CLIP."""
    graph = tiny_graphs._video(tiny_models.wan_t2v(in_dim=36), 1, **shape)
    without = graph.positive
    graph = tiny_graphs.with_pixels(graph, 2)
    return tiny_graphs.through(nodes_wan.WanImageToVideo, graph, start_image=graph.references[0]), without


def svd():
    """Its conditioning is all image: what it is compared with is that of an empty one, as the negative is."""
    vision = SimpleNamespace(
        encode_image=lambda image: SimpleNamespace(image_embeds=tiny_graphs.noise(3, 1, tiny_models.TEXT_WIDTH))
    )
    image = tiny_graphs.pixels(2, 1, 64, 64)
    positive, negative, latent = tiny_graphs.run(
        nodes_video_model.SVD_img2vid_Conditioning, vision, image, TinyVAE(4), 64, 64, 3, 127, 6, 0.0
    )
    return Graph(tiny_models.svd(), positive, negative, latent, 2.0), negative


def control(graph, *images):
    """ControlNetApplyAdvanced with each of these images, on both conditionings."""
    net = tiny_models.control_net()
    for image in images:
        graph.positive, graph.negative = comfyui_nodes.ControlNetApplyAdvanced().apply_controlnet(
            graph.positive, graph.negative, net, image, 1.0, 0.0, 1.0
        )
    return graph


def controlled(**shape):
    graph = tiny_graphs.sd15_text(**shape)
    without = graph.positive
    return control(graph, tiny_graphs.pixels(2, len(graph.latent["samples"]), 64, 64)), without


def cosmos_predict2():
    """A model whose order of tokens I2AM does not know; it is compared with another text."""
    graph = tiny_graphs._image(tiny_models.cosmos_predict2(), 1, 16, size=(2, 4, 6), lengths=(9, 9), cfg=3.0)
    return graph, tiny_graphs._image(graph.model, 5, 16, lengths=(9, 9)).positive


CASES = {
    "wan 2.2 i2v": wan22_i2v,
    "svd": svd,
    "a ControlNet": lambda: controlled(cfg=1.0),
    "a ControlNet of two pictures, with guidance": lambda: controlled(cfg=3.0, batch=2),
    "cosmos predict2": cosmos_predict2,
}


@pytest.mark.parametrize("case", CASES)
def test_effects_without_any_attention(case):
    attribution = check(*CASES[case]())
    assert attribution.references == () and attribution.entries == {}
    assert attribution.effects.owners == ["conditioning"]
    assert attribution.effects.certainty("conditioning") == "measured"


def test_the_nodes_give_maps_of_a_model_whose_order_of_tokens_is_not_known():
    """Capture, Effect, Collect: without any attention, the picture as it was."""
    graph, without = cosmos_predict2()
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512).args
    model = I2AMEffect.execute(model, 1, 0, "taken away", "everything", "references", without).args[0]
    latent = graph.sample(model)
    assert torch.equal(latent["samples"], graph.sample()["samples"])
    attribution, _, summary = I2AMCollect.execute(handle, latent).args
    assert "effect of what the conditioning 'without' lacks" in summary
    effect = attribution.effects.maps[Removal(0, "conditioning")].view(2, 4, 6)  # frames of the latent
    torch.testing.assert_close(effect_maps(attribution, "r2g").values[0], effect.mean(0))


def test_both_parts_of_an_image_of_wan_or_all_of_it():
    """Attention shows CLIP's tokens; `without` lacks the channels as well."""
    graph = tiny_graphs.with_pixels(tiny_graphs._video(tiny_models.wan_i2v(), 1), 2)
    without = graph.positive
    seen = tiny_graphs.vision(2, 257, 1280)
    graph = tiny_graphs.through(
        nodes_wan.WanImageToVideo, graph, start_image=graph.references[0], clip_vision_output=seen
    )
    attribution = check(graph, without)
    assert attribution.effects.owners == [0, "conditioning"]


def cosmos():
    """CosmosImageToVideoLatent: the first frame is part of the latent, and a mask keeps it."""
    graph = tiny_graphs._image(tiny_models.cosmos(), 1, 16, size=(2, 4, 6), lengths=(9, 9), cfg=3.0)
    graph.latent = tiny_graphs.run(
        nodes_cosmos.CosmosImageToVideoLatent, TinyVAE(16, 4), 48, 32, 9, 1, tiny_graphs.pixels(2, 1, 32, 48)
    )[0]
    return graph


def wan_5b():
    """Wan22ImageToVideoLatent: the same, with a time for each token."""
    graph = tiny_graphs._video(tiny_models.wan_t2v(in_dim=48, out_dim=48), 1, 48)
    graph.latent = tiny_graphs.run(
        nodes_wan.Wan22ImageToVideoLatent, TinyVAE(48, 4, 16), 96, 64, 5, 1, tiny_graphs.pixels(2, 1, 64, 96)
    )[0]
    return graph


@pytest.mark.parametrize("make", [cosmos, wan_5b])
def test_a_first_frame_in_the_latent_is_in_no_conditioning(make):
    """Another text can be compared with, so that all that runs in the model is measured nevertheless."""
    graph = make()
    refused(graph, graph.positive, "is in no conditioning")
    check(graph, [[tiny_graphs.noise(9, 1, 9, tiny_models.TEXT_WIDTH), {}]])


# Where attention shows it as well


@pytest.mark.parametrize(
    ("make", "make_without", "owner"),
    [
        (lambda: tiny_graphs.flux_kontext(cfg=3.0, batch=2), tiny_graphs.flux_text, "all references"),
        (tiny_graphs.qwen_edit, lambda: tiny_graphs.qwen_edit(sizes=()), "all references"),
        (lambda: tagged(tiny_graphs.flux_redux()), tiny_graphs.flux_text, 0),
        (tiny_graphs.hidream_e1, tiny_graphs.hidream_text, 0),
        (tiny_graphs.wan_phantom, tiny_graphs.wan_text, "all references"),
        (tiny_graphs.hunyuan_video_custom, tiny_graphs.hunyuan_video_text, 0),
    ],
)
def test_it_agrees_with_attention(make, make_without, owner):
    attribution = check(make(), make_without().positive)
    effects = attribution.effects
    for step in range(2):
        prediction = effects.predictions[step, None].float()
        close(effects.maps[Removal(step, "conditioning")], effects.maps[Removal(step, owner)].double(), prediction)


def test_the_negative_branch():
    graph, without = wan22_i2v()
    assert check(graph, without, branch="negative").branch == "negative"


def test_the_runs_own_areas_stay_and_those_of_the_other_are_its_own():
    graph = tiny_graphs.flux_kontext(cfg=3.0)
    without = [[graph.positive[0][0], graph.positive[0][1] | {"area": (4, 4, 2, 2), "strength": 2.0}], *graph.positive]
    check(graph, without)


# What it must not be


def test_text_of_another_width_is_a_reason_and_all_else_is_measured():
    graph = tiny_graphs.flux_kontext(cfg=3.0)
    without = [[tiny_graphs.noise(3, 1, 7, 5), graph.positive[0][1]]]
    effects = measured(graph, probe_steps=2, without=without).effects
    assert effects.owners == [0, 1, "all references"]
    (reason,) = effects.unmeasured.values()
    assert "RuntimeError" in reason


def test_one_that_the_model_cannot_prepare_is_refused():
    graph = tiny_graphs.flux_kontext()
    without = [[graph.positive[0][0], graph.positive[0][1] | {"reference_latents": [None]}]]
    refused(graph, without, "the model cannot take the conditioning `without`")


def refused(graph, without, reason):
    """Before the model is called even once."""
    calls = []
    model = graph.model.clone()
    model.set_model_unet_function_wrapper(lambda apply_model, given: calls.append(1))
    with pytest.raises(ValueError, match=reason):
        measured(Graph(model, graph.positive, graph.negative, graph.latent, graph.cfg), without=without)
    assert not calls


def test_what_the_run_did_not_load_is_refused_by_name():
    graph = tiny_graphs.sd15_text()
    ((tokens, about),) = graph.positive
    hooks = comfy.hooks.HookGroup()
    hooks.add(comfy.hooks.WeightHook())
    refused(graph, [[tokens, about | {"hooks": hooks}]], "`without` has hooks that this run does not have")
    with_control = control(tiny_graphs.sd15_text(), tiny_graphs.pixels(2, 1, 64, 64)).positive
    refused(graph, with_control, "`without` has a ControlNet that this run does not have")
    gligen = ("position", SimpleNamespace(), [])
    refused(graph, [[tokens, about | {"gligen": gligen}]], "`without` has GLIGEN that this run does not have")


def test_a_control_net_of_the_run_may_be_in_it():
    graph, _ = controlled(cfg=3.0)
    without = graph.positive
    check(control(graph, tiny_graphs.pixels(7, 1, 64, 64)), without)


def test_an_empty_one_is_refused():
    refused(tiny_graphs.sd15_text(), [], "`without` is empty")


def test_the_runs_own_is_refused():
    graph = tiny_graphs.flux_kontext()
    refused(graph, graph.positive, "`without` is the same as the run's own")
    copy = [[graph.positive[0][0].clone(), dict(graph.positive[0][1])]]
    refused(graph, copy, "`without` is the same as the run's own")


def between(conditioning, start, end):
    return [[tokens, about | {"start_percent": start, "end_percent": end}] for tokens, about in conditioning]


NOTHING_THEN = "the conditioning `without` has nothing for these steps, which its start and end leave out"


def test_steps_for_which_it_has_nothing_are_not_compared():
    """ComfyUI predicts zeros there, which are not what the model would paint."""
    graph, bare = tiny_graphs.flux_kontext(cfg=3.0), tiny_graphs.flux_text(cfg=3.0).positive
    name = "what the conditioning 'without' lacks"
    late = measured(graph, sampling={"steps": 4}, probe_steps=1, without=between(bare, 0.9, 1.0)).effects
    assert "conditioning" not in late.owners and late.unmeasured[name].startswith(NOTHING_THEN)
    early = measured(graph, sampling={"steps": 4}, probe_steps=4, without=between(bare, 0.0, 0.4)).effects
    assert early.unmeasured[f"{name} in some steps"].startswith(NOTHING_THEN)
    whole = measured(graph, sampling={"steps": 4}, probe_steps=4, without=bare).effects
    assert 0 < len(early.steps("conditioning")) < 4
    for step in early.steps("conditioning"):
        removal = Removal(step, "conditioning")
        assert torch.equal(early.maps[removal], whole.maps[removal])


def test_a_run_whose_own_begins_late_is_measured_from_there():
    graph, bare = tiny_graphs.flux_kontext(cfg=3.0), tiny_graphs.flux_text(cfg=3.0).positive
    graph.positive = between(graph.positive, 0.5, 1.0)
    effects = measured(graph, sampling={"steps": 4}, probe_steps=1, text=True, without=bare).effects
    assert effects.owners == [0, 1, "all references", "text", "conditioning"] and not effects.unmeasured
    (step,) = effects.steps("conditioning")
    assert step > 0 and effects.steps(0) == effects.steps("text") == [step]
    assert effects.certainty(0) == "measured"


# Context windows


def whole_predictions(graph, conditioning=None):
    """What ComfyUI puts together of all windows of each evaluation, by its own hook behind them."""
    model, predictions = graph.model.clone(), []
    model.set_model_sampler_post_cfg_function(
        lambda args: predictions.append(args["cond_denoised"].clone()) or args["denoised"]
    )
    Graph(model, conditioning or graph.positive, graph.negative, graph.latent, graph.cfg).sample(steps=1)
    return predictions[0]


@pytest.mark.parametrize(("overlap", "fuse"), [(2, "pyramid"), (1, "flat"), (2, "relative")])
def test_in_context_windows_the_differences_of_all_add_up(overlap, fuse):
    graph = tiny_graphs.wan_phantom(images=1, cfg=3.0)
    graph.latent = {"samples": torch.zeros(1, 16, 5, 4, 6)}
    handler = context_windows.IndexListContextHandler(
        context_windows.get_matching_context_schedule("standard_static"),
        context_windows.get_matching_fuse_method(fuse),
        context_length=3,
        context_overlap=overlap,
        dim=2,
    )
    handler.causal_window_fix = False  # of newer ComfyUI cores: a further frame before each window
    graph.model = graph.model.clone()
    graph.model.model_options["context_handler"] = handler
    without = tiny_graphs.wan_text().positive
    one, other = whole_predictions(graph), whole_predictions(graph, without)
    attribution = measured(graph, sampling={"steps": 1}, probe_steps=1, without=without, text=True, regions=2)
    effects = attribution.effects
    assert effects.owners == [0, "text", "conditioning"] and not effects.regions
    assert list(effects.unmeasured) == ["regions of reference 0 ('reference frame 1')"]
    for owner in (0, "conditioning"):
        close(effects.maps[Removal(0, owner)], rms(one, other), one)
