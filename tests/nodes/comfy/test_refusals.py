"""Ways in which a run, or a part of it, is refused: the host samples as before, and people read the reason.

A case each, with the sentence. What a workflow says of a latent that no run made: ``test_upstream.py``.
"""

import copy
import importlib
import importlib.util
import math
import os
import types
from pathlib import Path
from unittest.mock import patch

import comfy.ldm.modules.attention as attention_module
import comfy.sample
import comfy.samplers
import pytest
import tiny_graphs
import tiny_models
import torch
from comfy.model_patcher import ModelPatcher
from comfy.nested_tensor import NestedTensor
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_model_patch import SigLIPMultiFeatProjModel, USOStyleReference
from comfy_extras.nodes_wan import WanVaceToVideo
from ip_adapter_standin import SETTINGS, WEIGHT, StandIn, weights
from mechanisms import sampled, steered

from i2am_pack.i2am_core import MapKind, Selection, maps
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.comfy.tags import KEY, tag
from i2am_pack.nodes.imacs import I2AMIMACS
from i2am_pack.nodes.specific_reference import I2AMSpecificReference


def refusal(graph, model=None, **sampling):
    """The sentence of Collect, after a run that is as it is without Capture."""
    model = graph.model if model is None else model
    plain = graph.sample(model, **sampling)["samples"]
    model, handle = I2AMCapture.execute(model, "auto", "positive", "off", 64).args
    latent = graph.sample(model, **sampling)
    assert all(map(torch.equal, parts(plain), parts(latent["samples"])))
    with pytest.raises(ValueError) as raised:
        I2AMCollect.execute(handle, latent)
    assert type(raised.value) is ValueError
    return str(raised.value)


def parts(samples):
    return samples.unbind() if isinstance(samples, NestedTensor) else [samples]


# Several latents in one


class NestedModel:
    """Of several latents in one row it denoises the first: as a model of video with sound, which has them beside."""

    def __init__(self, *shapes):
        self.shapes = shapes

    def __call__(self, apply_model, given):
        x = given["input"]
        sizes = [math.prod(shape) for shape in self.shapes]
        first, rest = x[..., : sizes[0]], x[..., sizes[0] :]
        denoised = apply_model(first.reshape(len(x), *self.shapes[0]), given["timestep"], **given["c"])
        return torch.cat([denoised.reshape(len(x), 1, -1), rest * 0.5], -1)


def nested(cfg):
    """A graph whose latent is a picture and something else beside it."""
    graph = tiny_graphs.sd15_text(cfg=cfg)
    first = graph.latent["samples"]
    graph.latent = {"samples": NestedTensor([first, torch.zeros(len(first), 2, 3, 5)])}
    graph.model.set_model_unet_function_wrapper(NestedModel(first.shape[1:], (2, 3, 5)))
    return graph


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_several_latents_in_one(cfg):
    sentence = refusal(nested(cfg))
    assert "these are several latents in one" in sentence and "sample them one by one" in sentence


def test_one_of_several_latents():
    """A node takes the video out of what was sampled with its sound, and Collect is given the video alone."""
    graph = nested(1.0)
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 64).args
    picture = graph.sample(model)["samples"].unbind()[0]
    with pytest.raises(ValueError, match=r"no maps: I2AM cannot capture a run on several latents at once.*one by one"):
        I2AMCollect.execute(handle, {"samples": picture})


def test_several_latents_are_not_steered():
    graph = nested(1.0)
    with pytest.raises(ValueError, match=r"several latents at once.*nor change it: sample them one by one"):
        graph.sample(steered(graph.model, 0.5))


def test_several_latents_leave_the_runs_before_them_as_they_are():
    graph = tiny_graphs.flux_kontext()
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 64).args
    before = graph.sample(model)
    graph.latent = {"samples": NestedTensor([graph.latent["samples"], torch.zeros(1, 2, 3, 5)])}
    model.set_model_unet_function_wrapper(NestedModel(before["samples"].shape[1:], (2, 3, 5)))
    after = graph.sample(model)
    assert I2AMCollect.execute(handle, before).args[0].captured_calls > 0
    with pytest.raises(ValueError, match="these are several latents in one"):
        I2AMCollect.execute(handle, after)


# Tiles, and other calls of the model that are not for the whole picture


