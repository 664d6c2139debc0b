"""Nothing stays after a run with I2AM Effect, however it ends; what cannot be measured is a reason, not a crash."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import comfy.ldm.modules.attention
import comfy.model_management
import comfy.patcher_extension
import comfy.samplers
import pytest
import tiny_graphs
import tiny_models
import torch
from comfy.model_management import InterruptProcessingException
from comfy_api.torch_helpers import set_torch_compile_wrapper
from effect_runs import captured, check, measured, strongest
from steered_graphs import ip_adapter, kontext

from i2am_pack.nodes.comfy.consumers.take_away import TakeAway
from i2am_pack.nodes.comfy.evaluation import Evaluation
from i2am_pack.nodes.comfy.measured import EffectWatch
from i2am_pack.nodes.comfy.measured_steps import measured_steps
from i2am_pack.nodes.comfy.measuring import Measuring
from i2am_pack.nodes.comfy.removals import Removals, Settings
from i2am_pack.nodes.comfy.run import Sampling
from i2am_pack.nodes.comfy.unmeasured import AUTOREGRESSIVE, NO_BUDGET, OUT_OF_MEMORY

ONE = ((4, 8),)
SETTINGS = {"through": "everything", "regions": 0}


def one_reference(**shape):
    return kontext(**{"sizes": ONE} | shape)


def effects_of(graph, **settings):
    model, handle = captured(graph.model)
    latent = graph.sample(measured(model, **SETTINGS | settings))["samples"]
    assert torch.equal(latent, graph.sample()["samples"])
    return handle.find(latent).effects


# Nothing stays


class StopError(Exception):
    pass


def of_model(model):
    """All that a run could leave on a model."""
    denoiser = model.model.diffusion_model
    hooks = [(len(x._forward_hooks), len(x._forward_pre_hooks)) for x in denoiser.modules()]
    plain = {name: x for name, x in vars(denoiser).items() if not name.startswith("_")}
    forwards = [vars(x).get("forward") for x in denoiser.modules()]
    options = comfy.patcher_extension.copy_nested_dicts(model.model_options)
    return hooks, plain, forwards, options, {kind: dict(x) for kind, x in model.wrappers.items()}


def raising(error, at):
    """The number ``at`` of all further evaluations raises, in the middle of it."""
    original, calls = TakeAway.before, []

    def before(self, call, located):
        calls.append(1)
        if len(calls) == at:
            raise error
        return original(self, call, located)

    return before


ENDINGS = {
    "success": None,
    "an error in the run": StopError(),
    "an interrupt in the run": InterruptProcessingException(),
    "an interrupt in a further evaluation": InterruptProcessingException(),
    "an error in a further evaluation": StopError(),
}


@pytest.mark.parametrize("make", [one_reference, lambda: ip_adapter(cfg=3.0)], ids=["kontext", "ip-adapter"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_stays(ending, make, monkeypatch):
    graph = make()
    plain = graph.sample()["samples"]
    model, handle = captured(graph.model)
    model = measured(model, **SETTINGS)
    backend = comfy.ldm.modules.attention.optimized_attention
    before, drawn, error = of_model(model), torch.random.get_rng_state(), ENDINGS[ending]
    if "further" in ending:
        monkeypatch.setattr(TakeAway, "before", raising(error, 2))
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(graph.positive, graph.negative)
    guider.set_cfg(graph.cfg)

    def callback(step, x0, x, total):
        if "in the run" in ending:
            raise error

    def run():
        latent = graph.latent["samples"]
        sampler, sigmas = comfy.samplers.sampler_object("euler"), torch.tensor([1.0, 0.6, 0.3, 0.0])
        return guider.sample(tiny_graphs.noise(7, *latent.shape), latent, sampler, sigmas, None, callback, True, 0)

    options = guider.model_options
    if ending in ("success", "an error in a further evaluation"):
        output = run()
        assert bool(handle.find(output).effects.unmeasured) == (ending != "success")
    else:
        with pytest.raises(type(error)):
            run()
    assert guider.model_options is options
    assert of_model(model) == before
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert comfy.ldm.modules.attention.optimized_attention is backend
    monkeypatch.undo()
    assert torch.equal(graph.sample()["samples"], plain)
    assert torch.equal(graph.sample(model)["samples"], plain)


def test_an_interrupt_before_a_further_evaluation_ends_the_run_at_once(monkeypatch):
    graph, calls = one_reference(), []
    model, _ = captured(graph.model)

    def around(apply_model, given):
        calls.append(1)
        if len(calls) == 1:  # the run's own: a person presses the button while it lasts
            comfy.model_management.interrupt_current_processing()
        return apply_model(given["input"], given["timestep"], **given["c"])

    model.set_model_unet_function_wrapper(around)
    try:
        with pytest.raises(InterruptProcessingException):
            graph.sample(measured(model, **SETTINGS))
    finally:
        comfy.model_management.interrupt_current_processing(False)
    assert len(calls) == 1


def test_progress_counts_the_steps_of_the_run():
    graph = one_reference()
    counts = []
    for settings in (None, SETTINGS):
        steps = []
        model, _ = captured(graph.model)
        model = model if settings is None else measured(model, **settings)
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(graph.positive, graph.negative)
        guider.set_cfg(3.0)
        latent = graph.latent["samples"]
        guider.sample(
            tiny_graphs.noise(7, *latent.shape), latent, comfy.samplers.sampler_object("heun"),
            torch.tensor([1.0, 0.6, 0.3, 0.0]), None,
            lambda step, x0, x, total, steps=steps: steps.append((step, total, x0.clone(), x.clone())), True, 0,
        )  # fmt: skip
        counts.append(steps)
    assert [step[:2] for step in counts[0]] == [step[:2] for step in counts[1]] == [(n, 3) for n in range(3)]
    assert all(
        torch.equal(a, b) for one, other in zip(*counts, strict=True) for a, b in zip(one[2:], other[2:], strict=True)
    )


# What is refused before the run begins


def test_without_a_capture_the_run_does_not_begin():
    graph, calls = one_reference(), []
    model = measured(graph.model, **SETTINGS)
    model.set_model_unet_function_wrapper(lambda *args: calls.append(1))
    with pytest.raises(ValueError, match="there is none: put I2AM Capture before or behind it"):
        graph.sample(model)
    assert not calls
    assert torch.equal(graph.sample()["samples"], graph.sample(captured(graph.model)[0])["samples"])


def test_two_are_refused():
    graph = one_reference()
    model, _ = captured(measured(graph.model, **SETTINGS))
    with pytest.raises(ValueError, match="there are 2 I2AM Effect on one MODEL line"):
        graph.sample(measured(model, **SETTINGS))


# What is not measured


OUT_OF_MEMORY_ERRORS = [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()]


@pytest.mark.parametrize("error", OUT_OF_MEMORY_ERRORS, ids=lambda x: type(x).__name__)
def test_out_of_memory_is_a_reason_and_is_not_tried_again(error, monkeypatch):
    """Of an owner; the others are measured."""
    graph = kontext()
    original, tried = TakeAway.before, []

    def before(self, call, located):
        tried.append(self.owner)
        if self.owner == 1:
            raise error
        return original(self, call, located)

    monkeypatch.setattr(TakeAway, "before", before)
    effects = effects_of(graph)
    assert list(effects.unmeasured.values()) == [OUT_OF_MEMORY]
    assert effects.owners == [0, "all references", "text"]
    assert tried.count(1) == 1


@pytest.mark.parametrize("error", OUT_OF_MEMORY_ERRORS, ids=lambda x: type(x).__name__)
def test_out_of_memory_anywhere_else_in_it_is_one(error, monkeypatch):
    graph, tried = one_reference(), []

    def again(self, *args, **kwargs):
        tried.append(1)
        raise error

    monkeypatch.setattr(Evaluation, "again", again)
    effects = effects_of(graph)
    assert set(effects.unmeasured.values()) == {OUT_OF_MEMORY} and not effects.owners
    assert len(tried) == 3  # the noise floor, the reference, the text: each once


def test_an_error_of_another_kind_says_what_it_is(monkeypatch):
    monkeypatch.setattr(TakeAway, "before", raising(StopError("bad luck"), 1))
    graph = one_reference()
    assert "StopError: bad luck" in effects_of(graph).unmeasured.values()


@pytest.mark.parametrize("where", ["__init__", "_finished"])
def test_where_effects_fail_the_maps_stay(where, monkeypatch):
    def fail(self, *args):
        raise StopError("bad luck")

    monkeypatch.setattr(Measuring, where, fail)
    graph = one_reference()
    model, handle = captured(graph.model)
    latent = graph.sample(measured(model, **SETTINGS))["samples"]
    assert torch.equal(latent, graph.sample()["samples"])
    attribution = handle.find(latent)
    assert attribution.entries and not handle.failure
    said = attribution.notes if where == "__init__" else attribution.effects.unmeasured.values()
    assert any("StopError: bad luck" in reason for reason in said)


def test_an_error_while_it_is_found_out_what_is_to_be_measured_is_a_reason(monkeypatch):
    def fail(self, *args):
        raise StopError("bad luck")

    monkeypatch.setattr(Removals, "of_step", fail)
    graph = one_reference()
    assert effects_of(graph).unmeasured == {"references": "StopError: bad luck"}


def test_a_small_budget_is_kept_and_what_does_not_fit_is_said():
    graph = one_reference(size=(48, 48), cfg=1.0)
    model, handle = captured(graph.model, budget_mb=1)
    latent = graph.sample(measured(model, regions=16, regions_by="both"), steps=2)["samples"]
    assert torch.equal(latent, graph.sample(steps=2)["samples"])
    attribution = handle.find(latent)
    effects = attribution.effects
    assert attribution.nbytes <= 2**20
    assert sum(x.nbytes for x in effects.predictions.values()) <= 2**20 // 4
    assert effects.unmeasured["pictures with and without"] == "the memory budget is used up"
    assert NO_BUDGET in effects.unmeasured.values() and not effects.regions
    assert "regions of reference 0" in next(name for name, x in effects.unmeasured.items() if x == NO_BUDGET)


def test_a_latent_that_is_no_picture_is_said():
    """Audio has one of ``[items, channels, length]``."""
    graph = one_reference()
    model, _ = captured(graph.model)
    watches = [wrapper.watch for by_key in model.wrappers["outer_sample"].values() for wrapper in by_key]
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(graph.positive, graph.negative)
    effect = EffectWatch(Settings())
    sampling = Sampling(guider, torch.zeros(1, 8, 30), torch.tensor([1.0, 0.5, 0.0]), None, [*watches, effect])
    sampling.parts.extend(watch.begin(sampling) for watch in watches)
    part = effect.begin(sampling)
    assert not part.measuring
    notes = sampling.parts[0].record.recorder.notes
    assert any("the latent is of 3 dimensions" in note for note in notes)


def test_a_video_that_is_made_block_by_block_is_said():
    """By ComfyUI's ar_video: a model that has written this block would take a further evaluation for the next one."""
    graph = tiny_graphs.wan_phantom(cfg=1.0)
    graph.model = graph.model.clone()
    graph.model.model_options["transformer_options"]["ar_state"] = {"start_frame": 0}
    model, handle = captured(graph.model)
    latent = graph.sample(measured(model, **SETTINGS))["samples"]
    effects = handle.find(latent).effects
    assert effects.unmeasured == {"references": AUTOREGRESSIVE} and effects.evaluations == 0


