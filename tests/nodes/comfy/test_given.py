"""Whatever a run was given is accounted for: captured, ignored, on a route that attention does not show, or unknown."""

import types

import comfy.ldm.lumina.model
import comfy_extras.nodes_model_patch as nodes_model_patch
import comfy_extras.nodes_wan as nodes_wan
import given_graphs
import pytest
import tiny_graphs
import tiny_models
import tiny_wan
import torch
from comfy.conds import CONDRegular
from effect_runs import measured as with_effect
from effect_runs import picture_and_drawn
from steered_graphs import tagged
from this_core import VERSION, leave_out

import nodes as comfyui_nodes
from i2am_pack.i2am_core import GivenReference, load, save
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.comfy import fates as fates_of_run
from i2am_pack.nodes.comfy.conditioning_keys import NO_REFERENCES, READ_BY, REFERENCES
from i2am_pack.nodes.comfy.ended_run import MEASURE, EndedRun
from i2am_pack.nodes.comfy.fates import given_references
from i2am_pack.nodes.comfy.mechanisms import MECHANISMS


def run(graph, branch="positive", mechanism="auto", **inputs):
    """The attribution of a run, which leaves all else as it is; and its summary, or why Collect refuses it."""
    model, handle = I2AMCapture.execute(graph.model, mechanism, branch, "off", 512, **inputs).args
    before = [*contents(graph.positive), *contents(graph.negative)]
    plain, drawn_by_plain = picture_and_drawn(graph.sample)
    latent, drawn = picture_and_drawn(lambda: graph.sample(model))
    assert torch.equal(plain, latent) and drawn == drawn_by_plain
    assert all(torch.equal(x, y) for x, y in zip(before, contents([*graph.positive, *graph.negative]), strict=True))
    try:
        attribution = I2AMCollect.execute(handle, {"samples": latent}).args[0]
        return attribution, attribution.summary()
    except ValueError as error:
        return handle.find(latent), str(error)


def contents(value):
    """Copies of all tensors of a conditioning."""
    if isinstance(value, torch.Tensor):
        return [value.clone()]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [tensor for part in parts for tensor in contents(part)]


def fates(attribution):
    return {(x.key, x.fate) for x in attribution.given}


ELSEWHERE = {  # graph: key, what its route is called
    "wan 2.2 i2v": (given_graphs.wan22_i2v, "concat_latent_image", "further channels of the latent; it fills frame 0"),
    "wan ti2v 5b": (given_graphs.wan_ti2v_5b, "samples", "inside the latent"),
    "cosmos": (given_graphs.cosmos, "samples", "inside the latent"),
    "cosmos predict2": (given_graphs.cosmos_predict2, "samples", "inside the latent"),
    "ltxv, first frame": (given_graphs.ltxv_first_frame, "samples", "inside the latent"),
    "svd": (given_graphs.svd, "concat_latent_image", "further channels of the latent"),
    "hunyuan i2v": (tiny_graphs.hunyuan_video_i2v, "concat_latent_image", "further channels of the latent"),
    "unclip": (given_graphs.unclip, "unclip_conditioning", "vector beside the time step"),
    "controlnet": (given_graphs.controlled, "control", "the ControlNet's own network"),
    "vace without a reference": (
        lambda: given_graphs.with_values(tiny_graphs.wan_vace(), vace_mask=[torch.ones(1, 64, 3, 4, 6)]),
        "vace_frames",
        "the blocks of VACE",
    ),
}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_what_attention_does_not_show_is_said_with_its_route(case):
    make, key, route = ELSEWHERE[case]
    attribution, message = run(make())
    assert attribution.entries == {} and (key, "elsewhere") in fates(attribution)
    assert "captured nothing of what was given" in message and "found no reference" not in message
    assert route in message and "by a route that attention does not show" in message
    assert "I2AM Effect" in message and "Error" not in message


def without(graph):
    return [[tokens, {name: x for name, x in about.items() if name != "control"}] for tokens, about in graph.positive]


