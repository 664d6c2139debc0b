"""Ways in which a run, or a part of it, is refused: the host samples as before, and people read the reason.

A case each, with the sentence. What a workflow says of a latent that no run made: ``test_upstream.py``.
"""

import math

import comfy.sample
import comfy.samplers
import pytest
import tiny_graphs
import torch
from comfy.nested_tensor import NestedTensor
from mechanisms import steered

from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect


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


PERHAPS = "(tiled samplers, and packs that cut, resize or batch what the model is given, make such calls: sample"
CALLS = {
    quarters_in_a_batch: "a call with 8 rows, where there are 2 (pictures 2, conditionings 1): what of the picture "
    f"each row is, is not known {PERHAPS}",
    item_by_item: "a call with 1 rows, where there are 2 (pictures 2, conditionings 1): what of the picture each row "
    f"is, is not known {PERHAPS}",
    halves_one_by_one: "a call for 4x8 cells, where the latent has 8x8: what of the picture that is, is not known "
    + PERHAPS,
    at_half_the_size: "a call for 4x4 cells, where the latent has 8x8: what of the picture that is, is not known "
    + PERHAPS,
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
    with pytest.raises(ValueError, match=r"the sampler took no step: its schedule is of 1 sigma\(s\)"):
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