def test_a_model_without_a_reference_says_so():
    graph = tiny_graphs.flux_text(cfg=3.0)
    effects = effects_of(graph, owners="references")
    assert list(effects.unmeasured) == ["references"] and "reads no reference" in effects.unmeasured["references"]


@pytest.mark.parametrize("steps", [0, 1, 2, 7])
@pytest.mark.parametrize("count", [1, 3, 1000])
def test_measured_steps_are_steps_of_the_run(count, steps):
    chosen = measured_steps(count, steps)
    assert len(chosen) == min(count, steps) and chosen == sorted(set(chosen))
    assert all(0 <= step < steps for step in chosen) and chosen[:1] == [0] * bool(steps)


# Threads, compiled models


def test_calls_of_the_model_in_threads_of_their_own():
    """As cores with several GPUs make them."""

    def threaded(apply_model, given):
        result = []

        def work():
            with torch.inference_mode(torch.is_inference_mode_enabled()):
                result.append(apply_model(given["input"], given["timestep"], **given["c"]))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return result[0]

    graph = one_reference(lengths=(7, 12))
    model = graph.model.clone()
    model.set_model_unet_function_wrapper(threaded)
    attribution = check(lambda model: graph.sample(model), model, **SETTINGS)
    plain = effects_of(graph)
    assert attribution.effects.maps.keys() == plain.maps.keys()
    assert all(torch.equal(attribution.effects.maps[key], values) for key, values in plain.maps.items())


