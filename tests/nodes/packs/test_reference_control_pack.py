"""Advanced-ControlNet's reference modes with the real pack, as ``tests/nodes/comfy/test_reference_control.py``.

``I2AM_PACKS=/folder scripts/test tests/nodes/packs/test_reference_control_pack.py``.
"""

from typing import Any

import pytest
import real_packs
import reference_control_runs as runs
from comfy.model_management import InterruptProcessingException
from tiny_graphs import Graph
from torch import Tensor

PACK = "ComfyUI-Advanced-ControlNet"


class AdvancedControlNet:
    """Its nodes Reference ControlNet and Apply Advanced ControlNet, which older cores cannot list."""

    def __init__(self) -> None:
        self.references: Any = real_packs.part_of(PACK, "adv_control.nodes_reference")
        self.applied: Any = real_packs.part_of(PACK, "adv_control.nodes_main")

    def apply(
        self, graph: Graph, latent: Tensor, kind: str = "reference_attn", fidelity: float = 0.5, strength: float = 1.0
    ) -> Graph:
        control = self.references.ReferenceControlNetNode.execute(kind, fidelity, 1.0).args[0]
        image = self.references.ReferencePreprocWrapper(condhint=latent)
        given = graph.positive, graph.negative, control, image, strength, 0.0, 1.0
        graph.positive, graph.negative, *_ = self.applied.AdvancedControlNetApply.execute(*given).args
        return graph


@pytest.fixture(scope="module")
def pack() -> AdvancedControlNet:
    return AdvancedControlNet()


@pytest.mark.parametrize("shape", [{}, {"batch": 2}, {"cfg": 1.0}, {"lengths": (7, 13)}])
def test_the_maps_of_a_reference(pack: AdvancedControlNet, shape: dict) -> None:
    _, summary = runs.check_maps(pack, shape=shape)
    assert "captured (by reference control)" in summary


def test_two_references_and_the_negative(pack: AdvancedControlNet) -> None:
    runs.check_maps(pack, references=2)
    runs.check_maps(pack, branch="negative", gain=0.7, fidelity=0.3)


def test_a_strength_and_adain_are_said(pack: AdvancedControlNet) -> None:
    _, summary = runs.check_maps(pack, strength=0.6)
    assert "has a strength or a mask" in summary
    _, summary = runs.check_maps(pack, kind="reference_attn+adain")
    assert "adain: the mean and the spread" in summary


def test_a_reference_is_steered_and_measured(pack: AdvancedControlNet) -> None:
    runs.check_steered(pack)
    runs.check_effect(pack)
    runs.check_effect_of_nothing(pack)


@pytest.mark.parametrize("error", [RuntimeError, InterruptProcessingException])
def test_nothing_of_ours_stays(pack: AdvancedControlNet, error: type) -> None:
    runs.check_nothing_stays(pack, error)
