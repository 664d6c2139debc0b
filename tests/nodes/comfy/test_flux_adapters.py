"""Adapters of Flux: the maps are softmaxes over their own tokens, times what the pack multiplies them with.

With stand-ins of the packs' contracts; on the real packs: ``tests/nodes/packs/test_flux_packs.py``.
"""

import flux_adapter_runs as runs
import pytest
import tiny_graphs
from comfy.model_management import InterruptProcessingException
from flux_adapter_runs import IPAdapters, PuLIDs, XLabs
from flux_adapters_standin import PuLIDStandIn, StandIn, XLabsStandIn
from mechanisms import steered

from i2am_pack.nodes.comfy.mechanisms.flux_xlabs import SEVERAL_ROWS

KINDS = {"IP-Adapter": IPAdapters(StandIn()), "PuLID": PuLIDs(PuLIDStandIn())}
XLABS = XLabs(XLabsStandIn())
GRAPHS = {
    "text": lambda: tiny_graphs.flux_text(),
    "a batch": lambda: tiny_graphs.flux_text(batch=2),
    "odd cells": lambda: tiny_graphs.flux_text(size=(7, 5)),
    "guidance in one call": lambda: tiny_graphs.flux_text(cfg=3.0),
    "guidance in two calls": lambda: tiny_graphs.flux_text(cfg=3.0, lengths=(7, 13)),
    "beside two reference latents": lambda: tiny_graphs.flux_kontext(),
}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.mark.parametrize("case", GRAPHS)
def test_the_maps_are_the_weights_times_the_gain(kind, case):
    runs.check_maps(kind, GRAPHS[case]())


def test_the_negative_conditioning_has_the_same_image(kind):
    runs.check_maps(kind, tiny_graphs.flux_text(cfg=3.0), branch="negative")


def test_several_adapters_are_several_references(kind):
    runs.check_maps(kind, tiny_graphs.flux_text(), adapters=2)


def test_a_mask_is_part_of_the_gain():
    mask = (tiny_graphs.noise(5, 1, 12, 1) > 0).float() * 0.5
    assert mask.unique().numel() == 2
    runs.check_maps(KINDS["PuLID"], tiny_graphs.flux_text(), gain=runs.WEIGHT * mask[..., 0], mask=mask)


def test_the_joint_attention_beside_it_is_captured(kind):
    runs.check_joint_attention(kind, tiny_graphs.flux_kontext)


@pytest.mark.parametrize("chosen", ["reference latents", "Flux adapters"])
def test_the_one_that_is_chosen_is_captured_alone(kind, chosen):
    graph = runs.graph_with(kind, tiny_graphs.flux_kontext())
    attribution, _ = runs.capture(graph, mechanism=chosen)
    assert (kind.name in [r.name for r in attribution.references]) == (chosen == "Flux adapters")
    assert [*attribution.mechanisms] == [chosen]
    latent = graph.sample(steered(graph.model, 0.0, mechanism=chosen))["samples"]
    assert (latent - graph.sample()["samples"]).abs().max() > 0.01


def test_steps_in_which_it_is_off(kind):
    runs.check_off(kind)


@pytest.mark.parametrize("make", [tiny_graphs.flux_text, tiny_graphs.flux_kontext])
def test_it_is_steered(kind, make):
    runs.check_steered(kind, make)


@pytest.mark.parametrize("make", [tiny_graphs.flux_text, tiny_graphs.flux_kontext])
def test_its_effect_is_measured(kind, make):
    runs.check_effect(kind, make)


@pytest.mark.parametrize("error", [RuntimeError, InterruptProcessingException])
def test_nothing_stays_after_a_failure(kind, error):
    runs.check_nothing_stays(kind, error)


# XLabs, whose adapters are of one picture from one image


@pytest.mark.parametrize("case", ["text", "odd cells", "guidance in two calls", "beside two reference latents"])
def test_the_maps_of_xlabs(case):
    runs.check_maps(XLABS, GRAPHS[case]())


def test_several_adapters_of_xlabs():
    runs.check_maps(XLABS, tiny_graphs.flux_text(), adapters=2)


@pytest.mark.parametrize("shape", [{"batch": 2}, {"cfg": 3.0}])
def test_xlabs_with_several_rows_is_refused(shape):
    graph = runs.graph_with(XLABS, tiny_graphs.flux_kontext(**shape))
    attribution, _ = runs.capture(graph)
    assert [r.name for r in attribution.references if (r.grid is None)] == [XLABS.name]
    number = len(attribution.references) - 1
    assert not [1 for reference, _ in attribution.entries if reference == number]
    assert attribution.skipped[SEVERAL_ROWS] == 4
    with pytest.raises(ValueError, match="without guidance"):
        graph.sample(steered(graph.model, 0.5))


def test_xlabs_is_steered_and_measured():
    runs.check_joint_attention(XLABS, tiny_graphs.flux_kontext)
    runs.check_steered(XLABS, tiny_graphs.flux_kontext, batch=1)
    runs.check_effect(XLABS, tiny_graphs.flux_kontext)


def test_nothing_stays_on_xlabs():
    runs.check_nothing_stays(XLABS, RuntimeError)
