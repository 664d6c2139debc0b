"""What remembers something from call to call does not learn of an evaluation for an effect, nor answers it.

Caches, packs that keep counts, context windows, guidance that evaluates further, hooks and LoRA.
"""

import gc
import weakref
from contextlib import contextmanager
from unittest.mock import patch

import comfy.hooks
import comfy.model_management
import comfy.patcher_extension
import comfy.samplers
import comfy.sd
import comfy_extras.nodes_easycache as nodes_easycache
import comfy_extras.nodes_flux as nodes_flux
import comfy_extras.nodes_pag as nodes_pag
import comfy_extras.nodes_slg as nodes_slg
import pytest
import tiny_graphs
import torch
from comfy import context_windows
from effect_runs import captured, check, measured, strongest
from remembering_packs import PLACES, TeaCacheStandIn, remembering
from steered_graphs import ip_adapter, kontext
from torch.utils._python_dispatch import TorchDispatchMode

from i2am_pack.nodes.comfy import caches, evaluation
from i2am_pack.nodes.comfy.unmeasured import NOT_COMPUTED

ONE = ((4, 8),)
SETTINGS = {"through": "everything", "regions": 1, "probe_steps": 4}


def one_reference(**shape):
    return kontext(**{"sizes": ONE} | shape)


def effects_without_cache(graph, **sampling):
    model, handle = captured(graph.model)
    return handle.find(graph.sample(measured(model, **SETTINGS), **sampling)["samples"]).effects


# Caches by their name


def cached(model, node, threshold=0.9):
    return tiny_graphs.run(node, model, threshold, 0.0, 1.0, False)[0]


def kontext_and_model(cfg, node):
    graph = one_reference(cfg=cfg)
    return graph, cached(graph.model, node)


def flux2_and_model():
    """Of newer cores: the references' keys and values of the first step are those of all steps."""
    graph = tiny_graphs.flux2_edit(sizes=((2, 4),), cfg=1.0)
    return graph, tiny_graphs.run(nodes_flux.FluxKVCache, graph.model)[0]


CACHES = {
    "EasyCache": lambda: kontext_and_model(1.0, nodes_easycache.EasyCacheNode),
    "EasyCache, guidance": lambda: kontext_and_model(3.0, nodes_easycache.EasyCacheNode),
    "LazyCache": lambda: kontext_and_model(1.0, nodes_easycache.LazyCacheNode),
    "LazyCache, guidance": lambda: kontext_and_model(3.0, nodes_easycache.LazyCacheNode),
    **({"FluxKVCache": flux2_and_model} if hasattr(nodes_flux, "FluxKVCache") else {}),
}


@pytest.mark.parametrize("name", CACHES)
def test_the_caches_of_comfyui(name):
    graph, model = CACHES[name]()
    plain = graph.sample(steps=8)["samples"]
    assert not torch.equal(graph.sample(model, steps=8)["samples"], plain)  # it does answer from memory
    attribution = check(lambda model: graph.sample(model, steps=8), model, maps=False, **SETTINGS)
    assert all(float(values.max()) > 0 for values in attribution.effects.maps.values())
    assert not attribution.effects.unmeasured
    if name != "FluxKVCache":  # which gives references another place in the first step, too
        first = effects_without_cache(graph, steps=8).maps[0, 0, "everything"]
        torch.testing.assert_close(attribution.effects.maps[0, 0, "everything"], first, atol=1e-5, rtol=1e-3)


def test_what_is_left_out_by_its_name():
    """Of patches by the function's own name alone: a pack with such a name may patch a reference into attention."""

    def own(name, module):
        def function():
            pass

        function.__qualname__, function.__module__ = name, module
        return function

    keys = type("KV_Attn_Input", (), {"__call__": lambda self: None})()
    adapter = own("adapter", "/packs/ComfyUI-TeaCache.nodes")
    options = {
        "model_function_wrapper": own("wrapper", "/packs/ComfyUI-TeaCache.nodes"),
        "transformer_options": {
            "patches": {"attn1_patch": [keys, adapter], "post_input": [own("FluxKVCache.execute", "nodes_flux")]},
            "patches_replace": {"dit": {("double_block", 0): adapter}},
            "animate2_cache": object(),
            "wrappers": {"diffusion_model": {"easycache": [adapter], "another": [adapter]}},
        },
    }
    assert caches.has_cache(options)
    assert caches.without_caches(options) == {
        "transformer_options": {
            "patches": {"attn1_patch": [adapter], "post_input": []},
            "patches_replace": {"dit": {("double_block", 0): adapter}},
            "wrappers": {"diffusion_model": {"another": [adapter]}},
        }
    }
    in_a_folder = {"model_function_wrapper": own("wrapper", "/root/cache/packs/ComfyUI-Another.nodes")}
    assert not caches.has_cache(in_a_folder)