def quarters_in_a_batch(apply_model, given):
    """Four tiles in one call, as MultiDiffusion makes them."""
    x, halves = given["input"], [slice(0, 4), slice(4, 8)]
    tiles = [x[..., rows, columns] for rows in halves for columns in halves]
    conditions = {name: of_tiles(value, len(x), 4) for name, value in given["c"].items()}
    denoised = apply_model(torch.cat(tiles), given["timestep"].repeat(4), **conditions).chunk(4)
    return torch.cat([torch.cat(denoised[:2], -1), torch.cat(denoised[2:], -1)], -2)


def of_tiles(value, rows, tiles):
    return value.repeat(tiles, *[1] * (value.ndim - 1)) if isinstance(value, torch.Tensor) else value


def halves_one_by_one(apply_model, given):
    x = given["input"]
    return torch.cat([apply_model(half, given["timestep"], **given["c"]) for half in x.split(4, -1)], -1)


def item_by_item(apply_model, given):
    """Each picture of the batch in a call of its own."""
    made = []
    for number in range(len(given["input"])):
        one = {name: item(value, number) for name, value in given["c"].items()}
        made.append(apply_model(given["input"][number : number + 1], given["timestep"][:1], **one))
    return torch.cat(made)


def item(value, number):
    return value[number : number + 1] if isinstance(value, torch.Tensor) else value


def at_half_the_size(apply_model, given):
    small = torch.nn.functional.avg_pool2d(given["input"], 2)
    return torch.nn.functional.interpolate(apply_model(small, given["timestep"], **given["c"]), scale_factor=2)


PERHAPS = ". Tiled samplers, and packs that cut, resize or batch what the model is given, do so: sample without them"
AT_ONCE = "where the run has 2 for each of 1 conditioning(s): how they lie in the run's is not known" + PERHAPS
LIES = "where that of the run is 8x8: how it lies in the picture is not known" + PERHAPS
CALLS = {
    quarters_in_a_batch: f"the model was given 8 picture(s) at once, {AT_ONCE}",
    item_by_item: f"the model was given 1 picture(s) at once, {AT_ONCE}",
    halves_one_by_one: f"the model was given a latent of 4x8, {LIES}",
    at_half_the_size: f"the model was given a latent of 4x4, {LIES}",
}


@pytest.mark.parametrize("wrapper", CALLS, ids=lambda wrapper: wrapper.__name__)
def test_calls_that_are_not_for_the_whole_picture(wrapper):
    graph = tiny_graphs.sd15_canvas(batch=2, cfg=1.0)
    graph.model.set_model_unet_function_wrapper(wrapper)
    assert CALLS[wrapper] in refusal(graph)


# Runs in which the model is not called


def test_a_schedule_without_a_step():
    """As Split Sigmas gives at step 0. The sampler runs, and evaluates nothing."""
    graph = tiny_graphs.flux_kontext()
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 64).args
    latent = sampled_with(graph, model, torch.ones(1))
    assert torch.equal(latent["samples"], sampled_with(graph, graph.model, torch.ones(1))["samples"])
    with pytest.raises(ValueError, match=r"the sampler took no step: it may be that .* the sigmas were split"):
        I2AMCollect.execute(handle, latent)


def sampled_with(graph, model, sigmas):
    samples, sampler = graph.latent["samples"], comfy.samplers.sampler_object("euler")
    noise = comfy.sample.prepare_noise(samples, 1)
    made = comfy.sample.sample_custom(model, noise, 1.0, sampler, sigmas, graph.positive, graph.negative, samples)
    return {"samples": made}


def test_a_conditioning_that_starts_after_the_end():
    graph = tiny_graphs.flux_kontext()
    graph.positive = [[tokens, about | {"start_percent": 1.0, "end_percent": 1.0}] for tokens, about in graph.positive]
    sentence = refusal(graph)
    assert "never called with its positive conditioning: it may be that start and end of that conditioning" in sentence


def test_a_branch_that_the_guider_leaves_out():
    graph = tiny_graphs.flux_kontext(cfg=1.0)
    model, handle = I2AMCapture.execute(graph.model, "auto", "negative", "off", 64).args
    with pytest.raises(ValueError, match=r"with its negative conditioning: it may be that guidance is off \(cfg 1"):
        I2AMCollect.execute(handle, graph.sample(model))


# Patches of self-attention: token merging, tiles of the feature map


