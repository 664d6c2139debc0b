"""On a GPU the host waits for our nodes a few times a step, whatever the number of layers, heads and calls."""

from dataclasses import replace

import ip_adapter_runs
import ip_adapter_standin
import pytest
import tiny_graphs
import tiny_models
import torch
import workflow
from counted_runs import counted, use_device
from effect_runs import measured
from live_audience import with_audience
from mechanisms import steered
from steered_graphs import region

from i2am_pack.nodes.comfy.consumers.record import Record
from i2am_pack.nodes.tag_reference import I2AMTagReference

A_STEP, A_RUN = 4, 8  # waits beyond those of the plain run


@pytest.fixture(autouse=True)
def device(monkeypatch):
    """Models with so many layers that a wait in each would show."""
    use_device(monkeypatch)
    for name in ("depth", "depth_single_blocks"):
        monkeypatch.setitem(tiny_models.FLUX, name, 4)
    monkeypatch.setitem(tiny_models.WAN, "num_layers", 4)
    for name, depth in (("transformer_depth", [2, 2]), ("transformer_depth_output", [2] * 4)):
        monkeypatch.setitem(tiny_models.UNET, name, depth)


def ip_adapter(**settings):
    graph, _, _ = ip_adapter_runs.graph_with(ip_adapter_standin.StandIn, tokens=257, settings=settings)
    return graph


def inpainted(graph):
    mask = torch.zeros(1, 1, *graph.latent["samples"].shape[-2:])
    mask[..., 1:, 1:] = 1
    return replace(graph, latent=graph.latent | {"noise_mask": mask})


def tagged(graph):
    tokens, about = graph.positive[0]
    graph.positive = I2AMTagReference.execute([[tokens[:, :7], about]], graph.positive, None).args[0]
    return graph


LEFT = torch.tensor([1.0, 0.0]).repeat_interleave(32).expand(1, 64, 64)
MASK = torch.linspace(0, 1, 64).reshape(1, 8, 8)
SOME = {"reference": 0, "reference_region": region(2, 4, (0, 1), (1, 3))}
RUNS = {
    "Kontext": (tiny_graphs.flux_kontext, {}),
    "Kontext, pair maps": (tiny_graphs.flux_kontext, {"pair_maps": "everywhere"}),
    "Kontext, a batch, with guidance": (lambda: tiny_graphs.flux_kontext(batch=3, cfg=3.0), {}),
    "Redux with a mask": (lambda: inpainted(tagged(tiny_graphs.flux_redux())), {"pair_maps": "inpainting mask"}),
    "Redux, a bias": (lambda: tagged(tiny_graphs.flux_redux_bias()), {"pair_maps": "everywhere"}),
    "Fill": (lambda: tiny_graphs.flux_fill_canvas(size=(8, 8)), {"pair_maps": "everywhere", "reference_region": LEFT}),
    "IP-Adapter": (ip_adapter, {"pair_maps": "everywhere"}),
    "IP-Adapter, a mask": (lambda: ip_adapter(attn_mask=MASK), {}),
    "IP-Adapter, K+V": (lambda: ip_adapter(embeds_scaling="K+V"), {}),
    "U-Net": (tiny_graphs.sd15_canvas, {"pair_maps": "everywhere", "reference_region": LEFT}),
    "U-Net, reference only": (tiny_graphs.sd15_reference_only, {}),
    "U-Net, tagged, inpainting": (lambda: workflow.make(batch=2, text_tokens=5), {"pair_maps": "inpainting mask"}),
    "Wan": (tiny_graphs.wan_i2v, {}),
    "steered": (tiny_graphs.flux_kontext, {"wrap": lambda model: steered(model, 2.0)}),
    "steered in a head, of a region": (
        tiny_graphs.flux_kontext,
        {"wrap": lambda model: steered(model, 3.0, heads="1", generated_region=region(4, 3, (0, 1), (2, 2)), **SOME)},
    ),
    "steered by output": (tiny_graphs.flux_kontext, {"wrap": lambda model: steered(model, -1.0, "output", **SOME)}),
    "IP-Adapter, steered": (ip_adapter, {"wrap": lambda model: steered(model, 2.0)}),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_waits_do_not_grow_with_layers_and_calls(name):
    graph, settings = RUNS[name]
    run = counted(graph(), **settings)
    assert run.attribution.captured_calls >= 12  # a wait in each would show
    assert run.waits <= 3 * A_STEP + A_RUN, f"\n{run}"


@pytest.mark.parametrize("name", ["Kontext", "IP-Adapter"])
def test_nor_do_those_of_effect(name):
    """Each further evaluation counts as a step, and ComfyUI waits in it as often as in one of the plain run."""
    run = counted(RUNS[name][0](), lambda model: measured(model, probe_steps=1, regions=2))
    evaluations = run.attribution.effects.evaluations
    assert evaluations >= 8
    own = run.waits - evaluations * run.plain.waits.total() / 3
    assert own <= A_STEP * (3 + evaluations) + A_RUN, f"\n{run}"


@pytest.mark.parametrize("name", ["Kontext, a batch, with guidance", "IP-Adapter", "U-Net", "Wan"])
def test_nor_do_those_of_maps_that_are_sent_to_the_page(name, monkeypatch):
    sent = []
    with_audience(monkeypatch, sent.append)
    graph, settings = RUNS[name]
    run, without = counted(graph(), live=True, **settings), counted(graph(), **settings)
    assert [message["step"] for message in sent] == [1, 2] * 2  # of the run that is counted, and the one before it
    assert run.waits <= min(without.waits + 3, 3 * A_STEP + A_RUN), f"\n{run}"


def test_a_wait_in_each_call_is_caught(monkeypatch):
    after = Record.after

    def waits(self, call, *others):
        assert call.q.any()
        after(self, call, *others)

    monkeypatch.setattr(Record, "after", waits)
    run = counted(tiny_graphs.flux_kontext())
    assert run.waits > 3 * A_STEP + A_RUN
    assert "test_waits.py" in str(run)
