"""Steps that a cache answered are told from steps of which nothing was to be seen, and both from a share of 0."""

from unittest.mock import patch

import comfy.sample
import comfy.samplers
import comfy_extras.nodes_easycache as nodes_easycache
import pytest
import tiny_graphs
import tiny_models
import torch
from comfy.patcher_extension import WrappersMP
from effect_runs import captured, measured
from ip_adapter_runs import graph_with
from ip_adapter_standin import StandIn
from mechanisms import steered
from remembering_packs import BlockCacheStandIn, TeaCacheStandIn
from steered_graphs import kontext

import nodes as comfyui_nodes
from i2am_pack.i2am_core import MapKind, Selection, load, maps, save
from i2am_pack.i2am_core.recording.steps import FROM_MEMORY, NOT_ACTIVE, OTHER_BRANCH, PART
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.comfy import engine
from i2am_pack.nodes.comfy.model_calls import ModelCalls
from i2am_pack.nodes.comfy.steps import step_of

SHARE = MapKind("r2g", "share")
ONE = ((4, 8),)


def collected(graph, model=None, branch="positive", **sampling):
    """What Collect gives of a run, which gives the picture that it gives without capture."""
    model = graph.model if model is None else model
    watched, handle = captured(model, branch)
    plain, latent = graph.sample(model, **sampling), graph.sample(watched, **sampling)
    assert torch.equal(plain["samples"], latent["samples"])
    return I2AMCollect.execute(handle, latent).args[0]


def cached(graph, node):
    return tiny_graphs.run(node, graph.model, 0.9, 0.0, 1.0, False)[0]


def labelled(attribution, state):
    labels = maps(attribution, SHARE, "time", time_groups=0).labels
    return tuple(step for step, label in enumerate(labels) if label.endswith(f" ({state})"))


def seen(attribution):
    """The steps of which the first layer has anything."""
    return attribution.layer_maps(0, 0).seen.nonzero().flatten().tolist()


@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("name", ["EasyCache", "LazyCache"])
def test_the_caches_of_comfyui(name, cfg, tmp_path):
    graph = kontext(sizes=ONE, cfg=cfg)
    node = getattr(nodes_easycache, f"{name}Node")
    attribution = collected(graph, cached(graph, node), steps=8)
    missing = tuple(step for step in range(8) if step not in seen(attribution))
    assert missing and attribution.not_evaluated == missing == labelled(attribution, "not evaluated")
    (note,) = [note for note in attribution.notes if "evaluated" in note]
    assert f"in {len(missing)} of 8 steps" in note and f"a cache answered ({name})" in note
    assert ("it may be" in note) == (name == "LazyCache")  # which is around what can be observed
    assert f"over {8 - len(missing)} of 8 steps" in attribution.summary()
    assert not labelled(attribution, "off") and not labelled(attribution, "not captured")
    save(attribution, tmp_path / "a.i2am.safetensors")
    assert load(tmp_path / "a.i2am.safetensors").not_evaluated == missing


def test_a_cache_without_a_name():
    graph = kontext(sizes=ONE, cfg=1.0)
    denoiser = graph.model.model.diffusion_model
    model, stand_in = TeaCacheStandIn.on(graph.model, "speed")
    watched, handle = captured(model)
    try:
        attribution = handle.find(graph.sample(watched, steps=8)["samples"])
    finally:
        vars(denoiser).pop("teacache_state", None)
    assert stand_in.remembered and len(attribution.not_evaluated) == stand_in.remembered
    assert any(FROM_MEMORY in note and "it may be" not in note for note in attribution.notes)


NAMED = "a cache answered (fbcache), that another node answered from memory"


@pytest.mark.parametrize(("key", "reason"), [("speed", FROM_MEMORY), ("fbcache", NAMED)])
def test_a_cache_of_blocks(key, reason):
    """As FBCache: the first block runs in each step, and says whether the others do."""
    graph = tiny_graphs.with_references(tiny_graphs._flux(tiny_models.flux(depth=3), 1, cfg=1.0), 2, ONE)
    watched, handle = captured(BlockCacheStandIn.on(graph.model, key, every=4))
    attribution = handle.find(graph.sample(watched, steps=8)["samples"])
    assert attribution.not_evaluated == () and seen(attribution) == list(range(8))
    (note,) = [note for note in attribution.notes if " ran in " in note]
    assert note.startswith(f"double 1 and double 2 ran in 2 of 8 steps alone (0,4): {PART.format(reason)}")
    labels = maps(attribution, SHARE, "time", Selection(layers="double 1"), time_groups=0).labels
    assert [label.endswith("(not captured)") for label in labels] == [step not in (0, 4) for step in range(8)]


