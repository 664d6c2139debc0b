"""Dual CFG Guider's middle conditioning (its cond2) is a branch like the others: OmniGen2's images without the text."""

import pytest
import tiny_dual
import torch
from by_hand import ByHand
from effect_oracle import Counterfactuals
from effects_of import close, measured
from mechanisms import assert_maps_equal, measure, steered
from oracle import Oracle
from steered_oracle import Run

from i2am_pack.i2am_core.effect import Removal
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect

TEXT = {"positive": 7, "middle": 5}  # tokens; then references of 8 and 6, then the picture of 12


def capture(graph, branch):
    """The attribution of a branch: the picture is the same to the bit, and every call is accounted for."""
    model, handle = I2AMCapture.execute(graph.model, "auto", branch, "off", 512).args
    plain, latent = graph.sample(), graph.sample(model)
    assert torch.equal(plain["samples"], latent["samples"])
    attribution = I2AMCollect.execute(handle, latent).args[0]
    oracle, number = Oracle(), tiny_dual.LISTS.index(branch)
    graph.sample(oracle.on(graph.model))
    calls = sum(oracle.forwards[call.forward].cond_or_uncond.count(number) for call in oracle.calls)
    assert attribution.captured_calls + sum(attribution.skipped.values()) == calls
    return attribution


@pytest.mark.parametrize("style", ["regular", "nested"])
@pytest.mark.parametrize("branch", TEXT)
@pytest.mark.parametrize("batch", [1, 2])
def test_a_branch_equals_the_oracle(branch, style, batch):
    graph, first = tiny_dual.omnigen2_dual(style=style, batch=batch), TEXT[branch]
    attribution = capture(graph, branch)
    assert attribution.branch == branch and f"branch: {branch}" in attribution.summary()
    assert [r.name for r in attribution.references] == ["reference latent 1", "reference latent 2"]
    steps = measure(graph, range(first + 14, first + 26), branch=tiny_dual.LISTS.index(branch))
    assert_maps_equal(attribution, steps, 0, range(first, first + 8))
    assert_maps_equal(attribution, steps, 1, range(first + 8, first + 14))


def test_both_at_once_are_as_each_alone():
    """Two Captures on one model: one of each branch."""
    graph = tiny_dual.omnigen2_dual()
    model, handles = graph.model, {}
    for branch in TEXT:
        model, handles[branch] = I2AMCapture.execute(model, "auto", branch, "off", 512).args
    latent = graph.sample(model)
    for branch, handle in handles.items():
        alone, beside = capture(graph, branch), I2AMCollect.execute(handle, latent).args[0]
        last = len(alone.layers) - 1
        for name, values in alone.layer_maps(0, last).maps.items():
            assert torch.equal(values, beside.layer_maps(0, last).maps[name])


def by_hand(strength, columns):
    return lambda queries, keys: [ByHand(strength, columns, branches=(1,))] if keys == 5 + 14 + 12 else ()


def test_steered_alone_is_steered_by_hand():
    graph = tiny_dual.omnigen2_dual()
    latent = graph.sample(steered(graph.model, 0.0, reference=1, branch="middle"))["samples"]
    run = Run(by_hand(0.0, range(13, 19)))
    expected, plain = graph.sample(run.on(graph.model))["samples"], graph.sample()["samples"]
    assert run.made and (latent - plain).abs().max() > 20 * (latent - expected).abs().max()


def test_its_effect_is_that_by_hand():
    graph = tiny_dual.omnigen2_dual()
    hand = Counterfactuals(by_hand(1.0, []), {0: by_hand(0.0, range(5, 13))}, branch=1)
    plain = graph.sample(hand.on(graph.model))["samples"]
    effects = measured(graph, branch="middle", plain=plain, probe_steps=2).effects
    close(effects.maps[Removal(1, 0)], hand.effect(1, 0), hand.with_[1])


def test_a_sampler_without_one_says_so():
    graph = tiny_dual.tiny_graphs.omnigen2_edit(cfg=3.0)
    model, handle = I2AMCapture.execute(graph.model, "auto", "middle", "off", 512).args
    with pytest.raises(ValueError, match=r"the sampler has none \(DualCFGGuider has: its cond2\)"):
        I2AMCollect.execute(handle, graph.sample(model))
    with pytest.raises(ValueError, match="set to the middle conditioning, but the model is not run with it"):
        graph.sample(steered(graph.model, 0.0, branch="middle"))
