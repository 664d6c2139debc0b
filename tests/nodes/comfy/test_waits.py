"""On a GPU the host waits for our nodes a few times a step, whatever the number of layers, heads and calls."""

import pytest
import tiny_graphs
import tiny_models
from counted_runs import counted, use_device
from effect_runs import measured
from live_audience import with_audience
from many_runs import RUNS

from i2am_pack.nodes.comfy.consumers.record import Record

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