@pytest.mark.parametrize("cache", ["EasyCache", "LazyCache", None])
def test_a_sampler_that_leaves_a_step_out(cache):
    """A cache that is on the model, and has answered nothing, is no reason, though it may be one."""
    graph = kontext(sizes=ONE, cfg=1.0)
    if cache is not None:
        graph.model = tiny_graphs.run(getattr(nodes_easycache, f"{cache}Node"), graph.model, 0.0, 0.9, 1.0, False)[0]

    def every_second(model, x, sigmas, extra_args=None, callback=None, disable=None):
        for sigma in sigmas[:-1:2]:
            x = x * 0.5 + 0.5 * model(x, sigma * x.new_ones(len(x)), **extra_args)
        return x

    def sampled(model):
        noise, sampler = torch.ones_like(graph.latent["samples"]), comfy.samplers.KSAMPLER(every_second)
        return comfy.sample.sample_custom(
            model, noise, 1.0, sampler, torch.linspace(1, 0, 5), graph.positive, graph.negative, graph.latent["samples"]
        )

    model, handle = captured(graph.model)
    latent = sampled(model)
    assert torch.equal(latent, sampled(graph.model))
    attribution = handle.find(latent)
    (note,) = [note for note in attribution.notes if "evaluated" in note]
    assert attribution.not_evaluated == (1, 3) and "it may be that" in note
    assert "or that the sampler leaves them out" in note and (f"({cache})" in note) == (cache is not None)


SAMPLERS = ["euler", "heun", "dpm_2_ancestral", "dpmpp_2m_sde", "lcm", "uni_pc", "dpm_fast", "ddim"]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("scheduler", ["simple", "karras"])
def test_a_plain_run_says_nothing(sampler, scheduler):
    graph, _, _ = graph_with(StandIn())
    attribution = collected(graph, sampler_name=sampler, scheduler=scheduler, steps=5, denoise=0.8)
    if sampler != "dpm_fast":  # which has steps of its own
        assert attribution.not_evaluated == ()
    assert not any("off" in note or " ran in " in note for note in attribution.notes)


def in_steps(conditioning, start, end):
    return comfyui_nodes.ConditioningSetTimestepRange().set_range(conditioning, start, end)[0]


def test_steps_without_an_active_conditioning():
    """ComfyUI does not ask the model for a branch of which none is: nothing is known of these steps, not even 0."""
    graph = kontext(sizes=ONE, cfg=3.0)
    graph.positive = in_steps(graph.positive, 0.0, 0.5)
    attribution = collected(graph, steps=4)
    missing = tuple(step for step in range(4) if step not in seen(attribution))
    assert missing and attribution.not_evaluated == missing == labelled(attribution, "not evaluated")
    assert any(NOT_ACTIVE in note for note in attribution.notes)


@pytest.mark.parametrize("layout", ["first half", "second half"])
def test_steps_of_a_conditioning_without_the_reference(layout):
    """These are computed, and the reference is not there: it counts as 0."""
    graph, bare = kontext(sizes=ONE, cfg=1.0), tiny_graphs.flux_text()
    ranges = [(0.0, 0.5), (0.5, 1.0)]
    ranges = ranges if layout == "first half" else ranges[::-1]
    always = collected(graph, steps=4)
    graph.positive = in_steps(graph.positive, *ranges[0]) + in_steps(bare.positive, *ranges[1])
    attribution = collected(graph, steps=4)
    entry = attribution.layer_maps(0, 0)
    on = [step for step in range(4) if bool(entry.maps["r2g_share"][:, step].any())]
    assert 0 < len(on) < 4 and entry.seen.tolist() == [1] * 4 and attribution.not_evaluated == ()
    assert labelled(attribution, "off") == tuple(step for step in range(4) if step not in on)
    (note,) = [note for note in attribution.notes if " off " in note]
    assert note.startswith("'reference latent 1' is off in step") and "its conditioning is not active" in note
    of_these = maps(attribution, SHARE, "unified", Selection(steps=",".join(map(str, on)))).values
    torch.testing.assert_close(maps(attribution, SHARE).values, of_these * len(on) / 4)
    if layout == "first half":
        same = maps(always, SHARE, "unified", Selection(steps="0")).values
        torch.testing.assert_close(maps(attribution, SHARE, "unified", Selection(steps="0")).values, same)


