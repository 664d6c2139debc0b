"""PuLID for SDXL: what its attention says is captured with a weight and a mask; its methods that do more are refused.

With a stand-in of the pack's contract; on the real pack: ``tests/nodes/packs/test_pulid_pack.py``.
"""

import pulid_runs as runs
import pytest
from pulid_standin import StandIn

from i2am_pack.nodes.collect import I2AMCollect

PACK = StandIn()


@pytest.mark.parametrize("about", [{}, {"batch": 2}, {"cfg": 1.0}, {"lengths": (7, 13)}, {"zeros": 8}])
def test_the_maps_are_the_weights_times_the_gain(about):
    runs.check_maps(PACK, **about)


def test_a_mask_is_part_of_the_gain():
    runs.check_mask(PACK)


def test_steps_in_which_it_is_off():
    runs.check_off(PACK)


def test_it_is_steered():
    runs.check_steered(PACK)


def test_its_effect_is_measured():
    runs.check_effect(PACK)


def test_a_method_of_its_own_is_refused():
    """The picture is as without capture, nothing is captured, and what to do is said."""
    with pytest.raises(ValueError, match="does more with its attention than to weight and mask it"):
        I2AMCollect.execute(*runs.capture(runs.graph_with(PACK, ortho=True)))