def as_the_server_loads(name):
    """A module of ComfyUI's nodes under the name that its server gives it, which is its path."""
    path = str(Path(os.environ["COMFYUI_PATH"]) / "comfy_extras" / name)
    spec = importlib.util.spec_from_file_location(path, f"{path}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TOME, HYPERTILE = "nodes_tomesd", "nodes_hypertile"
LOADED = {
    "by the server": as_the_server_loads,
    "imported": lambda name: importlib.import_module(f"comfy_extras.{name}"),
}


@pytest.fixture(params=LOADED)
def load(request):
    return LOADED[request.param]


def merged(load, graph, ratio):
    graph.model = load(TOME).TomePatchModel.execute(graph.model, ratio)[0]
    return graph


def tiled(load, graph):
    graph.model = load(HYPERTILE).HyperTile.execute(graph.model, 32, 1, 0, False)[0]
    return graph


def unet_with_tags(**shape):
    graph = tiny_graphs.sd15_text(**shape)
    ((tokens, about),) = graph.positive
    graph.positive = [[tokens, about | {KEY: [tag("tagged", 2, tokens[:, 2:6], (2, 2))]}]]
    return graph


def with_adapter(graph, weight=WEIGHT):
    embeds = torch.randn(1, 257, 8, generator=torch.Generator().manual_seed(3))
    given = SETTINGS | {"weight": weight}
    graph.model = StandIn().apply(graph.model, weights(), embeds, torch.zeros_like(embeds), False, **given)
    return graph


BIG = {"size": (16, 16)}
NO_REFERENCE = "self-attention: it holds no reference tokens"


@pytest.mark.parametrize("ratio", [0.3, 0.5])
def test_merged_tokens_leave_the_attention_to_references_whole(load, ratio):
    """At 0.5 the keys are twice the queries: so they are with reference-only, which this is not."""
    graph = merged(load, with_adapter(unet_with_tags(**BIG)), ratio)
    latent, attribution = sampled(graph)
    assert torch.equal(latent, graph.sample()["samples"])
    assert attribution.references[0].name == "tagged"
    assert set(attribution.skipped) == {NO_REFERENCE}
    assert attribution.captured_calls == 14 + 4 and attribution.skipped[NO_REFERENCE] == 14


def test_tiles_of_the_feature_map_leave_the_attention_to_references_whole(load):
    graph = tiled(load, with_adapter(unet_with_tags(**BIG)))
    latent, attribution = sampled(graph)
    assert torch.equal(latent, graph.sample()["samples"])
    reason = (
        "self-attention that HyperTile.execute.<locals>.hypertile_in of comfy_extras/nodes_hypertile changed: it has "
        "32 rows, where the model was given 2"
    ).replace("/", "/" if load is as_the_server_loads else ".")
    assert set(attribution.skipped) == {NO_REFERENCE, reason}
    assert attribution.captured_calls == 14 + 4


def canvas_refusal(graph):
    region = torch.zeros(1, 64, 64)
    region[..., :32] = 1
    model, handle = I2AMCapture.execute(graph.model, "canvas regions", "positive", "off", 64, None, region).args
    latent = graph.sample(model)
    assert torch.equal(latent["samples"], graph.sample()["samples"])
    return set(handle.find(latent["samples"]).skipped)


def test_merged_tokens_are_no_cells_of_a_canvas(load):
    skipped = canvas_refusal(merged(load, tiny_graphs.sd15_canvas(**BIG), 0.3))
    name = "comfy_extras/nodes_tomesd" if load is as_the_server_loads else "comfy_extras.nodes_tomesd"
    assert (
        f"self-attention that TomePatchModel.execute.<locals>.tomesd_m of {name} changed, to 180 queries and 256 keys "
        "on a feature map of 16x16 cells: which of the cells these are is not known"
    ) in skipped


def test_of_several_that_change_self_attention_it_was_one(load):
    def scaled(x, context, value, options):
        return x * 2, context, value

    graph = merged(load, tiny_graphs.sd15_canvas(**BIG), 0.3)
    graph.model.set_model_attn1_patch(scaled)
    (reason,) = (x for x in canvas_refusal(graph) if "queries" in x)
    assert "self-attention that one of TomePatchModel" in reason and f"scaled of {__name__} changed" in reason


def test_merged_tokens_of_reference_only_are_not_told_from_others(load):
    """The pack's features are there, but whose queries they are attended from is not known."""
    graph = merged(load, tiny_graphs.sd15_reference_only(**BIG), 0.3)
    model, handle = I2AMCapture.execute(graph.model, "reference-only", "positive", "off", 64).args
    latent = graph.sample(model)
    assert torch.equal(latent["samples"], graph.sample()["samples"])
    assert any("tomesd_m" in x and "which of the cells these are" in x for x in handle.find(latent["samples"]).skipped)


# Tagged tokens beside an IP-Adapter


def test_tagged_tokens_beside_an_adapter_that_counts_nothing_are_as_without_it():
    _, plain = sampled(unet_with_tags())
    _, beside = sampled(with_adapter(unet_with_tags(), weight=0.0))
    tagged = {layer.name: plain.layer_maps(0, n) for n, layer in enumerate(plain.layers)}
    for number, layer in enumerate(beside.layers):
        for name, values in beside.layer_maps(0, number).maps.items():
            torch.testing.assert_close(values, tagged[layer.name].maps[name], atol=1e-6, rtol=1e-4)
    assert {layer.name for layer in beside.layers} == set(tagged)
    assert not any("the text" in reason for reason in beside.skipped)


@pytest.mark.parametrize("batch", [1, 2])
def test_tagged_tokens_beside_an_adapter_are_captured(batch):
    graph = with_adapter(unet_with_tags(batch=batch, cfg=3.0))
    attribution = capture_beside(graph)
    layers = {layer.name for layer in attribution.layers}
    for reference in range(len(attribution.references)):
        read = {x.name for n, x in enumerate(attribution.layers) if attribution.layer_maps(reference, n)}
        assert read == layers if reference == 0 else len(read) == 2


def capture_beside(graph):
    latent, attribution = sampled(graph)
    assert torch.equal(latent, graph.sample()["samples"])
    assert set(attribution.skipped) == {NO_REFERENCE}
    return attribution


def test_tagged_tokens_beside_an_adapter_are_steered():
    """To mute them is to leave them out of the conditioning's softmax: not so without the adapter's layers."""
    graph = with_adapter(unet_with_tags(cfg=1.0), weight=0.0)
    muted = graph.sample(steered(graph.model, 0.0, reference=0))["samples"]
    alone = unet_with_tags(cfg=1.0)
    expected = alone.sample(steered(alone.model, 0.0, reference=0))["samples"]
    torch.testing.assert_close(muted, expected, atol=1e-5, rtol=1e-4)
    assert (muted - graph.sample()["samples"]).abs().max() > 1e-3


def test_with_another_mechanism_they_are_what_they_are():
    _, attribution = sampled(with_adapter(unet_with_tags()), mechanism="IP-Adapter")
    assert "cross-attention to the text and to tagged reference tokens, beside which IP-Adapter has its own" in (
        attribution.skipped
    )
    _, attribution = sampled(with_adapter(tiny_graphs.sd15_text()))
    assert "cross-attention to the text, beside which IP-Adapter has its own" in attribution.skipped


# What a mechanism, or the order of a model's tokens, does not read


def reasons(graph, mechanism="auto", generated=None, reference=None):
    """All that a run was skipped for, and its notes; it is as it is without Capture."""
    regions = () if reference is None else (generated, reference)
    model, handle = I2AMCapture.execute(graph.model, mechanism, "positive", "off", 64, *regions).args
    latent = graph.sample(model)["samples"]
    assert torch.equal(latent, graph.sample()["samples"])
    attribution = handle.find(latent)
    assert not any("could not" in reason for reason in (*attribution.skipped, *attribution.notes))
    return "; ".join((*attribution.skipped, *attribution.notes))


def left(count=1):
    region = torch.zeros(count, 64, 64)
    region[..., :32] = 1
    return region


def with_area(graph):
    graph.positive = [[tokens, about | {"area": (4, 4, 0, 0), "strength": 1.0}] for tokens, about in graph.positive]
    return graph


def with_tag(graph, start):
    ((tokens, about),) = graph.positive
    graph.positive = [[tokens, about | {KEY: [tag("tagged", start, tokens[:, :4], (2, 2))]}]]
    return graph


def with_longer_context(graph):
    def longer(executor, x, timesteps, context, *args, **kwargs):
        return executor(x, timesteps, torch.cat([context, context[:, :2]], 1), *args, **kwargs)

    graph.model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test", longer)
    return graph


def with_fewer_queries(graph):
    """As token merging of cross-attention: every second cell, whose result is taken for its neighbour, too."""

    def every_second(n, context, value, options):
        return n[:, ::2], context, value

    graph.model.set_model_attn2_patch(every_second)
    graph.model.set_model_attn2_output_patch(lambda out, options: out.repeat_interleave(2, 1))
    return graph


def with_other_tokens(graph):
    def others(n, context, value, options):
        return n, context * 1.5, value

    graph.model.set_model_attn2_patch(others)
    return graph


def with_calls(graph, wrapper):
    graph.model.set_model_unet_function_wrapper(wrapper)
    return graph


def frame_by_frame(apply_model, given):
    return torch.cat([apply_model(x, given["timestep"], **given["c"]) for x in given["input"].split(1, 2)], 2)


def without_a_word(apply_model, given):
    """It calls the model, and leaves out what ComfyUI says of the call."""
    options = {k: x for k, x in given["c"]["transformer_options"].items() if k not in ("cond_or_uncond", "uuids")}
    return apply_model(given["input"], given["timestep"], **given["c"] | {"transformer_options": options})


def video_with_a_mask():
    graph = tiny_graphs.wan_phantom(cfg=1.0)
    graph.positive = [[tokens, about | {"mask": torch.ones(1, 8, 8)}] for tokens, about in graph.positive]
    return graph


def chroma_with_latents():
    return tiny_graphs.with_references(tiny_graphs.chroma_text(), 2, tiny_graphs.TWO, True)


NOT_READ = {
    "a canvas without what is painted": (
        lambda: reasons(tiny_graphs.sd15_text(), reference=left()),
        "a reference region without a generated one: give generated_region, or use an inpainting mask",
    ),
    "a canvas of which a conditioning has a part": (
        lambda: reasons(with_area(tiny_graphs.sd15_canvas()), reference=left()),
        "canvas regions of a conditioning or context window that has a part of the canvas only",
    ),
    "another number of masks": (
        lambda: reasons(tiny_graphs.sd15_text(batch=2), generated=left(3), reference=left()),
        "3 masks of the generated region for 2 pictures: give one, or one for each",
    ),
    "a canvas that is painted all over": (
        lambda: reasons(tiny_graphs.sd15_text(), generated=torch.ones(1, 64, 64), reference=left()),
        "a region without a cell of its own on a grid of 8x8",
    ),
    "tags beyond the text of a U-Net": (
        lambda: reasons(with_tag(tiny_graphs.sd15_text(), 5)),
        "reference tokens are tagged beyond the 7 tokens of the conditioning",
    ),
    "tags beyond the text of a transformer": (
        lambda: reasons(with_tag(tiny_graphs.flux_text(), 5)),
        "reference tokens are tagged beyond the 7 tokens of the conditioning",
    ),
    "more text than the conditioning has": (
        lambda: reasons(with_longer_context(unet_with_tags())),
        "cross-attention over 9 tokens, where the conditioning has 7",
    ),
    "fewer queries than cells": (
        lambda: reasons(with_fewer_queries(unet_with_tags())),
        "attention of 32 queries, where the feature map has 8x8 cells: it may be that with_fewer_queries.<locals>."
        f"every_second of {__name__} has changed them",
    ),
    "tokens that a pack has changed": (
        lambda: reasons(with_other_tokens(unet_with_tags())),
        f"cross-attention whose tokens with_other_tokens.<locals>.others of {__name__} has changed: whether these are "
        "the conditioning's is not known",
    ),
    "some frames of a video": (
        lambda: reasons(with_calls(tiny_graphs.wan_text(cfg=1.0), frame_by_frame)),
        "the model was given 1 of the 2 frames of the video: which ones is not known",
    ),
    "calls of which nothing is known": (
        lambda: reasons(with_calls(tiny_graphs.sd15_canvas(cfg=1.0), without_a_word)),
        "a call of the model by another pack, which does not say of which conditionings it is",
    ),
    "a video with a masked conditioning": (
        lambda: reasons(video_with_a_mask()),
        "conditionings of a video that are limited to an area or a mask: not supported yet",
    ),
    "a reference beside the latent, and an area": (
        lambda: reasons(with_area(tiny_graphs.hidream_e1())),
        "the conditioning's area cuts the reference that is beside the latent: not supported yet",
    ),
    "reference latents that a model has no place for": (
        lambda: reasons(chroma_with_latents()),
        "a Chroma was given reference latents, but has no place for them",
    ),
}


@pytest.mark.parametrize("name", NOT_READ)
def test_what_is_not_read_is_said(name):
    run, sentence = NOT_READ[name]
    assert sentence in run()


# From the graph to what Collect says


def collected(graph, pair_maps="off"):
    """Collect's summary, or the sentence with which it refuses; the run is as it is without Capture."""
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", pair_maps, 64).args
    latent = graph.sample(model)
    assert torch.equal(latent["samples"], graph.sample()["samples"])
    try:
        return I2AMCollect.execute(handle, latent).args[2]
    except ValueError as error:
        assert type(error) is ValueError
        return str(error)


def with_modules_of_its_own(graph, names, keeps=("patches",)):
    """As a pack that runs copies of a model's blocks; of ComfyUI's options it hands on these, and what is no patch."""
    denoiser = graph.model.model.diffusion_model
    copies = {name: copy.deepcopy(getattr(denoiser, name)) for name in names}

    def wrapper(executor, *args, **kwargs):
        args = [without_patches(x) if isinstance(x, dict) and "patches" not in keeps else x for x in args]
        with patch.dict(denoiser._modules, copies):
            return executor(*args, **kwargs)

    graph.model = graph.model.clone()
    graph.model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "another pack", wrapper)
    return graph


