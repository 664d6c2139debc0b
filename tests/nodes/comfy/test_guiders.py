"""Runs that are not one positive and one negative through CFGGuider: nothing foreign may be taken for ours."""

import sys

import comfy.model_patcher
import comfy.samplers
import pytest
import torch
import workflow
from comfy_extras.nodes_custom_sampler import Guider_Basic, Guider_DualCFG
from selected import maps

import nodes as comfyui_nodes
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect

SIGMAS = torch.tensor([10.0, 5.0, 2.0, 0.0])


@pytest.fixture(scope="module")
def graph():
    return workflow.make()


def run(graph, guider, sampler="euler", sigmas=SIGMAS, callback=None, mask=True):
    latent = graph.latent["samples"]
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(0))
    sampler = comfy.samplers.sampler_object(sampler)
    noise_mask = graph.latent["noise_mask"] if mask else None
    return guider.sample(noise, latent, sampler, sigmas, noise_mask, callback, True, 0)


def cfg(model, graph, positive=None, negative=None, scale=3.0):
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive or graph.positive, negative or graph.negative)
    guider.set_cfg(scale)
    return guider


def basic(model, graph):
    guider = Guider_Basic(model)
    guider.set_conds(graph.positive)
    return guider


def dual(model, graph):
    guider = Guider_DualCFG(model)
    guider.set_conds(graph.positive, graph.negative, graph.negative)
    guider.set_cfg(3.0, 1.0)
    return guider


def g2r(handle, output):
    return maps(handle.find(output), "g2r", scope="whole image").values


def test_a_guider_with_another_order_of_conditionings(graph):
    """DualCFGGuider hands over negative, middle and positive: position says nothing."""
    model, handle = graph.capture()
    got = g2r(handle, run(graph, dual(model, graph)))
    assert got.max() > 3 / 256  # the zeroed negative would be flat


@pytest.mark.parametrize(("guider", "guidance"), [(cfg, 3.0), (basic, 1.0), (dual, None)])
def test_the_guidance_of_a_run_is_recorded_where_it_is_known(graph, guider, guidance):
    """DualCFGGuider has a cfg, too, which it does not use."""
    model, handle = graph.capture()
    attribution = handle.find(run(graph, guider(model, graph)))
    assert attribution.guidance == guidance
    assert ("; branch: positive, cfg 3" in attribution.summary()) == (guidance == 3)


@pytest.mark.parametrize("where", ["set_model_sampler_post_cfg_function", "set_model_sampler_cfg_function"])
def test_guidance_that_a_node_changes_is_not_known(graph, where):
    model, handle = graph.capture()
    getattr(model, where)(lambda args: args["denoised"] if "denoised" in args else args["cond"])
    assert handle.find(run(graph, cfg(model, graph))).guidance is None


def test_extra_calls_of_the_negative_are_not_the_positive(graph):
    """Guidance patches call calc_cond_batch with the negative alone, at position 0."""

    def sample_once_more(args):
        comfy.samplers.calc_cond_batch(
            args["model"], [args["uncond"]], args["input"], args["sigma"], args["model_options"]
        )
        return args["denoised"]

    plain, plain_handle = graph.capture()
    expected = g2r(plain_handle, run(graph, cfg(plain, graph)))
    model = graph.model.clone()
    model.set_model_sampler_post_cfg_function(sample_once_more)
    model, handle = I2AMCapture.execute(model, "auto", "positive", "off", 512).args
    output = run(graph, cfg(model, graph))
    assert handle.find(output).captured_calls == 18
    assert torch.equal(g2r(handle, output), expected)


