"""Adapters of Flux with the real packs: what ``tests/nodes/comfy/test_flux_adapters.py`` shows with stand-ins.

``I2AM_PACKS=/folder scripts/test tests/nodes/packs/test_flux_packs.py``. ComfyUI-IPAdapter-Flux wants diffusers.
What ComfyUI_PuLID_Flux_ll finds faces with is not wanted: nothing is called of it.
"""

import functools
import sys
from types import SimpleNamespace
from typing import Any

import flux_adapter_runs as runs
import pytest
import real_packs
import tiny_graphs
import torch
from comfy.model_management import InterruptProcessingException
from comfy.patcher_extension import WrappersMP


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


class PuLIDFlux:
    """What ``ApplyPulidFlux`` of lldacing/ComfyUI_PuLID_Flux_ll does once it has the tokens of a face."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real_packs.without_faces("ComfyUI_PuLID_Flux_ll", monkeypatch)
        self.pack: Any = real_packs.part_of("ComfyUI_PuLID_Flux_ll", "pulidflux")
        self.hook: Any = sys.modules[self.pack.__package__ + ".PulidFluxHook"]
        self.encoders: Any = sys.modules[self.pack.__package__ + ".encoders_flux"]

    def perceiver(self, width: int, size: int, heads: int, token_width: int) -> torch.nn.Module:
        make = self.encoders.PerceiverAttentionCA
        network: torch.nn.Module = make(dim=width, dim_head=size, heads=heads, kv_dim=token_width)
        return network

    def patch(self, model: Any, perceivers: dict, tokens: torch.Tensor, weight: float, sigmas: tuple, mask: Any) -> Any:
        model = model.clone()
        networks = SimpleNamespace(model=SimpleNamespace(pulid_ca=torch.nn.ModuleList(perceivers.values())))
        own = {"pulid_model": networks, "weight": weight, "embedding": tokens, "mask": mask}
        own |= {"sigma_start": sigmas[0], "sigma_end": sigmas[1]}
        replaced = model.model_options["transformer_options"].setdefault("patches_replace", {}).setdefault("dit", {})
        for number, key in enumerate(perceivers):
            if key == ("double_block", 1) and key not in replaced:  # the last of the tiny model, as 18 is of Flux
                last = self.hook.LastDitDoubleBlockReplace(self.hook.pulid_patch, **own, ca_idx=number)
                replaced[key] = last
            else:
                self.hook.set_model_dit_patch_replace(model, own | {"ca_idx": number}, key)
        name, pack = self.pack.wrappers_name, self.pack
        if not model.get_wrappers(WrappersMP.OUTER_SAMPLE, name):
            around = pack.pulid_outer_sample_wrappers_with_override
            model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, name, without_further(around))
            model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, name, pack.pulid_apply_model_wrappers)
        return model


def without_further(around: Any) -> Any:
    """The pack's wrapper does not take what newer cores call it with by name: it is handed past it."""

    def wrapper(executor: Any, *args: Any, **further: Any) -> Any:
        past = functools.partial(executor, **further)
        past.class_obj = executor.class_obj  # type: ignore[attr-defined]
        return around(past, *args)

    return wrapper


class XFlux:
    """What ``ApplyFluxIPAdapter`` of XLabs-AI/x-flux-comfyui does, with blocks that take what cores call them with."""

    def __init__(self) -> None:
        self.utils: Any = real_packs.part_of("x-flux-comfyui", "utils")
        self.layers: Any = sys.modules[self.utils.__package__ + ".layers"]

    def adapter(self, width: int, token_width: int, tokens: torch.Tensor, scale: float) -> torch.nn.Module:
        adapter: torch.nn.Module = self.layers.IPProcessor(token_width, width, tokens, scale)
        return adapter

    def patch(self, model: Any, adapters: list) -> Any:
        self.utils.FluxUpdateModules(model.model)
        model = model.clone()
        names = self.utils.attn_processors(model.model.diffusion_model)
        for name, adapter in zip(names, adapters, strict=True):
            processor = self.layers.DoubleStreamMixerProcessor()
            processor.add_ipadapter(adapter)
            model.add_object_patch(f"diffusion_model.{name}", self.utils.merge_loras(None, processor))
        return model


@pytest.fixture
def mended(monkeypatch: pytest.MonkeyPatch) -> runs.XLabs:
    pack = XFlux()

    def forward(self: Any, img: Any, txt: Any, vec: Any, pe: Any, **further: Any) -> Any:
        return self.processor(self, img, txt, vec, pe)

    monkeypatch.setattr(pack.utils.DSBnew, "forward", forward)
    return runs.XLabs(pack)


def test_x_flux_as_it_is_runs_in_no_sampler_of_comfyui() -> None:
    graph = runs.graph_with(runs.XLabs(XFlux()), tiny_graphs.flux_text())
    with pytest.raises(TypeError, match="attn_mask"):
        graph.sample()


@pytest.mark.parametrize("shape", [{}, {"size": (7, 5)}, {"cfg": 3.0, "lengths": (7, 13)}])
def test_the_maps_of_x_flux_mended(mended: runs.XLabs, shape: dict) -> None:
    runs.check_maps(mended, tiny_graphs.flux_text(**shape))


def test_x_flux_mended_is_steered_and_measured(mended: runs.XLabs) -> None:
    runs.check_joint_attention(mended, tiny_graphs.flux_kontext)
    runs.check_steered(mended, tiny_graphs.flux_kontext, batch=1)
    runs.check_effect(mended, tiny_graphs.flux_kontext)
    runs.check_nothing_stays(mended, RuntimeError)


@pytest.fixture(scope="module", params=["IPAdapter-Flux", "PuLID_Flux_ll"])
def kind(request: pytest.FixtureRequest) -> Any:
    with pytest.MonkeyPatch.context() as monkeypatch:
        if request.param == "IPAdapter-Flux":
            return runs.IPAdapters(IPAdapterFlux())
        return runs.PuLIDs(PuLIDFlux(monkeypatch))


@pytest.mark.parametrize("shape", [{}, {"batch": 2}, {"cfg": 3.0}, {"cfg": 3.0, "lengths": (7, 13)}, {"size": (7, 5)}])
def test_the_maps_of_an_adapter(kind: Any, shape: dict) -> None:
    runs.check_maps(kind, tiny_graphs.flux_text(**shape))


def test_two_adapters_beside_reference_latents(kind: Any) -> None:
    runs.check_maps(kind, tiny_graphs.flux_kontext(), adapters=2)


def test_the_joint_attention_beside_an_adapter(kind: Any) -> None:
    runs.check_joint_attention(kind, tiny_graphs.flux_kontext)


def test_an_adapter_is_off_steered_and_measured(kind: Any) -> None:
    runs.check_off(kind)
    runs.check_steered(kind, tiny_graphs.flux_kontext)
    runs.check_effect(kind, tiny_graphs.flux_kontext)


@pytest.mark.parametrize("error", [RuntimeError, InterruptProcessingException])
def test_nothing_of_ours_stays(kind: Any, error: type) -> None:
    runs.check_nothing_stays(kind, error)
