"""Pictures taken out of a batch by ComfyUI's own nodes: I2AM Collect gives what they are in their run."""

import comfy_extras.nodes_post_processing  # noqa: F401  (before nodes_latent, on newer cores: they import each other)
import pytest
import tiny_graphs
import torch
import workflow
from comfy_extras.nodes_latent import LatentBatch

import nodes as comfyui_nodes
from i2am_pack.i2am_core import of_items
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect

GRAPHS = {
    "inpainting": lambda: workflow.make(batch=3),
    "kontext": lambda: tiny_graphs.flux_kontext(batch=3),
    "video": lambda: tiny_graphs.wan_i2v(batch=2),
}


@pytest.fixture(scope="module", params=GRAPHS)
def run(request):
    """A handle, the latent of a batch, and its attribution."""
    graph = GRAPHS[request.param]()
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "everywhere", 512).args
    latent = graph.sample(model, steps=2)
    return handle, latent, I2AMCollect.execute(handle, latent).args[0]


def from_batch(latent, start, length=1):
    return comfyui_nodes.LatentFromBatch().frombatch(latent, start, length)[0]


def repeated(latent, amount):
    return comfyui_nodes.RepeatLatentBatch().repeat(latent, amount)[0]


def assert_equal(one, other):
    assert one.items == other.items and one.entries.keys() == other.entries.keys()
    for place, entry in one.entries.items():
        for name in ("maps", "pairs", "head_maps"):
            expected = getattr(other.entries[place], name)
            assert getattr(entry, name).keys() == expected.keys()
            assert all(torch.equal(x, expected[key]) for key, x in getattr(entry, name).items())
    assert (one.denoise_mask is None) == (other.denoise_mask is None)
    if one.denoise_mask is not None:
        assert torch.equal(one.denoise_mask, other.denoise_mask)


CUTS = {
    "one": (lambda latent: from_batch(latent, 1), [1], "picture 1 of a batch of"),
    "a range": (lambda latent: from_batch(latent, 0, 2), [0, 1], "pictures 0-1 of a batch of"),
    "one of a range": (lambda latent: from_batch(from_batch(latent, 0, 2), 1), [1], "picture 1 of a batch of"),
    "repeated": (lambda latent: repeated(from_batch(latent, 1), 2), [1, 1], "pictures 1, 1 of a batch of"),
    "in half precision": (
        lambda latent: {"samples": from_batch(latent, 1)["samples"].half()}, [1], "picture 1 of a batch of",
    ),
}  # fmt: skip


@pytest.mark.parametrize("cut", CUTS)
def test_what_is_taken_out_of_a_batch(run, cut):
    handle, latent, whole = run
    if whole.items == 2 and cut == "a range":
        latent = repeated(latent, 2)  # of a batch of two, a range of two is the batch
    take, items, note = CUTS[cut]
    cut_out = take(latent)
    attribution, samples, summary = I2AMCollect.execute(handle, cut_out).args
    assert samples is cut_out
    if len(items) < whole.items or cut == "repeated":
        assert f"{note} {whole.items} (the first is 0)" in summary
        assert_equal(attribution, of_items(whole, items))
    else:
        assert attribution is whole


def test_the_whole_batch_is_the_run_itself(run):
    handle, latent, whole = run
    assert I2AMCollect.execute(handle, dict(latent)).args[0] is whole
    assert "of a batch" not in whole.summary()


def test_the_last_denoised_latent_of_one_picture():
    """SamplerCustom's second output."""
    graph = workflow.make(batch=2)
    model, handle = graph.capture()
    latent = graph.sample(model, last_step=2, steps=3)["samples"]
    (run,) = handle._runs
    assert len(run.items) > 2 * len({1})
    assert handle.find(latent[1:]).notes[0].startswith("picture 1 of a batch of 2")


def test_pictures_of_two_runs_are_no_batch_of_one():
    graph = workflow.make(batch=2)
    model, handle = graph.capture()
    one, other = (graph.sample(model, seed=seed) for seed in (1, 2))
    (both,) = LatentBatch.execute(from_batch(one, 0), from_batch(other, 0)).args[:1]
    with pytest.raises(ValueError, match=r"none of the 2 .* made this latent.*I2AM Collect Runs"):
        I2AMCollect.execute(handle, both)
    with pytest.raises(ValueError, match="none of the 2"):
        I2AMCollect.execute(handle, {"samples": from_batch(one, 1)["samples"] + 1e-3})


def test_a_batch_that_was_dropped():
    graph = workflow.make(batch=2)
    model, handle = graph.capture(budget_mb=1)
    first = graph.sample(model, seed=0)
    for seed in range(1, 6):
        graph.sample(model, seed=seed)
    with pytest.raises(ValueError, match="dropped to stay within budget_mb"):
        I2AMCollect.execute(handle, from_batch(first, 1))


def test_a_sampler_without_a_step_is_a_cause_that_is_named():
    graph = workflow.make()
    model, handle = graph.capture()
    for nothing in ({"denoise": 0.0}, {"start_step": 3, "last_step": 2}):
        latent = graph.sample(model, steps=3, **nothing)
        with pytest.raises(ValueError, match=r"denoise 0, or a start that is not before the end"):
            I2AMCollect.execute(handle, latent)
    graph.sample(model)
    with pytest.raises(ValueError, match=r"none of the 1 .*denoise 0, or a start that is not before the end"):
        I2AMCollect.execute(handle, graph.sample(model, denoise=0.0))
