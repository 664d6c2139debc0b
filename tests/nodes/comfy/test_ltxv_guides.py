"""LTX Video: guides are frames at the end of the latent, each a reference; maps are of the video without them."""

import pytest
import tiny_ltxv
import torch
from by_hand import ByHand
from effect_oracle import Counterfactuals
from effects_of import close, measured
from mechanisms import assert_maps_equal, capture, measure, steered
from steered_oracle import Run
from tiny_ltxv import TOKENS_BY_GUIDE

from i2am_pack.i2am_core import TokenGrid
from i2am_pack.i2am_core.effect import Removal

PLANE, VIDEO = TokenGrid(2, 4), range(24)
NAME = "guide {}" if TOKENS_BY_GUIDE else "guide frame {}"


def own_attention(keys):
    """To the video and its guides, of the video's rows at least."""
    return lambda call: call.k.shape[2] == keys and call.q.shape[2] >= 24 and (call.mask is None or one_row(call.mask))


def one_row(mask):
    return mask.shape[-2] == 1


def assert_captured(attribution, names, grids):
    assert attribution.mechanism == "reference frames"
    assert [layer.name for layer in attribution.layers] == ["double 0", "double 1"]
    assert {layer.grid for layer in attribution.layers} == {TokenGrid(2, 4, 3)}
    assert [(r.name, r.grid) for r in attribution.references] == list(zip(names, grids, strict=True))


@pytest.mark.parametrize("shape", [{}, {"cfg": 1.0}])
def test_guides(shape):
    """The host's node makes them for one video only."""
    graph = tiny_ltxv.guides((1.0, 1.0), **shape)
    attribution = capture(graph)
    assert_captured(attribution, [NAME.format(1), NAME.format(2)], [PLANE] * 2)
    steps = measure(graph, VIDEO, own_attention(40))
    assert_maps_equal(attribution, steps, 0, range(24, 32))
    assert_maps_equal(attribution, steps, 1, range(32, 40))
    assert attribution.missed == ()


def test_a_guide_of_several_frames():
    """It is one reference where the core says which guide has how many; else its frames are references."""
    graph = tiny_ltxv.guides(frames=2)
    attribution = capture(graph)
    steps = measure(graph, VIDEO, own_attention(40))
    if TOKENS_BY_GUIDE:
        assert_captured(attribution, ["guide 1"], [TokenGrid(2, 4, 2)])
        assert_maps_equal(attribution, steps, 0, range(24, 40))
    else:
        assert_captured(attribution, ["guide frame 1", "guide frame 2"], [PLANE] * 2)
        assert_maps_equal(attribution, steps, 1, range(32, 40))


@pytest.mark.parametrize("strengths", [(0.5,), (0.5, 1.0), (2.0, 0.3, 0.0)])
def test_guides_of_another_strength(strengths):
    """Their strength is a bias on their columns, in a call for the rows of the video; another is for their own."""
    graph = tiny_ltxv.guides(strengths)
    attribution = capture(graph)
    assert_captured(attribution, [f"guide {n + 1}" for n in range(len(strengths))], [PLANE] * len(strengths))
    steps = measure(graph, VIDEO, own_attention(24 + 8 * len(strengths)))
    for number in range(len(strengths)):
        assert_maps_equal(attribution, steps, number, range(24 + 8 * number, 32 + 8 * number))
    assert attribution.missed == () and "attention of tokens that are none of the picture" in str(attribution.skipped)


def test_a_guide_of_as_many_tokens_as_the_video():
    """Its rows are told from the video's by its mask: the video has one for all rows."""
    graph = tiny_ltxv.guides((0.5,), frames=3)
    attribution = capture(graph)
    assert_captured(attribution, ["guide 1"], [TokenGrid(2, 4, 3)])
    assert_maps_equal(attribution, measure(graph, VIDEO, own_attention(48)), 0, range(24, 48))


def test_guides_of_ic_lora_on_a_coarser_grid():
    """Tokens that the noise mask leaves out do not reach the model."""
    graph = tiny_ltxv.guides((1.0, 1.0), downscale=2)
    attribution = capture(graph)
    assert_captured(attribution, ["guide 1", "guide 2"], [TokenGrid(1, 2)] * 2)
    steps = measure(graph, VIDEO, own_attention(28))
    assert_maps_equal(attribution, steps, 0, range(24, 26))
    assert_maps_equal(attribution, steps, 1, range(26, 28))


@pytest.mark.parametrize("through", ["everything", "directly"])
@pytest.mark.parametrize(("strengths", "frames"), [((0.5, 1.0), 1), ((0.5,), 3)])
def test_guides_of_another_strength_are_steered_and_measured(strengths, frames, through):
    """In both calls, or in that of the video alone."""
    graph, keys = tiny_ltxv.guides(strengths, frames), 24 + 8 * frames * len(strengths)
    columns, calls = range(keys - 8 * frames, keys), [0]

    def without(queries, seen):
        if seen != keys:
            return ()
        calls[0] += 1
        is_of_video = calls[0] % 2 == 1
        return [ByHand(0.0, list(columns))] if is_of_video or through == "everything" else ()

    last = len(strengths) - 1
    run = Run(without)
    expected = graph.sample(run.on(graph.model))["samples"]
    plain = graph.sample()["samples"]
    latent = graph.sample(steered(graph.model, 0.0, reference=last, through=through))["samples"]
    assert run.made and (latent - plain).abs().max() > 20 * (latent - expected).abs().max()
    torch.testing.assert_close(latent, expected, rtol=2e-4, atol=2e-4)
    calls[0] = 0
    nothing = ByHand(1.0, [0])
    by_hand = Counterfactuals(lambda q, k: [nothing] if k == keys else (), {last: without})
    graph.sample(by_hand.on(graph.model), steps=1)
    effects = measured(graph, sampling={"steps": 1}, probe_steps=1, routes=(through,)).effects
    assert not effects.unmeasured
    close(effects.maps[Removal(0, last, through)], by_hand.effect(0, last), by_hand.with_[0])


def test_a_noise_mask_over_the_video_itself_is_refused():
    graph = tiny_ltxv.guides((1.0,), downscale=2)
    mask = graph.latent["noise_mask"].clone()
    mask[:, :, 0, 0, 0] = -1
    graph.latent["noise_mask"] = mask
    with pytest.raises(ValueError, match="a noise mask that leaves tokens of the video itself out"):
        capture(graph)
