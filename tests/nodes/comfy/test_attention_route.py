"""An override of ours is neutral: ComfyUI goes the way that it would have gone without one, in newer cores as well."""

import functools
from functools import partial

import attention_wrappers as wrappers
import comfy.ldm.flux.math
import comfy.ldm.modules.attention
import pytest
import tiny_graphs
import tiny_models
import torch
from comfy_api.torch_helpers import set_torch_compile_wrapper
from mechanisms import with_strength_of

from i2am_pack.nodes.comfy.captured import capture_with
from i2am_pack.nodes.comfy.consumer_watch import ConsumerWatch
from i2am_pack.nodes.comfy.consumers import Consumer
from i2am_pack.nodes.comfy.handle import Capture, Settings
from i2am_pack.nodes.comfy.run import watched

PLAIN = comfy.ldm.modules.attention.attention_pytorch.__wrapped__
COMING = wrappers.of_a_core_to_come(PLAIN)
INTERCEPTED = "intercepted from the attention kernel that computed the call"


def newer():
    """The wrapper of newer cores around PyTorch's attention."""
    wrapper = wrappers.of_newer_cores(PLAIN)
    wrapper.container_function = wrappers.with_values_times(PLAIN, 0.7)
    return wrapper


def preferred(function):
    return partial(newer(), preferred_attention=wrappers.Preferred(function))


def to_come():
    return partial(COMING, attention_of_this_layer=wrappers.with_values_times(PLAIN, 0.6))


def of_this_core():
    """Its own wrapper, with containers where it has them."""
    wrapper = comfy.ldm.modules.attention.wrap_attn(PLAIN)
    container = getattr(comfy.ldm.modules.attention, "AttentionTensorContainer", None)
    if container is None:
        return wrapper
    wrapper.container_function = wrappers.with_values_times(PLAIN, 0.7)
    return wrappers.called_with_containers(wrapper, container)


OTHER = wrappers.with_values_times(PLAIN, 0.8)
ATTENTIONS = {
    "plain": newer,
    "containers": lambda: wrappers.called_with_containers(newer()),
    "containers that nobody empties": lambda: wrappers.called_with_containers(wrappers.of_newer_cores(PLAIN)),
    "a preferred attention": lambda: preferred(OTHER),
    "a preferred attention that is not there": lambda: preferred(None),
    "a preferred attention in a wrapper": lambda: preferred(wrappers.of_newer_cores(OTHER)),
    "a preferred attention for containers": lambda: wrappers.called_with_containers(preferred(OTHER)),
    "an argument of a core to come": to_come,
    "this core's own wrapper": of_this_core,
}
RUN_OTHERS = ("containers", "a preferred attention", "a preferred attention in a wrapper")
RUN_OTHERS = (*RUN_OTHERS, "a preferred attention for containers", "an argument of a core to come")
if hasattr(comfy.ldm.modules.attention, "AttentionTensorContainer"):
    RUN_OTHERS = (*RUN_OTHERS, "this core's own wrapper")


class Prefer(Consumer):
    """Changes attention: the first token of each reference wins."""

    acts = True

    def before(self, call, located):
        return with_strength_of(call, located, 20.0, slice(1))


def prefer(model):
    return watched(model, ConsumerWatch(lambda: [Prefer()], acts=True))


def capture(model):
    handle = Capture(Settings("auto", "positive", "off", 2**29))
    return capture_with(model, handle), handle


@pytest.fixture
def graph(monkeypatch):
    monkeypatch.setattr(comfy.ldm.flux.math, "optimized_attention", PLAIN)
    monkeypatch.setattr(comfy.ldm.modules.attention, "attention_pytorch", COMING)  # such a wrapper is found there alone
    return tiny_graphs.flux_kontext()


def use(monkeypatch, name):
    monkeypatch.setattr(comfy.ldm.flux.math, "optimized_attention", ATTENTIONS[name]())


@pytest.mark.parametrize("name", ATTENTIONS)
def test_the_picture_is_the_same_with_capture_and_without(graph, monkeypatch, name):
    plain = graph.sample()["samples"]
    use(monkeypatch, name)
    alone = graph.sample()["samples"]
    assert torch.equal(alone, plain) == (name not in RUN_OTHERS)
    model, handle = capture(graph.model)
    latent = graph.sample(model)["samples"]
    assert torch.equal(latent, alone)
    attribution = handle.find(latent)
    assert attribution.captured_calls > 0 and not attribution.skipped
    assert set(attribution.row_sums) == {INTERCEPTED}