@pytest.mark.parametrize(
    ("make", "make_without"),
    [
        (given_graphs.wan22_i2v, lambda graph: tiny_graphs.wan_text().positive),
        (given_graphs.unclip, lambda graph: tiny_graphs.sd15_text().positive),
        (given_graphs.controlled, without),
    ],
)
def test_the_advice_can_be_followed_and_is_not_repeated_then(make, make_without):
    graph = make()
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512).args
    latent = graph.sample(with_effect(model, without=make_without(graph)))
    attribution, _, summary = I2AMCollect.execute(handle, latent).args
    assert attribution.effects.certainty("conditioning") == "measured"
    assert any(x.fate == "elsewhere" for x in attribution.given) and MEASURE not in summary


def test_one_part_is_captured_and_the_route_that_is_missing_is_noted():
    """Wan 2.1 I2V. Of Wan Animate the frame of the latent is captured as well: test_wan_references.py."""
    attribution, summary = run(tiny_graphs.wan_i2v())
    assert attribution.entries
    assert {("clip_vision_output", "captured"), ("concat_latent_image", "elsewhere")} == fates(attribution)
    assert "an image through CLIP vision: captured (by image cross-attention)" in summary
    assert "it fills frame 0 of 2 of the latent, and counts as video there" in summary
    assert "frames 0-1 of 2" in run(tiny_graphs.wan_flf2v())[1]


CAPTURED = {
    "kontext": (tiny_graphs.flux_kontext, "reference_latents"),
    "flux 2": (tiny_graphs.flux2_edit, "reference_latents"),
    "qwen edit": (tiny_graphs.qwen_edit, "reference_latents"),
    "omnigen 2": (tiny_graphs.omnigen2_edit, "reference_latents"),
    "hidream e1": (tiny_graphs.hidream_e1, "concat_latent_image"),
    "phantom": (tiny_graphs.wan_phantom, "time_dim_concat"),
    "fun reference": (tiny_graphs.wan_fun_reference, "reference_latents"),
    "vace": (tiny_graphs.wan_vace, "vace_frames"),
    "hunyuan custom": (tiny_graphs.hunyuan_video_custom, "ref_latent"),
    "hunyuan replace": (tiny_graphs.hunyuan_video_replace, "samples"),
    "ltxv, a guide": (given_graphs.ltxv_guide, "keyframe_idxs"),
}


@pytest.mark.parametrize("case", CAPTURED)
def test_what_is_captured_is_said_with_its_mechanism(case):
    """And nothing else, such as the zeros that a node fills in for what is not connected."""
    make, key = CAPTURED[case]
    attribution, summary = run(make())
    assert fates(attribution) == {(key, "captured")}
    assert all(f"captured (by {attribution.mechanism.split(', ')[0]}" in x.line for x in attribution.given if x.how)
    assert "perhaps" not in summary


def lumina2():
    """Cores that have Z-Image Omni fail themselves where Lumina 2 is given a reference latent."""
    if hasattr(comfy.ldm.lumina.model.NextDiT, "embed_all"):
        leave_out("Lumina 2 that ignores a reference latent")
    return tiny_graphs.lumina2_text()


IGNORED = {
    "sd3": lambda: given_graphs.with_reference(tiny_graphs.sd3_text(), (4, 4)),
    "sd 1.5": lambda: given_graphs.with_reference(tiny_graphs.sd15_text(), (4, 4)),
    "lumina": lambda: given_graphs.with_reference(lumina2(), (4, 4)),
    "wan t2v, a reference latent": lambda: given_graphs.with_reference(tiny_graphs.wan_text(), (1, 4, 6)),
    "wan t2v, clip vision": lambda: given_graphs.with_values(
        tiny_graphs.wan_text(), clip_vision_output=tiny_graphs.vision(2, 257, 1280)
    ),
    "flux, channels": lambda: given_graphs.with_values(
        tiny_graphs.flux_text(), concat_latent_image=tiny_graphs.noise(2, 1, 16, 8, 6)
    ),
    "wan t2v, channels": lambda: given_graphs.with_values(
        tiny_graphs.wan_text(), concat_latent_image=tiny_graphs.noise(2, 1, 16, 2, 4, 6)
    ),
    "sd 1.5, a key of a pack": lambda: given_graphs.with_values(
        tiny_graphs.sd15_text(), of_a_pack={"images": [tiny_graphs.noise(2, 1, 4, 4)]}
    ),
    "a controlnet of strength 0": lambda: given_graphs.controlled(0.0),
}


