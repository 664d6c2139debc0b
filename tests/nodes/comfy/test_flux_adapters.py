"""IP-Adapter for Flux: the maps are softmaxes over its own tokens, times what the pack multiplies them with.

With a stand-in of the pack's contract; on the real pack: ``tests/nodes/packs/test_flux_packs.py``.
"""

import flux_adapter_runs as runs
import pytest
import tiny_graphs
from comfy.model_management import InterruptProcessingException
from flux_adapters_standin import StandIn

PACK = StandIn()
GRAPHS = {
    "text": lambda: tiny_graphs.flux_text(),
    "a batch": lambda: tiny_graphs.flux_text(batch=2),
    "odd cells": lambda: tiny_graphs.flux_text(size=(7, 5)),
    "guidance in one call": lambda: tiny_graphs.flux_text(cfg=3.0),
    "guidance in two calls": lambda: tiny_graphs.flux_text(cfg=3.0, lengths=(7, 13)),
    "beside two reference latents": lambda: tiny_graphs.flux_kontext(),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_the_maps_are_the_weights_times_the_gain(case):
    runs.check_maps(PACK, GRAPHS[case]())


def test_the_negative_conditioning_has_the_same_image():
    runs.check_maps(PACK, tiny_graphs.flux_text(cfg=3.0), branch="negative")


def test_several_adapters_are_several_references():
    runs.check_maps(PACK, tiny_graphs.flux_text(), adapters=2)


def test_the_joint_attention_beside_it_is_captured():
    runs.check_joint_attention(PACK, tiny_graphs.flux_kontext)


def test_steps_in_which_it_is_off():
    runs.check_off(PACK)


@pytest.mark.parametrize("make", [tiny_graphs.flux_text, tiny_graphs.flux_kontext])
def test_it_is_steered(make):
    runs.check_steered(PACK, make)


@pytest.mark.parametrize("make", [tiny_graphs.flux_text, tiny_graphs.flux_kontext])
def test_its_effect_is_measured(make):
    runs.check_effect(PACK, make)


@pytest.mark.parametrize("error", [RuntimeError, InterruptProcessingException])
def test_nothing_stays_after_a_failure(error):
    runs.check_nothing_stays(PACK, error)
