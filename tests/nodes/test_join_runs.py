"""Two samplers, one after the other, each with its Capture: joined they are what one Capture of all steps gives."""

import dataclasses

import pytest
import tiny_graphs
import tiny_models
import torch
import workflow
from selected import maps

from i2am_pack.i2am_core import load, save
from i2am_pack.i2am_core.half import full
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.effect import I2AMEffect
from i2am_pack.nodes.join_runs import I2AMJoinRuns
from i2am_pack.nodes.maps import I2AMMaps

STEPS, CUT = 5, 2
FIRST = {"last_step": CUT}  # KSampler (Advanced) with return_with_leftover_noise
SECOND = {"start_step": CUT, "disable_noise": True, "force_full_denoise": True}


def inpainting(**shape):
    """An inpainting model, whose sampler has no mask: with one, ComfyUI's second sampler keeps noise outside of it."""
    graph = workflow.make(**shape)
    return dataclasses.replace(graph, latent={"samples": graph.latent["samples"]})


def sampled(graph, model=None, latent=None, effect=False, regions=(), **sampling):
    """The attribution and the latent of a sampler of its own, with a Capture of its own."""
    model, handle = I2AMCapture.execute(model or graph.model, "auto", "positive", "everywhere", 512, *regions).args
    if effect:
        model = I2AMEffect.execute(model, 2, 2, "taken away", "everything", "references").args[0]
    here = graph if latent is None else dataclasses.replace(graph, latent=latent)
    made = here.sample(model, steps=STEPS, **sampling)
    return I2AMCollect.execute(handle, made).args[0], made


def halves(graph, low=None, **named):
    """The attributions of two samplers in a row, and the latent of the second."""
    first, latent = sampled(graph, **FIRST, **named)
    second, latent = sampled(graph, low, latent=latent, **SECOND, **named)
    return first, second, latent


def i2am_maps(attribution, level, normalization):
    """The heatmaps that the node gives."""
    chosen = {"scope": "auto", "time_groups": 0, "steps": "all", "layers": "all", "heads": "all"}
    drawn = {"reference": 0, "item": 0, "colormap": "jet", "scale": "each map", "opacity": 0.5}
    return I2AMMaps.execute(
        attribution, "reference to generated", level=level, normalization=normalization, **chosen, **drawn
    ).args[1]


GRAPHS = {
    "inpainting": lambda: inpainting(batch=2, text_tokens=7),
    "kontext": tiny_graphs.flux_kontext,
    "Wan": tiny_graphs.wan_i2v,
}


@pytest.mark.parametrize("name", GRAPHS)
def test_two_halves_are_the_whole(name):
    graph = GRAPHS[name]()
    whole, latent = sampled(graph)
    first, second, of_halves = halves(graph)
    torch.testing.assert_close(of_halves["samples"], latent["samples"], atol=1e-5, rtol=1e-5)
    joined, summary = I2AMJoinRuns.execute(first, second).args
    assert "two runs as one: steps 0-1 are of the first, 2-4 of the second" in summary
    assert joined.all_observed and not any("latent" in note for note in joined.notes)  # it is proved that it went on
    assert joined.references == whole.references and joined.layers == whole.layers
    assert joined.bins == whole.bins and joined.heads == whole.heads and joined.sigmas == whole.sigmas
    assert joined.captured_calls == whole.captured_calls and joined.skipped == whole.skipped
    assert joined.entries.keys() == whole.entries.keys()
    for place, entry in joined.entries.items():
        expected = whole.entries[place]
        assert torch.equal(entry.seen, expected.seen)
        for of_entry, of_expected in ((entry.maps, expected.maps), (entry.pairs, expected.pairs)):
            assert of_entry.keys() == of_expected.keys()
            for key, x in of_entry.items():
                torch.testing.assert_close(full(x), full(of_expected[key]), atol=1e-5, rtol=1e-4)


def test_a_high_noise_and_a_low_noise_model():
    graph, low = tiny_graphs.wan_i2v(), tiny_models.wan_i2v()
    tiny_models.fill(low.model.diffusion_model, seed=4)
    first, second, _ = halves(graph, low)
    joined, _ = I2AMJoinRuns.execute(first, second).args
    assert len(joined.references) == len(first.references) and joined.layers == first.layers
    by_step = maps(joined, "r2g", "time", time_groups=0).values
    of_each = [maps(x, "r2g", "time", time_groups=0).values for x in (first, second)]
    torch.testing.assert_close(by_step, torch.cat(of_each))
    of_low = maps(sampled(graph, low)[0], "r2g", "time", time_groups=0).values
    assert not torch.allclose(by_step[:CUT], of_low[:CUT], rtol=1e-3)