@pytest.fixture
def unpatched():
    """The tiny model is shared by tests: nothing that a stand-in put on it stays."""
    graph = one_reference()
    yield graph
    vars(graph.model.model.diffusion_model).pop("teacache_state", None)


def sampled(graph, **sampling):
    """A function that samples, each time as if it were the first."""

    def sample(model):
        vars(graph.model.model.diffusion_model).pop("teacache_state", None)
        return graph.sample(model, **sampling)

    return sample


def test_a_pack_that_is_a_cache_by_its_name(unpatched):
    graph = unpatched
    model, stand_in = TeaCacheStandIn.on(graph.model)
    assert caches.has_cache(model.model_options)
    sample = sampled(graph, steps=4)
    assert not torch.equal(sample(model)["samples"], graph.sample(steps=4)["samples"])
    computed, remembered = stand_in.computed, stand_in.remembered
    assert remembered
    attribution = check(sample, model, maps=False, **SETTINGS)
    assert (stand_in.computed, stand_in.remembered) == (3 * computed, 3 * remembered)  # the runs' own
    expected = effects_without_cache(graph, steps=4)
    torch.testing.assert_close(
        attribution.effects.maps[0, 0, "everything"], expected.maps[0, 0, "everything"], atol=1e-5, rtol=1e-3
    )
    assert len(attribution.effects.steps(0)) == 4 and not attribution.effects.unmeasured


def test_a_cache_that_another_function_is_around_of(unpatched):
    """Its name is known, but it cannot be left out: it is what the other one calls."""
    graph = unpatched
    model, _ = TeaCacheStandIn.on(graph.model)
    inner = model.model_options["model_function_wrapper"]

    def outer(apply_model, given):
        return inner(apply_model, given)

    outer.__module__ = "another_pack"  # this one has the word in its name

    model.set_model_unet_function_wrapper(outer)
    assert caches.has_cache(model.model_options)
    attribution = check(sampled(graph, steps=4), model, maps=False, **SETTINGS)
    assert all(float(values.max()) > 0 for values in attribution.effects.maps.values())


def test_a_pack_that_answers_from_memory_without_the_name(unpatched):
    """What it remembers is put back; what it answers from memory is no effect of nothing."""
    graph = unpatched
    model, _ = TeaCacheStandIn.on(graph.model, "speedup", every=3)
    assert not caches.has_cache(model.model_options)
    attribution = check(sampled(graph, steps=4, cfg=1.0), model, maps=False, **SETTINGS)
    assert all(float(values.max()) > 0 for values in attribution.effects.maps.values())
    assert NOT_COMPUTED in attribution.effects.unmeasured.values()


@pytest.mark.parametrize("place", PLACES)
def test_all_that_a_pack_remembers_is_put_back(place):
    graph = one_reference()
    attribution = check(lambda model: graph.sample(remembering(model, place), steps=3), graph.model, **SETTINGS)
    assert strongest(attribution) > 0


def test_what_a_model_keeps_on_itself_is_put_back():
    """As HiDream-O1 keeps keys and values of two prompts: a third would take the place of the first."""
    graph = one_reference()
    denoiser = graph.model.model.diffusion_model
    original = type(denoiser).forward

    def forward(self, x, *args, **kwargs):
        self._prompts = [*getattr(self, "_prompts", []), tuple(x.shape)][-2:]
        self._in_place = getattr(self, "_in_place", {})
        self._in_place[len(self._in_place)] = 1
        return original(self, x, *args, **kwargs) * (1 + 0.1 * len(set(self._prompts)) + 0.01 * len(self._in_place))

    def sample(model):
        vars(denoiser).pop("_prompts", None), vars(denoiser).pop("_in_place", None)
        return graph.sample(model, steps=3)

    with patch.object(type(denoiser), "forward", forward):
        try:
            check(sample, graph.model, maps=False, **SETTINGS)
        finally:
            vars(denoiser).pop("_prompts", None), vars(denoiser).pop("_in_place", None)


# Context windows


def in_windows(model, fuse):
    model = model.clone()
    model.model_options["context_handler"] = context_windows.IndexListContextHandler(
        context_windows.get_matching_context_schedule("standard_static"),
        context_windows.get_matching_fuse_method(fuse),
        context_length=3,
        context_overlap=1,
        dim=2,
    )
    context_windows.create_prepare_sampling_wrapper(model)
    return model