def test_a_call_that_does_not_say_of_which_conditionings_it_is_is_a_skip(graph):
    def call(args):
        options = args["model_options"]["transformer_options"]
        conditioning = args["cond"][0]["model_conds"]
        args["model"].apply_model(
            args["input"], args["sigma"], conditioning["c_concat"].cond, conditioning["c_crossattn"].cond,
            None, {k: v for k, v in options.items() if k != "cond_or_uncond"},
        )  # fmt: skip
        return args["denoised"]

    model = graph.model.clone()
    model.set_model_sampler_post_cfg_function(call)
    plain = run(graph, cfg(model, graph))
    model, handle = I2AMCapture.execute(model, "auto", "positive", "off", 512).args
    output = run(graph, cfg(model, graph))
    assert torch.equal(plain, output)
    assert any("does not say of which conditionings it is" in reason for reason in handle.find(output).skipped)


@pytest.mark.parametrize("other", [False, True])
def test_an_area_lands_at_its_place(graph, other):
    """The right 8 of 16 columns, alone or beside a conditioning without a reference for the whole picture."""
    tokens, about = graph.positive[0]
    limited = about | {"area": (16, 8, 0, 8), "strength": 2.0, "set_area_to_bounds": False}
    bare = [[tokens, {k: v for k, v in about.items() if k != "i2am_references"}]]
    positive = [[tokens, limited], *(bare if other else [])]
    model, handle = graph.capture(pair_maps="off")
    output = run(graph, cfg(model, graph, positive=positive), mask=False)
    assert torch.equal(output, run(graph, cfg(graph.model, graph, positive=positive), mask=False))
    attribution = handle.find(output)
    share, paper = (maps(attribution, "r2g", "unified", n, layers="output 3.0").values[0] for n in ("share", "paper"))
    assert share.shape == (16, 16)
    assert share[:, :8].eq(0).all() and paper[:, :8].eq(0).all()
    torch.testing.assert_close(paper.sum(), torch.tensor(1.0))
    # decoupled attention looks at nothing else; ComfyUI fades an area in over a quarter of its width
    fade = torch.tensor([0.5, 1, 1, 1, 1, 1, 1, 1])
    expected = 2 * fade / (2 * fade + 1) if other else torch.ones(8)
    torch.testing.assert_close(share[:, 8:], expected.expand(16, 8))


def test_a_mask_weighs_a_conditioning_at_every_position(graph):
    tokens, about = graph.positive[0]
    half = torch.zeros(1, 16, 16)
    half[:, 8:] = 0.5
    limited = about | {"mask": half, "mask_strength": 0.8, "set_area_to_bounds": False}
    bare = [[tokens, {k: v for k, v in about.items() if k != "i2am_references"}]]
    model, handle = graph.capture(pair_maps="off")
    output = run(graph, cfg(model, graph, positive=[[tokens, limited], *bare]))
    attribution = handle.find(output)
    share, paper = (maps(attribution, "r2g", "unified", n, layers="output 3.0").values[0] for n in ("share", "paper"))
    assert share[:8].eq(0).all() and paper[:8].eq(0).all()
    torch.testing.assert_close(share[8:], torch.full((8, 16), 0.4 / 1.4))
    # on coarser grids, cells that are not touched are without weight as well
    assert maps(attribution, "r2g", layers="input 3.0").values[0][:4].eq(0).all()


def test_shares_of_one_reference_in_two_conditionings_add_up(graph):
    tokens, about = graph.positive[0]
    model, handle = graph.capture(pair_maps="off")
    output = run(graph, cfg(model, graph, positive=[[tokens, about], [tokens, about | {"strength": 3.0}]]))
    attribution = handle.find(output)
    assert len(attribution.references) == 1
    share = maps(attribution, "r2g", "unified", "share", layers="output 3.0").values[0]
    torch.testing.assert_close(share, torch.ones(16, 16))