@pytest.mark.parametrize("case", IGNORED)
def test_what_the_model_ignores_is_said(case):
    """Each is proved: the picture is that of a run without it; without guidance, so that the rows are as many."""
    graph = IGNORED[case]()
    attribution, message = run(graph)
    assert [x.fate for x in attribution.given] == ["ignored"]
    assert "this model ignores it" in message and "found no reference" not in message
    latent = graph.sample(cfg=1.0)["samples"]
    graph.positive = [[tokens, bare_of(about)] for tokens, about in graph.positive]
    assert torch.equal(latent, graph.sample(cfg=1.0)["samples"])


def bare_of(about):
    """What a text encoder gives, without what a test has put there."""
    return {name: x for name, x in about.items() if name in ("pooled_output", "attention_mask")}


def test_the_style_and_the_subject_of_uso():
    attribution, summary = run(tiny_graphs.flux_uso())
    assert fates(attribution) == {("reference_latents", "captured"), ("patches", "captured")}
    assert "given: the picture of USOStyleReference: captured (by USO style)" in summary
    alone, summary = run(tiny_graphs.flux_uso(), mechanism="reference latents")
    assert fates(alone) == {("reference_latents", "captured"), ("patches", "unknown")}
    assert "looks for 'reference latents' alone, and this is read by 'USO style'" in summary


@pytest.mark.parametrize("path", ["comfy_extras.nodes_model_patch", "/home/me/ComfyUI/comfy_extras/nodes_model_patch"])
@pytest.mark.parametrize(("strength", "fate"), [(1.0, "elsewhere"), (0.0, "ignored")])
def test_a_picture_that_a_node_of_comfyui_patches_into_the_model(strength, fate, path, monkeypatch):
    """ComfyUI names the modules of its own nodes by their path."""
    monkeypatch.setattr(nodes_model_patch.DiffSynthCnetPatch, "__module__", path)
    attribution, message = run(given_graphs.qwen_with_patch(strength))
    assert ("patches", fate) in fates(attribution) and "another pack" not in message
    what = "the picture of QwenImageDiffsynthControlnet"
    if fate == "ignored":
        assert f"{what}: this model ignores it (the strength is 0)" in message
    else:
        assert f"{what}: it reaches the model by a route that attention does not show (through a network" in message
        assert "sample once more with the same seed and without it" in message
    attribution, summary = run(given_graphs.qwen_with_patch(strength, tiny_graphs.qwen_edit(negative=False)))
    assert fates(attribution) == {("reference_latents", "captured"), ("patches", fate)}
    assert "of other packs" not in summary


def test_an_ignored_one_beside_a_captured_one():
    attribution, summary = run(given_graphs.with_values(tiny_graphs.flux_kontext(), ref_latent=torch.rand(1, 16, 8, 6)))
    assert fates(attribution) == {("reference_latents", "captured"), ("ref_latent", "ignored")}
    assert "given: a reference frame: this model ignores it" in summary


def test_of_a_batch_in_one_reference_latent_the_first_is_used():
    graph = given_graphs.with_reference(tiny_graphs.flux_text(), (4, 4), batch=2)
    assert "the model uses the first of the 2 images" in run(graph)[1]
    both = graph.positive[0][1]["reference_latents"][0]
    first = given_graphs.with_values(tiny_graphs.flux_text(), reference_latents=[both[:1]], **pooled(graph))
    assert torch.equal(graph.sample()["samples"], first.sample()["samples"])