def long_phantom(**shape):
    graph = tiny_graphs.wan_phantom(**shape)
    latent = graph.latent["samples"]
    graph.latent = {"samples": torch.zeros(latent.shape[0], 16, 5, *latent.shape[-2:])}
    return graph


@pytest.mark.parametrize(("fuse", "cfg"), [("pyramid", 3.0), ("relative", 1.0), ("flat", 1.0), ("relative", 3.0)])
def test_context_windows(fuse, cfg):
    graph = long_phantom(cfg=cfg)
    model = in_windows(graph.model, fuse)
    attribution = check(lambda model: graph.sample(model), model, maps=False, **SETTINGS)
    effects = attribution.effects
    assert {0, 1, "all references", "text"} <= set(effects.owners), effects.unmeasured
    shape = (1, 5 * 4 * 6)
    assert all(values.shape == shape for values in effects.maps.values())
    assert effects.certainty(0) == "measured" and strongest(attribution, 0) > 0
    for frame in effects.maps[0, 0, "everything"].unflatten(1, (5, -1)).unbind(1):
        assert float(frame.max()) > 0  # every window was put together
    assert effects.floor.shape == shape and float(effects.floor.max()) < 1e-3 * strongest(attribution, 0)


def test_context_windows_of_one_measured_step():
    """It is still under way when the run ends: nothing must be said to be unread."""
    graph = long_phantom(images=1)
    model, handle = captured(in_windows(graph.model, "flat"))
    effects = handle.find(graph.sample(measured(model, probe_steps=1))["samples"]).effects
    assert effects.owners == [0, "text"] and "references" not in effects.unmeasured


def test_what_fails_in_one_window_is_not_measured_at_all(monkeypatch):
    from i2am_pack.nodes.comfy.consumers.take_away import NotMeasurable, TakeAway

    graph = long_phantom(cfg=3.0)
    model, handle = captured(in_windows(graph.model, "pyramid"))
    original, windows = TakeAway.before, []

    def before(self, call, located):
        frames = tuple(call.model_call.options["context_window"].index_list)
        if frames not in windows:
            windows.append(frames)
        if self.owner == 1 and len(windows) > 1 and frames == windows[1]:
            raise NotMeasurable("not in this window")
        return original(self, call, located)

    monkeypatch.setattr(TakeAway, "before", before)
    latent = graph.sample(measured(model, **SETTINGS))["samples"]
    assert torch.equal(latent, graph.sample(in_windows(graph.model, "pyramid"))["samples"])
    effects = handle.find(latent).effects
    assert len(windows) > 1 and 0 in effects.owners and 1 not in effects.owners
    assert (0, 1) not in effects.predictions and (0, 0) in effects.predictions
    assert "not in this window" in effects.unmeasured.values()


def test_windows_of_a_batch_of_pictures_are_said():
    graph = one_reference(batch=4, cfg=1.0)
    model = graph.model.clone()
    model.model_options["context_handler"] = context_windows.IndexListContextHandler(
        context_windows.get_matching_context_schedule("standard_static"),
        context_windows.get_matching_fuse_method("pyramid"),
        context_length=3,
        context_overlap=1,
    )
    attribution = check(lambda model: graph.sample(model, steps=3), model, maps=False, **SETTINGS)
    assert not attribution.effects.owners
    assert "where that of the run is of 4x16x8x6" in attribution.effects.unmeasured["references"]


# Guidance that evaluates further, hooks, LoRA


def lora_weights():
    g = torch.Generator().manual_seed(5)
    down, up = torch.randn(4, 32, generator=g), torch.randn(96, 4, generator=g)
    name = "diffusion_model.double_blocks.0.img_attn.qkv"
    return {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}


def test_lora():
    graph = one_reference()
    model = comfy.sd.load_lora_for_models(graph.model, None, lora_weights(), 1.0, 0.0)[0]
    assert strongest(check(lambda model: graph.sample(model, steps=3), model, **SETTINGS)) > 0


@pytest.mark.parametrize("branches", ["positive", "both"])
def test_hooks_with_a_schedule(branches):
    """A LoRA of a conditioning, whose strength changes from step to step."""
    graph = one_reference()
    hooks = comfy.hooks.create_hook_lora(lora_weights(), 1.0, 1.0)
    keyframes = comfy.hooks.HookKeyframeGroup()
    keyframes.add(comfy.hooks.HookKeyframe(strength=1.0, start_percent=0.0))
    keyframes.add(comfy.hooks.HookKeyframe(strength=0.3, start_percent=0.4))
    hooks.set_keyframes_on_hooks(keyframes)
    graph.positive = comfy.hooks.set_hooks_for_conditioning(graph.positive, hooks)
    if branches == "both":
        graph.negative = comfy.hooks.set_hooks_for_conditioning(graph.negative, hooks)
    graph.model = graph.model.clone()
    attribution = check(lambda model: graph.sample(model, steps=4), graph.model, **SETTINGS)
    assert strongest(attribution) > 0