@pytest.mark.parametrize("name", ["a preferred attention", "a preferred attention for containers"])
def test_the_picture_is_the_same_where_the_model_is_compiled(graph, monkeypatch, name):
    """The compiler keeps no variables that the wrapper has no more use for."""
    use(monkeypatch, name)
    monkeypatch.setattr(comfy.ldm.modules.attention, "optimized_attention", newer())
    for used in ("taken", "Container"):  # the compiler looks for these where the wrapper says that it is
        monkeypatch.setattr(comfy.ldm.modules.attention, used, getattr(wrappers, used), raising=False)
    model = tiny_models.flux(depth=1, depth_single_blocks=1)  # a further block of a kind is compiled as the first
    set_torch_compile_wrapper(model, backend="eager")
    alone = graph.sample(model, steps=1)["samples"]
    model, handle = capture(model)
    latent = graph.sample(model, steps=1)["samples"]
    assert torch.equal(latent, alone)
    assert handle.find(latent).captured_calls > 0


def test_a_replaced_attention_that_is_no_function_stops_no_run(graph, monkeypatch):
    """As a pack does that puts an object with the wrapper's name and attributes in its place."""
    use(monkeypatch, "plain")
    original = comfy.ldm.modules.attention.optimized_attention
    replaced = functools.update_wrapper(partial(original), original)
    monkeypatch.setattr(comfy.ldm.modules.attention, "optimized_attention", replaced)
    model, handle = capture(graph.model)
    assert handle.find(graph.sample(model)["samples"]).captured_calls > 0


@pytest.mark.parametrize("name", ATTENTIONS)
def test_what_is_changed_is_changed_on_the_same_way(graph, monkeypatch, name):
    """Of a reference all but whose first token is faint, with values that a kernel counts 0.7, 0.8 or 0.6 times."""
    use(monkeypatch, name)
    alone = graph.sample()["samples"]
    changed = graph.sample(prefer(graph.model))["samples"]
    assert not torch.equal(changed, alone)
    model, handle = capture(prefer(graph.model))
    assert torch.equal(graph.sample(model)["samples"], changed)
    assert handle.find(changed).captured_calls > 0


@pytest.mark.parametrize("has_containers", [False, True])
@pytest.mark.parametrize("name", ["plain", "containers", "a preferred attention", "an argument of a core to come"])
def test_the_override_of_another_pack_stays_in_force(graph, monkeypatch, name, has_containers):
    calls, seen = [], []

    def theirs(attention, *args, transformer_options, **kwargs):
        calls.append(attention)
        seen.append(transformer_options)
        return attention(*args, transformer_options=transformer_options, **kwargs) * 0.5

    if has_containers:
        theirs.container_function = wrappers.with_values_times(PLAIN, 0.3)
    use(monkeypatch, name)
    graph.model = graph.model.clone()
    graph.model.model_options["transformer_options"]["optimized_attention_override"] = theirs
    alone = graph.sample()["samples"]
    made = len(calls)
    assert bool(made) == (name != "containers" or not has_containers)
    model, handle = capture(graph.model)
    latent = graph.sample(model)["samples"]
    assert torch.equal(latent, alone)
    assert len(calls) == 2 * made and set(calls) <= {PLAIN}
    assert all("cond_or_uncond" in options for options in seen)
    assert handle.find(latent).captured_calls > 0


def test_where_kernels_give_no_sums_only_they_are_given_up(graph, monkeypatch):
    """One layer prefers an attention of which nothing can be intercepted; the others run on as they are."""

    def by_hand(q, k, v, heads, *args, **kwargs):
        out = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v
        return out.transpose(1, 2).flatten(2)

    monkeypatch.setattr(
        comfy.ldm.flux.math, "optimized_attention", wrappers.preferring_by_turns(newer(), by_hand, None)
    )
    model, handle = capture(graph.model)
    latent = graph.sample(model, steps=12)["samples"]
    row_sums = handle.find(latent).row_sums
    assert row_sums[INTERCEPTED] == row_sums["scaled_dot_product_flash_attention_for_cpu"]


def test_an_override_that_somebody_else_calls_runs_what_it_is_given(graph, monkeypatch):
    """As a pack does that puts its own around ours in the middle of a run: its arguments are those that count."""

    def theirs(ours):
        def override(func, *args, **kwargs):
            kwargs.pop("mask", None)
            return ours(func, *args, **kwargs) * 0.5

        return override

    def around(executor, *args, **kwargs):
        options = next(x for x in args if isinstance(x, dict) and "cond_or_uncond" in x)
        if "optimized_attention_override" in options:
            options["optimized_attention_override"] = theirs(options["optimized_attention_override"])
        else:
            options["optimized_attention_override"] = theirs(lambda func, *args, **kwargs: func(*args, **kwargs))
        return executor(*args, **kwargs)

    use(monkeypatch, "plain")
    model = graph.model.clone()
    model.add_wrapper_with_key("diffusion_model", "around", around)
    alone = graph.sample(model)["samples"]
    captured, _ = capture(model)
    assert torch.equal(graph.sample(captured)["samples"], alone)