def pooled(graph):
    return {"pooled_output": graph.positive[0][1]["pooled_output"]}


def test_of_a_batch_each_picture_has_its_own():
    two = given_graphs.with_reference(tiny_graphs.flux_text(batch=2), (4, 4), batch=2)
    assert "images" not in run(two)[1]
    three = given_graphs.with_reference(tiny_graphs.flux_text(batch=2), (4, 4), batch=3)
    assert "the model uses the first 2, one for each picture, of the 3 images" in run(three)[1]


def test_of_several_reference_latents_those_that_the_model_leaves_out_are_named():
    """Wan takes the last."""
    graph = given_graphs.with_reference(tiny_graphs.wan_fun_reference(), (1, 4, 6), (1, 4, 6))
    attribution, summary = run(graph)
    assert "3 reference latents: captured (by reference frames; of the 3, the model uses only number 3)" in summary
    assert len(attribution.references) == 1


# What cannot be told


def test_tokens_of_a_style_model_are_offered_to_be_tagged():
    """Untagged, after a text that is not of the shortest length: it may be a long prompt alone."""
    attribution, message = run(tiny_graphs.flux_redux())
    (given,) = attribution.given
    assert given.fate == "unknown" and not given.certain
    assert "found no reference" in message and "It may be that there are: tokens of a style model" in message
    assert "place I2AM Tag Reference after it" in message
    kontext = tiny_graphs.flux_kontext(lengths=(300, 7))
    assert "perhaps given: tokens of a style model (Flux Redux), among the 300" in run(kontext)[1]
    assert run(tiny_graphs.flux_text(lengths=(256, 7)))[0].given == ()


def test_tagged_and_guessed_tokens_are_captured():
    attribution, _ = run(tagged(tiny_graphs.flux_redux()))
    assert fates(attribution) == {("i2am_references", "captured")}
    guessed, summary = run(tiny_graphs.flux_redux(lengths=(256, 256)))
    assert guessed.entries and "Tag Reference after the style node" in summary and "perhaps" not in summary


def test_tagged_tokens_that_no_call_reads_are_not_lost():
    attribution, message = run(tagged(tiny_graphs.flux_redux()), mechanism="IP-Adapter")
    assert fates(attribution) == {("i2am_references", "unknown")} and "729 tokens of 'style tokens'" in message
    assert "looks for 'IP-Adapter' alone, and this is read by 'style tokens'" in message


@pytest.mark.parametrize(
    ("make", "node"),
    [
        (lambda: tiny_graphs.qwen_edit(sizes=()), "TextEncodeQwenImageEdit"),
        (tiny_graphs.hunyuan_video_text, "TextEncodeHunyuanVideo_ImageToVideo"),
    ],
)
def test_an_image_that_is_in_the_text_alone_is_offered(make, node):
    attribution, message = run(make())
    assert [x.certain for x in attribution.given] == [False]
    assert "tokens of an image" in message and node in message and "I2AM Effect" in message


@pytest.mark.parametrize("make", [tiny_graphs.sd15_canvas, tiny_graphs.lumina2_canvas, tiny_graphs.flux_fill_canvas])
def test_a_canvas_is_offered_to_be_marked_and_not_claimed(make):
    graph = make()
    _, message = run(graph)
    assert message.count("mark it: reference_region of I2AM Capture, and generated_region") == 1
    height, width = graph.latent["samples"].shape[-2:]
    left = torch.zeros(1, height * 8, width * 8)
    left[..., : width * 4] = 1
    marked, summary = run(graph, reference_region=left)
    assert marked.entries and "mark it" not in summary