def skip_layers(model):
    scale = {"scale": 3.0, "start_percent": 0.0, "end_percent": 1.0}
    return tiny_graphs.run(nodes_slg.SkipLayerGuidanceDiT, model, **scale, double_layers="0", single_layers="1")[0]


def perturbed(model):
    return tiny_graphs.run(nodes_pag.PerturbedAttentionGuidance, model, 3.0)[0]


FURTHER = {"skipped layers": (one_reference, skip_layers), "PAG": (lambda: ip_adapter(cfg=3.0), perturbed)}


@pytest.mark.parametrize("name", FURTHER)
def test_guidance_that_evaluates_further(name):
    make, guided = FURTHER[name]
    graph = make()
    attribution = check(lambda model: graph.sample(guided(model)), graph.model, **SETTINGS)
    assert attribution.effects.steps(0) == [0, 1] and strongest(attribution) > 0


@pytest.mark.parametrize("sampler", ["heun", "dpm_2", "res_multistep", "uni_pc", "dpmpp_2s_ancestral"])
def test_the_first_evaluation_of_a_step_is_measured(sampler):
    graph = one_reference()
    attribution = check(
        lambda model: graph.sample(model, steps=3, sampler_name=sampler), graph.model, maps=False, **SETTINGS
    )
    assert attribution.effects.steps(0) == [0, 1, 2]


# What lives on the device


class Alive(TorchDispatchMode):
    """Notes every tensor that is made."""

    def __init__(self):
        super().__init__()
        self.made = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **kwargs or {})
        for tensor in output if isinstance(output, tuple | list) else (output,):
            if isinstance(tensor, torch.Tensor):
                self.made.append(weakref.ref(tensor))
        return output


@contextmanager
def no_garbage_collection():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ["measured", "not measurable", "videos"])
def test_no_tensor_of_a_further_evaluation_is_alive_when_the_run_goes_on(name, monkeypatch):
    """ComfyUI plans its batches by the memory that is free. What has only cycles for its owners counts as alive."""
    from i2am_pack.nodes.comfy.consumers import take_away

    graph = tiny_graphs.wan_phantom() if name == "videos" else one_reference()
    further, again = [], evaluation.Evaluation.again

    def noted(self, *args, **kwargs):
        mode = Alive()
        try:
            with mode:
                return again(self, *args, **kwargs)
        finally:
            further.extend(mode.made)

    if name == "not measurable":
        original, calls = take_away.TakeAway.before, []

        def before(self, call, located):
            calls.append(1)
            if len(calls) % 3 == 0:
                raise take_away.NotMeasurable("for this reason")
            return original(self, call, located)

        monkeypatch.setattr(take_away.TakeAway, "before", before)
    monkeypatch.setattr(evaluation.Evaluation, "again", noted)
    alive, rows = [], []

    def around(apply_model, given):
        if not in_further():
            alive.append(sum(reference() is not None for reference in further))
            rows.append(given["input"].shape[0])
        return apply_model(given["input"], given["timestep"], **given["c"])

    def free_memory(device=None, torch_free_too=False):
        """One tensor more than in a run without Effect would part the branches, which are in one batch."""
        free = 0 if any(reference() is not None for reference in further) else 2**40
        return (free, free) if torch_free_too else free

    def in_further():
        return any(isinstance(mode, Alive) for mode in torch.utils._python_dispatch._get_current_dispatch_mode_stack())

    monkeypatch.setattr(comfy.model_management, "get_free_memory", free_memory)
    model = graph.model.clone()
    model.set_model_unet_function_wrapper(around)
    model, handle = captured(model)
    graph.sample(measured(model, probe_steps=1, regions=0), steps=1)  # what PyTorch imports at first knows its frames
    further.clear(), alive.clear(), rows.clear()
    with no_garbage_collection():
        latent = graph.sample(measured(model, probe_steps=2), steps=3)["samples"]
    effects = handle.find(latent).effects
    assert further and effects.evaluations > 2 and len(alive) > 2
    assert not any(alive) and set(rows) == {2}, effects.unmeasured
    if name == "not measurable":
        assert "for this reason" in effects.unmeasured.values()