def test_two_models_with_other_layers(tmp_path):
    """As of SDXL's base and refiner: what one lacks was seen in no step of the other."""
    graph = tiny_graphs.sdxl_canvas()
    refiner = tiny_models.sdxl(transformer_depth=[0, 3], transformer_depth_output=[0, 0, 3, 3])
    painted = tiny_graphs.right_half(torch.zeros(1, 8, 8))
    first, second, _ = halves(graph, refiner, regions=(painted, 1 - painted))
    joined, summary = I2AMJoinRuns.execute(first, second).args
    assert {x.name for x in joined.layers} > {x.name for x in first.layers}
    assert "of one run alone: " in summary
    alone = [n for n, layer in enumerate(joined.layers) if layer not in first.layers]
    assert alone and all(joined.entries[0, n].seen.tolist() == [0.0] * CUT + [1.0] * (STEPS - CUT) for n in alone)
    save(joined, tmp_path / "joined.i2am.safetensors")
    loaded = load(tmp_path / "joined.i2am.safetensors")
    heat = i2am_maps(loaded, "time", "paper")
    assert len(heat) == STEPS


def test_effects_of_both():
    graph = tiny_graphs.flux_kontext()
    first, second, _ = halves(graph, effect=True)
    joined, summary = I2AMJoinRuns.execute(first, second).args
    steps = [*first.effects.steps(0), *(CUT + step for step in second.effects.steps(0))]
    assert joined.effects.steps(0) == steps and len(steps) > 2
    assert f"in steps {', '.join(map(str, steps))}" in summary
    strengths = [run.effects.strength(0) * len(run.effects.steps(0)) for run in (first, second)]
    assert joined.effects.strength(0) == pytest.approx(sum(strengths) / len(steps))
    heat = i2am_maps(joined, "unified", "effect")
    assert heat.isfinite().all()


def test_a_reference_of_one_run_alone_is_0_in_the_other():
    """As where the second sampler gets a conditioning that lacks one of two references."""
    graph = tiny_graphs.flux_kontext()
    lacking = [[c, d | {"reference_latents": d["reference_latents"][:1]}] for c, d in graph.positive]
    first, latent = sampled(graph, **FIRST)
    second, _ = sampled(dataclasses.replace(graph, positive=lacking), latent=latent, **SECOND)
    assert [x.key for x in second.references] == [x.key for x in first.references[:1]]
    joined, summary = I2AMJoinRuns.execute(first, second).args
    name = first.references[1].name
    assert f"'{name}' is not in the second run: its maps are 0 in steps 2-4" in summary
    whole, part = (maps(x, "r2g", reference=1, normalization="share").values for x in (joined, first))
    torch.testing.assert_close(whole, part * CUT / STEPS)
    both = maps(second, "r2g", reference=0, normalization="share").values * (STEPS - CUT)
    both = (both + maps(first, "r2g", reference=0, normalization="share").values * CUT) / STEPS
    torch.testing.assert_close(maps(joined, "r2g", reference=0, normalization="share").values, both)


def test_what_is_known_to_be_all_that_may_read_a_reference():
    graph = workflow.make()
    assert graph.attribution().all_observed
    of_one = graph.attribution(mechanism="cross-attention tokens")
    assert of_one.entries and not of_one.all_observed  # others may have read something


def test_a_run_that_did_not_go_on_with_the_latent_of_the_other():
    graph = inpainting()
    first, latent = sampled(graph, **FIRST)
    beside, _ = sampled(graph, **SECOND)
    with pytest.raises(ValueError, match=r"both began with the same latent.*connect the latent of the first sampler"):
        I2AMJoinRuns.execute(first, beside)
    changed, _ = sampled(graph, latent={"samples": latent["samples"] * 1.01}, **SECOND)
    assert (
        "the second run did not begin with the latent that the first ended" in I2AMJoinRuns.execute(first, changed)[1]
    )


def test_three_samplers_and_any_order():
    graph = inpainting()
    whole, _ = sampled(graph)
    one, latent = sampled(graph, last_step=1)
    two, latent = sampled(graph, latent=latent, start_step=1, last_step=3, disable_noise=True)
    three, _ = sampled(graph, latent=latent, start_step=3, disable_noise=True, force_full_denoise=True)
    joined = I2AMJoinRuns.execute(three, I2AMJoinRuns.execute(one, two).args[0]).args[0]
    torch.testing.assert_close(maps(joined, "g2r").values, maps(whole, "g2r").values, atol=1e-6, rtol=1e-4)
    assert joined.sigmas == whole.sigmas


def test_what_is_not_one_run_is_refused_with_what_to_do():
    graph = inpainting()
    first, second, _ = halves(graph)
    with pytest.raises(
        ValueError, match=r"one ended at sigma 0, and the other began at .*return_with_leftover_noise on 'en"
    ):
        I2AMJoinRuns.execute(second, second)
    no_leftover, _ = sampled(graph, **FIRST, force_full_denoise=True)
    with pytest.raises(ValueError, match=r"one ended at sigma 0, .*end_at_step of the first must be start_at_step"):
        I2AMJoinRuns.execute(no_leftover, second)
    batch = sampled(inpainting(batch=2), **SECOND)[0]
    with pytest.raises(ValueError, match=r"one made 1 picture\(s\), and the other 2.*connect the latent of the first"):
        I2AMJoinRuns.execute(first, batch)
    with pytest.raises(ValueError, match="set branch of both I2AM Captures to the same"):
        I2AMJoinRuns.execute(first, dataclasses.replace(second, branch="negative"))
