"""The handle between Capture and Collect, and what it says when there is nothing to collect."""

import pytest
import torch
import workflow

from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect


@pytest.fixture(scope="module")
def graph():
    return workflow.make()


def test_collect_picks_the_run_that_made_the_latent(graph):
    model, handle = graph.capture()
    first, second = graph.sample(model, seed=1), graph.sample(model, seed=2)
    attributions = [I2AMCollect.execute(handle, out).args[0] for out in (first, second)]
    assert attributions[0] is not attributions[1]
    assert I2AMCollect.execute(handle, first).args[0] is attributions[0]


def test_collect_passes_the_latent_and_summarises(graph):
    model, handle = graph.capture()
    out = graph.sample(model)
    _, samples, summary = I2AMCollect.execute(handle, out).args
    assert samples is out
    for part in ("3 steps", "demo reference, 256 tokens, grid 16x16", "18 captured, 18 skipped", "4: output 2.0"):
        assert part in summary


def test_a_latent_in_half_precision_is_recognised(graph):
    model, handle = graph.capture()
    out = graph.sample(model)
    assert handle.find(out["samples"].half()).entries


def test_never_sampled(graph):
    _, handle = graph.capture()
    with pytest.raises(ValueError, match="no run of a sampler has come to this I2AM Capture"):
        I2AMCollect.execute(handle, graph.latent)


def test_another_latent(graph):
    model, handle = graph.capture()
    out = graph.sample(model)
    with pytest.raises(ValueError, match=r"none of the 1 finished run.*another ComfyUI session"):
        I2AMCollect.execute(handle, {"samples": out["samples"] + 1})


def test_no_reference_tokens(graph):
    plain = workflow.make()
    plain.positive[0][1].pop("i2am_references")
    with pytest.raises(ValueError, match=r"nothing of what was given in the positive .*18 x cross-attention"):
        plain.attribution()


def test_the_negative_branch_without_guidance(graph):
    with pytest.raises(ValueError, match=r"never called with its negative conditioning.*guidance is off"):
        graph.attribution(branch="negative")


def test_old_runs_are_dropped(graph):
    model, handle = graph.capture(budget_mb=1)
    outs = [graph.sample(model, seed=seed, steps=6) for seed in range(8)]
    with pytest.raises(ValueError, match="dropped to stay within budget_mb"):
        I2AMCollect.execute(handle, outs[0])
    assert I2AMCollect.execute(handle, outs[-1]).args[0].entries


@pytest.mark.parametrize("model", [torch.nn.Linear(1, 1), "checkpoint.safetensors", None])
def test_something_that_is_not_a_diffusion_model(model):
    with pytest.raises(ValueError, match="needs a diffusion model from one of ComfyUI's loaders, but got a"):
        I2AMCapture.execute(model, "auto", "positive", "off", 512)


def test_a_patcher_around_something_else():
    from comfy.model_patcher import ModelPatcher

    device = torch.device("cpu")
    with pytest.raises(ValueError, match="a ModelPatcher around a Linear"):
        I2AMCapture.execute(ModelPatcher(torch.nn.Linear(1, 1), device, device), "auto", "positive", "off", 512)