def test_inpainting_with_a_model_that_has_no_channels_for_it():
    attribution, message = run(given_graphs.through_inpaint(tiny_graphs.sd15_text()))
    assert ("concat_latent_image", "ignored") in fates(attribution)
    assert "the picture that is painted into, beside the latent: this model ignores it" in message
    assert "give the reference in a way that this model reads" not in message


def test_a_mechanism_that_was_not_chosen_is_named():
    attribution, message = run(tiny_graphs.flux_kontext(), mechanism="IP-Adapter")
    assert fates(attribution) == {("reference_latents", "unknown")}
    assert "looks for 'IP-Adapter' alone, and this is read by 'reference latents'" in message
    assert "Set mechanism of I2AM Capture to auto" in message


def test_a_reference_in_calls_that_were_not_captured():
    """Wan S2V: before 0.8, ComfyUI calls its attention without the run's options."""
    attribution, message = run(tiny_wan.s2v(motion=None, observed=False))
    fate = "unknown" if VERSION < (0, 8) else "captured"
    assert fates(attribution) == {("reference_latents", fate)}  # and no control video, which is not connected
    if fate == "captured":
        return
    assert "no attention call that reads it was captured" in message and MEASURE in message


def with_extra_conds(graph, extra):
    """A model whose ``extra_conds`` hands on more, as that of a newer ComfyUI core, or of a pack."""
    model = graph.model.clone()
    original = model.model.extra_conds

    def extra_conds(self, **kwargs):
        return original(**kwargs) | extra(kwargs)

    model.add_object_patch("extra_conds", types.MethodType(extra_conds, model.model))
    graph.model = model
    return graph


def test_a_key_that_i2am_does_not_know_is_named():
    """As of Bernini, whose key is `context_latents`, in newer cores."""

    def handed_on(given):
        return {name: CONDRegular(given["of_2027"]) for name in ["tokens_of_2027"] if "of_2027" in given}

    graph = given_graphs.with_values(tiny_graphs.wan_text(), of_2027=tiny_graphs.noise(2, 1, 16, 2, 4, 6))
    attribution, message = run(with_extra_conds(graph, handed_on))
    assert fates(attribution) == {("of_2027", "unknown")}
    assert "'of_2027'" in message and "handed over as 'tokens_of_2027'" in message and MEASURE in message


def test_what_a_pack_hands_to_the_model_itself_is_named():
    handed = {"tokens_of_a_pack": CONDRegular(tiny_graphs.noise(2, 1, 5, 4))}
    attribution, message = run(given_graphs.with_values(tiny_graphs.wan_text(), model_conds=handed))
    assert fates(attribution) == {("model_conds", "unknown")}
    assert "what a pack hands to the model as 'tokens_of_a_pack'" in message and MEASURE in message


def test_what_cannot_be_compared_says_so_and_costs_nothing_else():
    def fails(given):
        if "ref_latent" not in given:
            raise RuntimeError("it needs one")
        return {}

    graph = given_graphs.with_values(tiny_graphs.flux_kontext(), ref_latent=torch.rand(1, 16, 8, 6))
    graph.negative[0][1]["ref_latent"] = torch.rand(1, 16, 8, 6)
    attribution, summary = run(with_extra_conds(graph, fails))
    assert ("reference_latents", "captured") in fates(attribution) and ("ref_latent", "unknown") in fates(attribution)
    assert "could not be compared: RuntimeError: it needs one" in summary


def test_an_error_of_ours_costs_no_maps(monkeypatch):
    def fail(*args):
        raise RuntimeError("of ours")

    monkeypatch.setattr(fates_of_run, "given_references", fail)
    attribution, summary = run(tiny_graphs.flux_kontext())
    assert attribution.entries and [x.fate for x in attribution.given] == ["unknown"] and "of ours" in summary


