"""Calls that a pack makes with the model's own modules, blocks that run twice or fail, and compiled models.

Where it cannot be known which run counts, the block is retracted, and the reason names the pack.
"""

import attention_packs
import pytest
import tiny_graphs
import torch
from attention_packs import unet
from comfy.patcher_extension import WrappersMP
from comfy_api.torch_helpers import set_torch_compile_wrapper
from mechanisms import sampled

from i2am_pack.nodes.comfy.tags import KEY, tag

TWICE = "runs more than once in one call of the model"


def maps_of(attribution):
    return {
        (reference, attribution.layers[layer].name, name): values
        for (reference, layer), entry in attribution.entries.items()
        for name, values in entry.maps.items()
    }


def assert_the_rest_is_as_without(graph, model, gone):
    """The same maps but for the layers that are ``gone``, and the same number of calls but for those of the pack."""
    _, plain = sampled(graph)
    graph.model = model
    without = graph.sample()["samples"]
    latent, attribution = sampled(graph)
    assert torch.equal(latent, without)
    expected = {place: x for place, x in maps_of(plain).items() if place[1] not in gone}
    maps = maps_of(attribution)
    assert maps.keys() == expected.keys()
    assert all(torch.equal(maps[place], x) for place, x in expected.items())
    return plain, attribution


def test_an_attention_module_that_a_pack_runs_first_is_not_the_models_own():
    """Its patch runs it with other tokens, right before ComfyUI does; the picture is what it would have been."""
    graph = unet_with_tags(tiny_graphs.sd15_text())
    block = graph.model.model.diffusion_model.input_blocks[1][1].transformer_blocks[0]

    def looks_first(n, context, value, options):
        if options["block"] == ("input", 1):
            block.attn2(n * 2, context=context, value=value, transformer_options=options)
        return n, context, value

    model = graph.model.clone()
    model.set_model_attn2_patch(looks_first)
    plain, attribution = assert_the_rest_is_as_without(graph, model, ())
    named = {reason: calls for reason, calls in attribution.skipped.items() if "looks_first" in reason}
    assert sum(named.values()) == 2 and __name__ in next(iter(named))
    assert attribution.captured_calls == plain.captured_calls


def unet_with_tags(graph):
    ((tokens, about),) = graph.positive
    graph.positive = [[tokens, about | {KEY: [tag("tagged", 2, tokens[:, 2:6], (2, 2))]}]]
    return graph


def test_a_block_that_a_pack_runs_twice_as_a_module_is_retracted():
    graph = tiny_graphs.flux_kontext()

    def twice(args, extra):
        extra["original_block"](args | {"img": args["img"] * 2})
        return extra["original_block"](args)

    model = graph.model.clone()
    model.set_model_patch_replace(twice, "dit", "single_block", 1)
    plain, attribution = assert_the_rest_is_as_without(graph, model, ["single 1"])
    (reason,) = attribution.skipped
    assert TWICE in reason and f"{twice.__qualname__} of {__name__}" in reason
    assert attribution.skipped[reason] == 4 and attribution.captured_calls == plain.captured_calls - 2


def test_a_model_that_a_pack_calls_twice_in_one_call_is_retracted():
    graph = tiny_graphs.flux_kontext()

    def twice(executor, x, *args, **kwargs):
        executor(x * 2, *args, **kwargs)
        return executor(x, *args, **kwargs)

    model = graph.model.clone()
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test", twice)
    every = ["double 0", "double 1", "single 0", "single 1"]
    _, attribution = assert_the_rest_is_as_without(graph, model, every)
    (reason,) = attribution.skipped
    assert TWICE in reason and f"{twice.__qualname__} of {__name__}" in reason and attribution.skipped[reason] == 16