def test_an_area_does_not_put_the_positive_into_the_negative(graph):
    """ComfyUI copies an area of the positive into the negative, tags and uuid included."""
    tokens, about = graph.positive[0]
    limited = about | {"area": (16, 8, 0, 0), "strength": 1.0, "set_area_to_bounds": False}
    bare = [[graph.negative[0][0], {k: v for k, v in graph.negative[0][1].items() if k != "i2am_references"}]]
    model, handle = I2AMCapture.execute(graph.model, "auto", "negative", "off", 512).args
    output = run(graph, cfg(model, graph, positive=[[tokens, limited], [tokens, about]], negative=bare))
    assert not handle.find(output).entries


def test_two_references_stay_apart(graph):
    other = workflow.make(seed=8)
    model, handle = graph.capture()
    output = run(graph, cfg(model, graph, positive=[*graph.positive, *other.positive]))
    attribution = handle.find(output)
    assert len(attribution.references) == 2
    first, second = (maps(attribution, "g2r", reference=i, scope="whole image").values for i in range(2))
    assert not torch.allclose(first, second)
    assert any("several conditionings were combined" in note for note in attribution.notes)


def test_untagged_tokens_are_named():
    graph = workflow.make(text_tokens=77)
    model, handle = graph.capture()
    assert "77 of 333 tokens of the conditioning are untagged" in handle.find(run(graph, cfg(model, graph))).summary()


