"""Reference ControlNets: the picture's self-attention to features that a run on the reference has written.

With a stand-in of the pack's contract; on the real pack: ``tests/nodes/packs/test_reference_control_pack.py``.
"""

import pytest
import reference_control_runs as runs
from comfy.model_management import InterruptProcessingException
from reference_control_standin import StandIn

PACK = StandIn()


@pytest.mark.parametrize("shape", [{}, {"batch": 2}, {"cfg": 1.0}, {"lengths": (7, 13)}, {"size": (24, 8)}])
def test_the_maps_are_the_weights(shape):
    _, summary = runs.check_maps(PACK, shape=shape)
    assert "captured (by reference control)" in summary


def test_two_references():
    runs.check_maps(PACK, references=2)


def test_the_negative_conditioning_mixes_it_by_the_style_fidelity():
    runs.check_maps(PACK, branch="negative", gain=0.7, fidelity=0.3)


def test_a_strength_is_said():
    _, summary = runs.check_maps(PACK, strength=0.6)
    assert "has a strength or a mask" in summary


def test_adain_beside_it_is_named():
    _, summary = runs.check_maps(PACK, kind="reference_attn+adain")
    assert "captured (by reference control)" in summary and "adain: the mean and the spread" in summary


def test_it_is_steered():
    runs.check_steered(PACK)


def test_its_effect_is_measured():
    runs.check_effect(PACK)
    runs.check_effect_of_nothing(PACK)


@pytest.mark.parametrize("error", [RuntimeError, InterruptProcessingException])
def test_nothing_stays_after_a_failure(error):
    runs.check_nothing_stays(PACK, error)