def test_a_branch_that_guidance_leaves_out():
    """The negative conditioning is evaluated in the steps of guidance alone."""
    graph = kontext(sizes=ONE, cfg=3.0)

    original = comfyui_nodes.comfy.samplers.calc_cond_batch

    def leaving_out(given, conds, x, timestep, options):
        return original(given, [conds[0], None] if float(timestep.max()) < 0.7 else conds, x, timestep, options)

    with patch.object(comfyui_nodes.comfy.samplers, "calc_cond_batch", leaving_out):
        attribution = collected(graph, None, "negative", steps=4)
    assert attribution.not_evaluated and any(OTHER_BRANCH in note for note in attribution.notes)


def test_the_effect_of_an_adapter_in_a_step_without_it_is_0():
    graph, _, _ = graph_with(StandIn(), cfg=1.0, settings=[{"end_at": 0.5}, {"weight": 0.0}])
    watched, handle = captured(graph.model)
    model = measured(watched, probe_steps=4, regions=0, through="everything", owners="references")
    plain, latent = graph.sample(steps=4), graph.sample(model, steps=4)
    assert torch.equal(plain["samples"], latent["samples"])
    attribution = handle.find(latent["samples"])
    share = attribution.layer_maps(0, 0).maps["r2g_share"][0]
    for step in range(4):
        effect = attribution.effects.maps[step, 0, "everything"]
        assert bool(effect.any()) == bool(share[step].any())
        assert not attribution.effects.maps[step, 1, "everything"].any()
    assert not attribution.effects.unmeasured


@pytest.mark.parametrize("every", [2, 3, 9])
def test_every_nth_step_is_looked_at(every, tmp_path):
    """The others have no maps, and count in no mean: they are not 0."""
    graph = kontext(sizes=ONE, cfg=3.0)
    attribution, whole = (every_nth(graph, n, steps=5) for n in (every, 1))
    looked = list(range(0, 5, every))
    left_out = tuple(step for step in range(5) if step not in looked)
    assert seen(attribution) == looked and attribution.not_looked_at == left_out
    assert labelled(attribution, "not captured") == left_out and not labelled(attribution, "not evaluated")
    assert attribution.captured_calls * 5 == whole.captured_calls * len(looked)
    assert not attribution.all_observed and attribution.not_evaluated == () and not attribution.skipped
    (note,) = [note for note in attribution.notes if "looked at" in note]
    assert f"{len(left_out)} of 5 steps" in note and note in attribution.summary()
    assert f"over {len(looked)} of 5 steps" in attribution.summary()
    of_these = maps(whole, SHARE, "unified", Selection(steps=",".join(map(str, looked)))).values
    torch.testing.assert_close(maps(attribution, SHARE).values, of_these, rtol=0, atol=0)
    save(attribution, tmp_path / "a.i2am.safetensors")
    assert load(tmp_path / "a.i2am.safetensors").not_looked_at == left_out


@pytest.mark.parametrize("every", [3, 100])
def test_the_first_step_that_is_looked_at_is_one_of_the_branch(every):
    """Else a conditioning that begins late would not be seen at all."""
    graph = kontext(sizes=ONE, cfg=3.0)
    graph.positive = in_steps(graph.positive, 0.5, 1.0)
    active = seen(every_nth(graph, 1, steps=6))
    attribution = every_nth(graph, every, steps=6)
    assert active[0] > 0 and seen(attribution) == active[::every]
    assert attribution.not_looked_at == tuple(step for step in active if step not in seen(attribution))
    assert attribution.not_evaluated == tuple(range(active[0]))