@pytest.mark.parametrize("change", ["tokens", "rows"])
def test_tokens_that_another_pack_changed_are_a_skip(graph, change):
    def patch(n, context, value, options):
        if change == "tokens":
            return n, torch.zeros_like(context), torch.zeros_like(value)
        return torch.cat([n, n]), torch.cat([context, context]), torch.cat([value, value])

    model = graph.model.clone()
    model.set_model_attn2_patch(patch)
    if change == "rows":
        model.set_model_attn2_output_patch(lambda n, options: n[: n.shape[0] // 2])
    plain = run(graph, cfg(model, graph))
    model, handle = I2AMCapture.execute(model, "auto", "positive", "off", 512).args
    output = run(graph, cfg(model, graph))
    assert torch.equal(plain, output)
    attribution = handle.find(output)
    assert not attribution.entries and any(
        "has changed" in reason or "another pack" in reason for reason in attribution.skipped
    )


def test_what_no_hook_announced_is_not_called_self_attention(graph):
    import comfy.ldm.modules.attention as attention

    model = graph.model.clone()

    def replaced(q, k, v, options):
        keep = {"transformer_options": options}
        first = attention.optimized_attention(q, k, v, options["n_heads"], **keep)
        return first + 0 * attention.optimized_attention(q, k, v, options["n_heads"], **keep)

    model.set_model_attn2_replace(replaced, "output", 2)
    model, handle = I2AMCapture.execute(model, "auto", "positive", "off", 512).args
    skipped = handle.find(run(graph, cfg(model, graph, scale=1.0))).skipped
    function = "test_what_no_hook_announced_is_not_called_self_attention.<locals>.replaced"
    if sys.version_info < (3, 11):
        function = "replaced"  # where frames have no longer name
    assert skipped == {
        "self-attention: it holds no reference tokens": 18,
        f"attention that {function} of {__name__} makes, in place of the model's own or beside it: what it holds is "
        "not known": 6,
    }


@pytest.mark.parametrize("sampler", comfy.samplers.KSampler.SAMPLERS)
def test_every_step_counts_once(graph, sampler):
    """Multi-step samplers ask ahead and come back; whatever they do, a step weighs as a step."""
    model, handle = graph.capture()
    out = graph.sample(model, sampler=sampler, steps=5)
    for entry in handle.find(out["samples"]).entries.values():
        assert entry.seen.max() == 1


def test_a_schedule_that_jumps_back_up(graph):
    sigmas = torch.tensor([10.0, 5.0, 2.0, 6.0, 3.0, 1.0, 0.0])
    model, handle = graph.capture()
    attribution = handle.find(run(graph, cfg(model, graph, scale=1.0), sigmas=sigmas))
    assert attribution.layer_maps(0, 0).seen.tolist() == [1] * 6


def test_the_denoised_output_of_a_custom_sampler_has_maps_too(graph):
    model, handle = graph.capture()
    seen = {}
    output = run(
        graph,
        cfg(model, graph),
        callback=lambda step, x0, x, total: seen.update(x0=x0),
        sigmas=SIGMAS[:-1].contiguous(),
    )
    denoised = model.model.process_latent_out(seen["x0"].cpu())
    assert not torch.equal(denoised, output)
    assert handle.find(denoised) is handle.find(output)


def test_context_windows_are_a_skip():
    import comfy.context_windows as windows

    graph = workflow.make(batch=6)
    model = graph.model.clone()
    model.model_options["context_handler"] = windows.IndexListContextHandler(
        context_schedule=windows.get_matching_context_schedule("standard_static"),
        fuse_method=windows.get_matching_fuse_method("pyramid"),
        context_length=4,
        context_overlap=2,
    )
    model, handle = I2AMCapture.execute(model, "auto", "positive", "off", 512).args
    sigmas = torch.linspace(10, 0, 6)  # this host compares sigmas with pictures, so there must be as many
    attribution = handle.find(run(graph, cfg(model, graph, scale=1.0), sigmas=sigmas))
    assert not attribution.entries and not attribution.captured_calls


def test_a_failure_at_the_end_keeps_the_picture(graph, monkeypatch):
    from i2am_pack.nodes.comfy.captured import Captured

    def fail(self, sampling):
        raise RuntimeError("no memory")

    monkeypatch.setattr(Captured, "finished", fail)
    model, handle = graph.capture()
    out = graph.sample(model)
    assert torch.equal(out["samples"], graph.sample()["samples"])
    with pytest.raises(ValueError, match=r"could not be finished \(RuntimeError: no memory\)"):
        I2AMCollect.execute(handle, out)


def test_a_reference_that_comes_late_stays_within_the_budget():
    """Bins are planned from the first step; a second reference from half-way must make them coarser."""
    graph, other = workflow.make(), workflow.make(seed=8)
    late = [[other.positive[0][0], other.positive[0][1] | {"start_percent": 0.5, "end_percent": 1.0}]]
    model, handle = graph.capture(budget_mb=2, pair_maps="off")
    positive = [*graph.positive, *late]
    out = comfyui_nodes.common_ksampler(model, 1, 12, 1.0, "euler", "normal", positive, graph.negative, graph.latent)[0]
    attribution = handle.find(out["samples"])
    assert len(attribution.references) == 2
    assert attribution.nbytes <= 2 * 2**20
    assert maps(attribution, "r2g", reference=1).values.shape == (1, 16, 16)


def test_odd_latents_are_captured():
    graph = workflow.make()
    latent = torch.zeros(1, 48, 11, 17)
    mask = torch.zeros(1, 1, 11, 17)
    mask[..., 3:9, 4:12] = 1
    positive = [[graph.positive[0][0], {"i2am_references": graph.positive[0][1]["i2am_references"]}]]
    model, handle = graph.capture()
    out = comfyui_nodes.common_ksampler(
        model, 1, 2, 1.0, "euler", "normal", positive, [[torch.zeros(1, 256, 128), {}]],
        {"samples": latent, "noise_mask": mask},
    )[0]  # fmt: skip
    attribution = handle.find(out["samples"])
    assert {str(layer.grid) for layer in attribution.layers} == {"17x11", "9x6"}
    got = maps(attribution, "r2g").values
    assert got.shape == (1, 11, 17)


def test_values_that_are_not_numbers_are_a_skip(graph):
    tokens, about = graph.positive[0]
    model, handle = graph.capture()
    output = run(graph, cfg(model, graph, positive=[[tokens * float("nan"), about]], scale=1.0))
    attribution = handle.find(output)
    assert not attribution.entries
    assert any("values that are not numbers" in reason for reason in attribution.skipped)