def test_several_runs_at_once():
    """Each with a model of its own; without noise, which ComfyUI draws from one generator for all threads."""
    makers = (one_reference, lambda: tiny_graphs.qwen_edit(sizes=ONE))
    graphs = [make() for make in makers]

    def run(graph):
        model, handle = captured(graph.model)
        latent = graph.sample(measured(model, **SETTINGS), disable_noise=True)["samples"]
        return latent, handle.find(latent).effects

    alone = [run(graph) for graph in graphs]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(run, graphs))
    for (latent, effects), (expected, of_alone) in zip(together, alone, strict=True):
        assert torch.equal(latent, expected) and effects.maps.keys() == of_alone.maps.keys()
        assert all(torch.equal(effects.maps[key], values) for key, values in of_alone.maps.items())


@pytest.mark.parametrize("compiled_before", [False, True])
def test_a_compiled_model(compiled_before):
    torch._dynamo.reset()
    graph = one_reference(cfg=1.0)
    graph.model = tiny_models.flux(depth=1, depth_single_blocks=1)  # a further block of a kind is compiled as the first
    plain = effects_of(graph)
    graph.model = graph.model.clone()
    set_torch_compile_wrapper(graph.model, backend="eager")
    if compiled_before:
        graph.sample(steps=1)
    model, handle = captured(graph.model)
    latent = graph.sample(measured(model, **SETTINGS))["samples"]
    assert torch.equal(latent, graph.sample()["samples"])
    effects = handle.find(latent).effects
    assert effects.maps.keys() == plain.maps.keys(), effects.unmeasured
    for removal, values in plain.maps.items():
        torch.testing.assert_close(effects.maps[removal], values, atol=1e-4, rtol=1e-2)


def test_a_copy_of_the_model_is_measured_too():
    """Loaders clone the model behind Effect, deeply what its options hold."""
    graph = one_reference()
    model, handle = captured(graph.model)
    model = copy.copy(measured(model, **SETTINGS)).clone().clone()
    assert strongest(handle.find(graph.sample(model)["samples"])) > 0