def test_a_block_that_fails_and_is_run_once_more_counts_once():
    graph = tiny_graphs.flux_kontext()
    block = graph.model.model.diffusion_model.double_blocks[0]
    failed = []

    def run_until_done(args, extra):
        handle = block.img_mod.register_forward_pre_hook(lambda *_: fails(failed))
        try:
            return extra["original_block"](args)
        except MemoryError:
            return extra["original_block"](args)
        finally:
            handle.remove()

    model = graph.model.clone()
    model.set_model_patch_replace(run_until_done, "dit", "double_block", 0)
    plain, attribution = assert_the_rest_is_as_without(graph, model, ())
    assert failed and attribution.skipped == plain.skipped and attribution.captured_calls == plain.captured_calls


def fails(failed):
    failed.append(len(failed))
    if len(failed) % 2:
        raise MemoryError


def test_another_block_past_its_call_is_not_taken_for_the_one_in_the_same_place():
    graph = tiny_graphs.flux_kontext()
    blocks = graph.model.model.diffusion_model.double_blocks

    def other(args, extra):
        given = {name: args[name] for name in ("img", "txt", "vec", "pe", "attn_mask", "transformer_options")}
        img, txt = blocks[1].forward(**given)
        return {"img": img, "txt": txt}

    graph.model = graph.model.clone()
    graph.model.set_model_patch_replace(other, "dit", "double_block", 0)
    _, attribution = sampled(graph)
    assert [layer.name for layer in attribution.layers] == ["double 1", "single 0", "single 1"]
    (reason,) = attribution.skipped
    assert f"{other.__qualname__} of {__name__}" in reason and attribution.skipped[reason] == 2


def test_a_forward_that_drops_the_options_is_named_and_not_what_it_runs():
    graph = unet_with_tags(tiny_graphs.sd15_text())
    place = "input_blocks.1.1.transformer_blocks.0"
    block = graph.model.get_model_object(f"diffusion_model.{place}")

    def bare(x, context=None, transformer_options=None):
        x = x + block.attn1(block.norm1(x))
        x = x + block.attn2(block.norm2(x), context=context)
        return x + block.ff(block.norm3(x))

    graph.model = graph.model.clone()
    graph.model.add_object_patch(f"diffusion_model.{place}.forward", bare)
    latent, attribution = sampled(graph)
    assert torch.equal(latent, graph.sample()["samples"])
    unobserved = {reason: calls for reason, calls in attribution.skipped.items() if "not observed" in reason}
    assert list(unobserved.values()) == [4] and f"{bare.__qualname__} of {__name__}" in next(iter(unobserved))


def test_one_pack_that_looks_does_not_stand_for_another_that_hides():
    graph = tiny_graphs.sd15_text()
    model = unet.replaces(graph.model, unet.without_options, "attn1", (("input", 3),))
    model = unet.before_self_attention(model)
    graph.model = model
    _, attribution = sampled(unet_with_tags(graph))
    unobserved = {reason: calls for reason, calls in attribution.skipped.items() if "not observed" in reason}
    assert unobserved == {
        f"attention that was not observed: it ran in without_options of {unet.__name__}, which does not pass the run's "
        "options on to ComfyUI's attention": 2
    }
    assert attention_packs.__name__ in next(iter(unobserved))


@pytest.mark.parametrize(("name", "compiled_before"), [("wan_i2v", True), ("wan_phantom", False)])
def test_a_compiled_model_is_captured_as_it_is_uncompiled(name, compiled_before):
    """A graph that was compiled before Capture came knows nothing of hooks: Wan's image is known by its tokens."""
    torch._dynamo.reset()
    graph = tiny_graphs.GRAPHS[name]()
    _, plain = sampled(graph, steps=1)
    graph.model = graph.model.clone()
    set_torch_compile_wrapper(graph.model, backend="eager")
    if compiled_before:
        graph.sample(steps=1)
    latent, attribution = sampled(graph, steps=1)
    assert torch.equal(latent, graph.sample(steps=1)["samples"])
    assert attribution.captured_calls == plain.captured_calls and attribution.skipped == plain.skipped
    assert [layer.name for layer in attribution.layers] == [layer.name for layer in plain.layers]
    for place, values in maps_of(attribution).items():
        torch.testing.assert_close(values, maps_of(plain)[place], atol=1e-6, rtol=1e-4)