def test_in_steps_that_are_left_out_attention_goes_past_us(monkeypatch):
    """But where the engine of a Steer is around this one: it hands all of its calls on."""
    passed, of_nobody = [], engine.PendingCall
    monkeypatch.setattr(engine, "PendingCall", lambda arguments: [passed.append(arguments), of_nobody(arguments)][1])
    graph = kontext(sizes=ONE)
    for model, is_steered in ((graph.model, False), (steered(graph.model, 0.5), True)):
        watched, handle = I2AMCapture.execute(model, "auto", "positive", "off", 512, every=3).args
        latent = graph.sample(watched, steps=6)["samples"]
        assert torch.equal(latent, graph.sample(model, steps=6)["samples"])
        assert seen(handle.find(latent)) == [0, 3] and bool(passed) == is_steered


@pytest.mark.parametrize("every", [1, 2])
def test_what_a_pack_writes_into_the_options_further_in_is_read_further_out(every):
    """Where the core hands all of them one dictionary; also in calls of the other branch alone."""

    def inside(executor, *args, **kwargs):
        options = kwargs.get("transformer_options", args[-1])
        options["of a pack"] = 1.5
        return executor(*args, **kwargs)

    def outside(executor, x, t, c_concat, c_crossattn, control, transformer_options, **kwargs):
        output = executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)
        return output * transformer_options.get("of a pack", 1)

    graph = kontext(sizes=ONE, cfg=3.0, negative=False)  # so that each branch has calls of its own
    for kind, wrapper in ((WrappersMP.DIFFUSION_MODEL, inside), (WrappersMP.APPLY_MODEL, outside)):
        graph.model.add_wrapper_with_key(kind, "of a pack", wrapper)
    every_nth(graph, every, steps=4)


def test_a_step_is_known_also_where_a_pack_evaluates_within_an_evaluation(monkeypatch):
    """The model once more with less noise, before each of its own calls."""
    of_run, inside, steps, read = {}, [], [], ModelCalls.read

    def calc_cond_batch(args):
        of_run.update(args)
        return comfy.samplers.calc_cond_batch(*(args[name] for name in OF_EVALUATION))

    def twice(apply_model, given):
        if not inside:
            inside.append(True)
            lower = of_run | {"sigma": of_run["sigma"] * 0.4}
            comfy.samplers.calc_cond_batch(*(lower[name] for name in OF_EVALUATION))
            inside.clear()
        return apply_model(given["input"], given["timestep"], **given["c"])

    def observed(calls, model, x, text, options, conditions):
        call = read(calls, model, x, text, options, conditions)
        steps.append((call.step, step_of(float(options["sigmas"].max()), calls._sigmas, 0)))
        return call

    graph = kontext(sizes=ONE)
    graph.model.set_model_sampler_calc_cond_batch_function(calc_cond_batch)
    graph.model.set_model_unet_function_wrapper(twice)
    watched = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512).args[0]
    monkeypatch.setattr(ModelCalls, "read", observed)
    graph.sample(watched, steps=4)
    assert len(steps) == 8 and len(set(steps[1::2])) == 4
    assert all(known == own for known, own in steps)


OF_EVALUATION = ("model", "conds", "input", "sigma", "model_options")


def test_without_it_every_step_is_looked_at():
    attribution = every_nth(kontext(sizes=ONE), 1, steps=3)
    assert attribution.not_looked_at == () and seen(attribution) == [0, 1, 2]
    assert not [note for note in attribution.notes if "looked at" in note]


def test_an_effect_is_measured_also_in_steps_that_are_not_looked_at():
    graph = kontext(sizes=ONE, cfg=1.0)
    watched, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512, every=4).args
    model = measured(watched, probe_steps=4, regions=0, through="everything", owners="references")
    attribution = handle.find(graph.sample(model, steps=4)["samples"])
    assert {removal.step for removal in attribution.effects.maps} == {0, 1, 2, 3}
    assert attribution.not_looked_at == (1, 2, 3) and not attribution.effects.unmeasured


def every_nth(graph, every, **sampling):
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512, every=every).args
    plain, latent = graph.sample(**sampling), graph.sample(model, **sampling)
    assert torch.equal(plain["samples"], latent["samples"])
    return I2AMCollect.execute(handle, latent).args[0]