def without_patches(options):
    return {name: x for name, x in options.items() if name != "patches"}


def with_uso(graph):
    projector, cpu = SigLIPMultiFeatProjModel(729, 5, 8, 32, operations=torch.nn), torch.device("cpu")
    tiny_models.fill(projector)
    patched = ModelPatcher(projector, cpu, cpu)
    graph.model = USOStyleReference().apply_patch(graph.model, patched, tiny_graphs.vision(2, 729, 8))[0]
    return graph


def hunyuan_image():
    model = tiny_models.hunyuan_video(
        vec_in_dim=None, patch_size=[2, 2], axes_dim=[8, 8], guidance_embed=False, in_channels=64, out_channels=64
    )
    graph = tiny_graphs._image(model, 1, 64)
    return with_tag(graph, 2)


def vace_with_another_control():
    """The second has no reference, and as many frames more of the video."""
    graph = tiny_graphs.wan_vace()
    _, _, frames, height, width = graph.latent["samples"].shape
    sizes = (8 * width, 8 * height, 4 * (frames - 1) + 1, 1)
    vae = tiny_graphs.TinyVAE(16, 4)
    made = tiny_graphs.run(WanVaceToVideo, graph.positive, graph.negative, vae, *sizes, strength=1.0)
    graph.positive, graph.negative = made[:2]
    return graph