def test_a_key_that_only_a_pack_may_read():
    """ComfyUI hands it to nobody, but a function of a pack is in the run."""
    graph = given_graphs.with_values(tiny_graphs.sd15_text(), of_a_pack=tiny_graphs.noise(2, 1, 4, 4))
    graph.model = graph.model.clone()
    graph.model.set_model_unet_function_wrapper(
        lambda model, given: model(given["input"], given["timestep"], **given["c"])
    )
    attribution, message = run(graph)
    assert fates(attribution) == {("of_a_pack", "unknown")}
    assert "reads it by itself is not known" in message and "'of_a_pack'" in message


def test_what_a_pack_hands_over_by_a_known_name_has_its_route():
    handed = {"c_concat": CONDRegular(tiny_graphs.noise(2, 1, 4, 8, 8))}
    pack = EndedRun(
        tiny_models.sd15().model, "positive", [{"model_conds": handed}], torch.zeros(1, 4, 8, 8), None, None
    )
    (one,) = given_references(pack, torch.device("cpu"))
    assert (one.fate, one.how) == ("elsewhere", "as further channels of the latent")


def test_the_picture_of_image_to_image():
    """The sentence must not say that there is nothing in the latent; nor is it claimed to be a reference."""
    graph = tiny_graphs.sd15_text()
    assert "found no reference in the positive conditioning (mechanism 'auto'), nor in the latent." in run(graph)[1]
    for samples in (torch.rand(1, 4, 8, 8), torch.rand(2, 4, 8, 8)):
        graph.latent = {"samples": samples}
        attribution, message = run(graph)
        assert [(x.key, x.fate, x.certain) for x in attribution.given] == [("samples", "elsewhere", False)]
        assert "found no reference" in message and "nor in the latent" not in message
        assert "It may be that there are: the picture in the latent that the sampler starts from" in message
    graph.latent = {"samples": given_graphs.blank(graph)}
    assert run(graph)[0].given == ()
    kontext = tiny_graphs.flux_kontext()
    kontext.latent = {"samples": torch.rand_like(kontext.latent["samples"])}
    assert fates(run(kontext)[0]) == {("reference_latents", "captured")}


@pytest.mark.parametrize(("tokens", "offered"), [(77, False), (154, False), (81, True), (93, True), (158, True)])
def test_tokens_beside_a_text_of_clip_are_offered_to_be_tagged(tokens, offered):
    graph = tiny_graphs.sd15_text(lengths=(tokens, tokens))
    attribution, message = run(graph)
    assert bool(attribution.given) == offered == ("place I2AM Tag Reference after it" in message)
    if offered:
        assert f"perhaps given: tokens of an image, among the {tokens} of the text" in attribution.given[0].line


def test_tagged_tokens_beside_a_text_of_clip_are_not_offered_again():
    graph = tiny_graphs.sd15_text(lengths=(81, 77))
    graph.text_tokens = 77
    assert fates(run(tagged(graph))[0]) == {("i2am_references", "captured")}


def test_a_token_of_photomaker_is_offered_where_it_may_be():
    """It leaves a text as long as it was, so that there is nothing to tag: Effect can tell."""
    attribution, message = run(tiny_graphs.sdxl_text(lengths=(77, 77)))
    assert [x.certain for x in attribution.given] == [False]
    assert "PhotoMakerEncode" in message and "by CLIP Text Encode" in message and "Tag Reference" not in message
    assert run(tiny_graphs.sd15_text(lengths=(77, 77)))[0].given == ()


def test_the_image_that_svd_has_in_the_place_of_the_text():
    attribution, message = run(given_graphs.svd())
    assert fates(attribution) == {("concat_latent_image", "elsewhere"), ("cross_attn", "elsewhere")}
    assert "an image through CLIP vision, in the place of the text: it reaches the model" in message
    assert "the weight of one token is always 1" in message
    assert fates(run(given_graphs.svd(), branch="negative")[0]) == set()


# VACE

VACE_STRENGTHS = {1.0: "captured", 0.0: "ignored"}


