"""PuLID for SDXL with the real pack: what ``tests/nodes/comfy/test_pulid.py`` shows with a stand-in.

``I2AM_PACKS=/folder scripts/test tests/nodes/packs/test_pulid_pack.py``. What it finds faces with is not wanted.
"""

from types import SimpleNamespace
from typing import Any

import pulid_runs as runs
import pulid_standin
import pytest
import real_packs

from i2am_pack.nodes.collect import I2AMCollect


class PuLID:
    """cubiq/PuLID_ComfyUI, with tiny weights."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real_packs.without_faces("PuLID_ComfyUI", monkeypatch)
        self.module: Any = real_packs.part_of("PuLID_ComfyUI", "pulid")

    def network(self, seed: int) -> Any:
        return SimpleNamespace(ip_layers=self.module.To_KV(pulid_standin.layers(seed)).requires_grad_(False))

    def put(self, model: Any, kwargs: dict, block: tuple) -> None:
        self.module.set_model_patch_replace(model, kwargs, block)


@pytest.fixture(scope="module")
def pack() -> Any:
    with pytest.MonkeyPatch.context() as monkeypatch:
        return PuLID(monkeypatch)


@pytest.mark.parametrize("about", [{}, {"batch": 2}, {"cfg": 1.0}, {"lengths": (7, 13)}, {"zeros": 8}])
def test_the_maps_of_pulid(pack: Any, about: dict) -> None:
    runs.check_maps(pack, **about)


def test_a_mask_off_steered_and_measured(pack: Any) -> None:
    runs.check_mask(pack)
    runs.check_off(pack)
    runs.check_steered(pack)
    runs.check_effect(pack)


@pytest.mark.parametrize("method", ["ortho", "ortho_v2"])
def test_methods_of_its_own_are_refused(pack: Any, method: str) -> None:
    graph = runs.graph_with(pack)
    for patch in graph.model.model_options["transformer_options"]["patches_replace"]["attn2"].values():
        patch.kwargs[0][method] = True
    with pytest.raises(ValueError, match="choose its method 'neutral'"):
        I2AMCollect.execute(*runs.capture(graph))