def clip_of_another_model():
    graph = tiny_graphs.wan_i2v(cfg=1.0)
    seen = tiny_graphs.vision(2, 100, 1280)
    graph.positive = [[tokens, about | {"clip_vision_output": seen}] for tokens, about in graph.positive]
    return graph


def beside_the_cells():
    graph = with_tag(tiny_graphs.sd15_text(), 2)
    graph.positive = [[tokens, about | {"area": (4, 4, 1, 1), "strength": 1.0}] for tokens, about in graph.positive]
    return graph


def video_with_an_inpainting_mask():
    graph = tiny_graphs.wan_phantom(cfg=1.0)
    graph.latent["noise_mask"] = torch.ones(1, 32, 48)
    return graph


SAID = {
    "blocks that are not the model's": (
        lambda: collected(
            with_modules_of_its_own(tiny_graphs.hidream_e1(), ("double_stream_blocks", "single_stream_blocks"))
        ),
        "8 x attention outside the model's blocks that I2AM knows",
    ),
    "attention that is not announced": (
        lambda: collected(
            with_modules_of_its_own(unet_with_tags(), ("input_blocks", "middle_block", "output_blocks"), keeps=())
        ),
        "28 x attention that ComfyUI does not announce as attn1 or attn2: it may hold the reference",
    ),
    "attention of a block of which nothing is known": (
        lambda: collected(with_modules_of_its_own(tiny_graphs.wan_phantom(cfg=1.0), ("blocks",))),
        "8 x attention of a block of which it is not known what it attends to",
    ),
    "a style by USO where none is read": (
        lambda: collected(with_uso(tiny_graphs.chroma_text())),
        "8 x a Chroma was given a style by USO, but has no place for it",
    ),
    "a style by USO beside what is read": (
        lambda: collected(with_uso(tiny_graphs.omnigen2_edit())),
        "USO style 1, 15 tokens, no spatial layout, given, and read by no call that was captured",
    ),
    "an odd width of HiDream-E1": (
        lambda: collected(tiny_graphs.hidream_e1(size=(4, 5))),
        "8 x a latent 5 cells wide, where tokens of 2 hold both picture and reference at the border",
    ),
    "single pictures of Hunyuan": (
        lambda: collected(hunyuan_image()),
        "x attention of a HunyuanVideo for single pictures",
    ),
    "VACE with and without a reference": (
        lambda: collected(vace_with_another_control()),
        "8 x VACE with controls that have different numbers of reference frames: [0, 1]",
    ),
    "another number of CLIP's tokens": (
        lambda: collected(clip_of_another_model()),
        "4 x attention to 100 image tokens, where CLIP vision gives 257 for each image",
    ),
    "an area that starts within a cell": (
        lambda: collected(beside_the_cells()),
        "the area of a conditioning does not start on a cell of every layer: there, maps are put on the nearest cell",
    ),
    "pair maps of an area": (
        lambda: collected(beside_the_cells(), pair_maps="everywhere"),
        "no pair maps are kept of conditionings that are limited to an area, nor of context windows",
    ),
    "an inpainting mask of a video": (
        lambda: collected(video_with_an_inpainting_mask()),
        "the inpainting mask of a video is not read: maps are of the whole video",
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_what_collect_says(name):
    run, sentence = SAID[name]
    assert sentence in run()


def test_pair_maps_of_an_area_are_refused_where_they_are_needed():
    graph = beside_the_cells()
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "everywhere", 64).args
    attribution = I2AMCollect.execute(handle, graph.sample(model)).args[0]
    selected = dict(steps="all", layers="all", heads="all", reference=0, item=0, colormap="jet", opacity=0.5)
    with pytest.raises(ValueError, match="pair maps"):
        I2AMSpecificReference.execute(attribution, left(), "generated to reference", **selected)


def test_the_mask_of_a_video_is_no_scope():
    graph = video_with_an_inpainting_mask()
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 64).args
    attribution = I2AMCollect.execute(handle, graph.sample(model)).args[0]
    assert maps(attribution, MapKind("g2r")).scope == "whole image"
    rule = dict(penalty=3.0, threshold=0.4, steps="all", layers="all", heads="all", reference=0, item=0)
    with pytest.raises(ValueError, match="this run had no inpainting mask, so there is nothing to score against"):
        I2AMIMACS.execute(attribution, "auto", **rule)
    with pytest.raises(ValueError, match="no inpainting mask"):
        maps(attribution, MapKind("g2r"), selection=Selection(scope="inpainting mask"))


def attention_in_two(attention, q, k, v, heads, *args, **kwargs):
    """A kernel that asks ComfyUI's attention once more, as one that falls back on another does."""
    options = kwargs["transformer_options"]
    if "inside" not in options:
        optimized_attention(q, k, v, heads, transformer_options=options | {"inside": True})  # noqa: F821
    return attention(q, k, v, heads, *args, **kwargs)


def test_attention_inside_attention_is_no_call_of_the_model():
    """In ComfyUI's own code. What a pack makes is its own: see ``test_distrust``."""
    graph = unet_with_tags()
    _, plain = sampled(graph)
    of_comfyui = types.FunctionType(attention_in_two.__code__, vars(attention_module), attention_in_two.__name__)
    graph.model = graph.model.clone()
    graph.model.model_options["transformer_options"]["optimized_attention_override"] = of_comfyui
    assert "28 x attention inside the attention of another call" in collected(graph)
    _, attribution = sampled(graph)
    assert attribution.captured_calls == plain.captured_calls
    for place, entry in plain.entries.items():
        torch.testing.assert_close(attribution.entries[place].maps["r2g_share"], entry.maps["r2g_share"])