def with_vace(strength, video=None, reference=True):
    graph = tiny_graphs.with_pixels(tiny_graphs._video(tiny_models.wan_vace(), 1), 2)
    image = {"reference_image": graph.references[0]} if reference else {}
    video = {} if video is None else {"control_video": video}
    return tiny_graphs.through(nodes_wan.WanVaceToVideo, graph, strength=strength, **image, **video)


@pytest.mark.parametrize("strength", VACE_STRENGTHS)
def test_vace_without_strength_is_ignored(strength):
    graph = with_vace(strength)
    attribution, summary = run(graph)
    assert fates(attribution) == {("vace_frames", VACE_STRENGTHS[strength])}
    assert ("VACE's reference images: this model ignores it (the strength is 0)" in summary) == (strength == 0)
    other = with_vace(strength)
    other.positive = [[x, about | {"vace_frames": [-f for f in about["vace_frames"]]}] for x, about in other.positive]
    same = torch.equal(graph.sample(cfg=1.0)["samples"], other.sample(cfg=1.0)["samples"])
    assert same == (strength == 0)


def test_the_control_video_of_vace_is_named_as_what_it_is():
    video = tiny_graphs.pixels(5, 5, 32, 48)
    attribution, summary = run(with_vace(1.0, video))
    assert fates(attribution) == {("vace_frames", "captured"), ("vace_frames", "elsewhere")}
    assert "given: VACE's reference images: captured (by reference frames)" in summary
    assert "given: VACE's control video (or the grey that its node puts there where none is connected): it" in summary
    attribution, message = run(with_vace(1.0, video, reference=False))
    assert fates(attribution) == {("vace_frames", "elsewhere")} and "reference images" not in message
    assert fates(run(with_vace(0.0, video))[0]) == {("vace_frames", "ignored")}


def test_of_several_controls_of_vace_one_without_strength_is_named():
    graph = with_vace(1.0)
    seconds = [with_vace(0.0).positive, with_vace(0.0).negative]
    for mine, other in zip((graph.positive, graph.negative), seconds, strict=True):
        for key in ("vace_frames", "vace_mask", "vace_strength"):
            mine[0][1][key] = [*mine[0][1][key], *other[0][1][key]]
    assert "of the 2 controls, number 2 has strength 0" in run(graph)[1]


# When it is for no step

NEVER = {"start_percent": 0.99, "end_percent": 1.0}


def test_a_conditioning_that_was_never_active():
    graph = given_graphs.with_reference(tiny_graphs.flux_text(), (4, 4))
    text = [[tokens, {x: y for x, y in about.items() if x != "reference_latents"}] for tokens, about in graph.positive]
    graph.positive = [*text, *([tokens, about | NEVER] for tokens, about in graph.positive)]
    attribution, message = run(graph)
    assert fates(attribution) == {("reference_latents", "ignored")}
    assert "start and end of its conditioning leave out all steps of this run" in message
    assert "Set start and end of that conditioning" in message


def test_the_same_reference_in_a_conditioning_that_was_active():
    graph = given_graphs.with_reference(tiny_graphs.flux_text(), (4, 4))
    graph.positive = [*graph.positive, *([tokens, about | NEVER] for tokens, about in graph.positive)]
    assert fates(run(graph)[0]) == {("reference_latents", "captured"), ("reference_latents", "ignored")}


def test_tagged_tokens_of_a_conditioning_that_was_never_active():
    graph = tagged(tiny_graphs.flux_redux())
    text = [[tokens[:, :7], {"pooled_output": about["pooled_output"]}] for tokens, about in graph.positive]
    graph.positive = [*text, *([tokens, about | NEVER] for tokens, about in graph.positive)]
    assert fates(run(graph)[0]) == {("i2am_references", "ignored")}


