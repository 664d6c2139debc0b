"""Adapters of Flux with the real packs: what ``tests/nodes/comfy/test_flux_adapters.py`` shows with stand-ins.

``I2AM_PACKS=/folder scripts/test tests/nodes/packs/test_flux_packs.py``. ComfyUI-IPAdapter-Flux wants diffusers.
"""

import sys
from typing import Any

import flux_adapter_runs as runs
import pytest
import real_packs
import tiny_graphs
import torch
from comfy.model_management import InterruptProcessingException


class IPAdapterFlux:
    """``FluxUpdateModules`` of Shakker-Labs/ComfyUI-IPAdapter-Flux, with tiny weights."""

    def __init__(self) -> None:
        self.utils = real_packs.part_of("ComfyUI-IPAdapter-Flux", "utils")
        self.parts: Any = sys.modules[self.utils.__package__ + ".attention_processor"]

    def processor(self, width: int, token_width: int, scale: float, timestep_range: tuple) -> torch.nn.Module:
        processor: torch.nn.Module = self.parts.IPAFluxAttnProcessor2_0(width, token_width, scale, 4, timestep_range)
        return processor

    def patch(self, model: Any, processors: dict, tokens: torch.Tensor) -> Any:
        model = model.clone()
        self.utils.FluxUpdateModules(model, processors, tokens, False)
        return model


@pytest.fixture(scope="module")
def pack() -> IPAdapterFlux:
    return IPAdapterFlux()


@pytest.mark.parametrize("shape", [{}, {"batch": 2}, {"cfg": 3.0}, {"cfg": 3.0, "lengths": (7, 13)}, {"size": (7, 5)}])
def test_the_maps_of_ip_adapter_flux(pack: IPAdapterFlux, shape: dict) -> None:
    runs.check_maps(pack, tiny_graphs.flux_text(**shape))


def test_two_ip_adapters_beside_reference_latents(pack: IPAdapterFlux) -> None:
    runs.check_maps(pack, tiny_graphs.flux_kontext(), adapters=2)


def test_the_joint_attention_beside_ip_adapter_flux(pack: IPAdapterFlux) -> None:
    runs.check_joint_attention(pack, tiny_graphs.flux_kontext)


def test_ip_adapter_flux_is_off_steered_and_measured(pack: IPAdapterFlux) -> None:
    runs.check_off(pack)
    runs.check_steered(pack, tiny_graphs.flux_kontext)
    runs.check_effect(pack, tiny_graphs.flux_kontext)


@pytest.mark.parametrize("error", [RuntimeError, InterruptProcessingException])
def test_nothing_stays_on_ip_adapter_flux(pack: IPAdapterFlux, error: type) -> None:
    runs.check_nothing_stays(pack, error)