@pytest.mark.parametrize(
    ("start", "end", "fate"), [(0.0, 0.5, "elsewhere"), (0.97, 1.0, "ignored"), (0.6, 0.61, "ignored")]
)
def test_a_controlnet_whose_range_holds_no_step(start, end, fate):
    graph = tiny_graphs.sd15_text()
    nodes = comfyui_nodes.ControlNetApplyAdvanced()
    hint = tiny_graphs.pixels(2, 1, 64, 64)
    net = tiny_models.control_net()
    graph.positive, graph.negative = nodes.apply_controlnet(graph.positive, graph.negative, net, hint, 1.0, start, end)
    attribution, message = run(graph)
    assert fates(attribution) == {("control", fate)}
    assert ("its start and end leave out all steps of this run" in message) == (fate == "ignored")
    bare = tiny_graphs.sd15_text()
    assert torch.equal(graph.sample()["samples"], bare.sample()["samples"]) == (fate == "ignored")


# Whose it is


def test_what_only_the_other_branch_was_given_is_not_this_ones():
    graph = given_graphs.wan22_i2v()
    graph.positive = tiny_graphs.wan_text().positive
    assert run(graph)[0].given == ()
    assert fates(run(graph, branch="negative")[0]) == {("concat_latent_image", "elsewhere")}


def test_an_area_of_the_other_branch_brings_nothing():
    """ComfyUI copies its dictionary, keys and all, into this branch."""
    graph = given_graphs.with_reference(tiny_graphs.sd3_text(cfg=3.0), (4, 4))
    graph.positive = [[tokens, about | {"area": (4, 4, 0, 0), "strength": 1.0}] for tokens, about in graph.positive]
    assert fates(run(graph)[0]) == {("reference_latents", "ignored")}
    assert run(graph, branch="negative")[0].given == ()


def test_a_branch_that_never_ran_has_nothing_said_of_it():
    attribution, message = run(tiny_graphs.flux_kontext(cfg=1.0), branch="negative")
    assert attribution.given == () and "never called with its negative conditioning" in message


def test_combined_conditionings_say_it_once():
    graph = given_graphs.with_reference(tiny_graphs.sd3_text(), (4, 4))
    graph.positive = [*graph.positive, *graph.positive]
    assert len(run(graph)[0].given) == 1


def test_frames_in_the_latent_need_others_that_are_painted():
    graph = tiny_graphs.wan_text()
    graph.latent["noise_mask"] = torch.full((1, 1, 2, 4, 6), 0.5)
    assert run(graph)[0].given == ()
    graph.latent["noise_mask"] = torch.tensor([0.3, 1.0]).view(1, 1, 2, 1, 1).expand(1, 1, 2, 4, 6)
    assert fates(run(graph)[0]) == {("samples", "elsewhere")}
    graph.latent["noise_mask"] = torch.tensor([0.0, 1.0]).view(2, 1, 1).expand(2, 4, 6)  # as MASK wires hold it
    assert "frame 0 of 2 of the latent" in run(graph)[1]


def test_the_mechanisms_of_the_keys_are_there():
    assert {name for names in READ_BY.values() for name in names} <= MECHANISMS.keys()
    assert not NO_REFERENCES & REFERENCES.keys()


def test_it_is_saved_and_loaded(tmp_path):
    attribution, summary = run(tiny_graphs.wan_i2v())
    save(attribution, tmp_path / "run.i2am.safetensors")
    assert load(tmp_path / "run.i2am.safetensors").given == attribution.given
    assert all(isinstance(x, GivenReference) and x.line in summary for x in attribution.given)


def test_a_pack_that_counts_what_it_makes_for_the_model_does_not_notice():
    """Reading what was given makes it again, also for a pack whose picture depends on how often that was."""

    def graph():
        calls = [0]

        def counts(given):
            calls[0] += 1
            return {"guidance": CONDRegular(torch.tensor([1.0 + calls[0]]))}

        return with_extra_conds(tiny_graphs.flux_kontext(), counts)

    plain, watched = graph(), graph()
    model, _ = I2AMCapture.execute(watched.model, "auto", "positive", "off", 512).args
    for _ in range(2):
        assert torch.equal(plain.sample()["samples"], watched.sample(model)["samples"])
