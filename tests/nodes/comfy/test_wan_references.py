"""Wan's newer kin: every reference at its columns, whatever tokens lie beside the video, or inside its latent."""

import pytest
import tiny_graphs
import tiny_wan
import torch
from effects_of import measured
from mechanisms import assert_maps_equal, capture, expected_maps, measure, steered
from selected import maps

from i2am_pack.i2am_core import TokenGrid
from i2am_pack.i2am_core.effect import Removal
from i2am_pack.nodes.capture import I2AMCapture

CLIP = TokenGrid(16, 16)
BLOCKS = ["block 0", "block 1"]
SHAPES = [{}, {"cfg": 1.0, "batch": 2}, {"lengths": (9, 14)}]  # one call of two conditionings, one of two items, two


def keys(count):
    return lambda call: call.k.shape[2] == count


def assert_layers(attribution, names, grid):
    assert [layer.name for layer in attribution.layers] == names
    assert {layer.grid for layer in attribution.layers} == {grid}


def fates(attribution):
    return {(x.key, x.fate) for x in attribution.given}


@pytest.mark.parametrize("shape", SHAPES)
def test_s2v(shape):
    """The reference frame, and three groups of frames before the video, the coarser the older."""
    attribution = capture(graph := tiny_wan.s2v(**shape))
    assert attribution.mechanism == "reference frames"
    assert_layers(attribution, BLOCKS, TokenGrid(4, 8, 2))
    expected = {
        "reference frame 1": (TokenGrid(4, 8), range(64, 96)),
        "motion, 1 frame before": (TokenGrid(4, 8), range(96, 128)),
        "motion, 2 frames before": (TokenGrid(2, 4), range(128, 136)),
        "motion, 16 frames before": (TokenGrid(1, 2, 4), range(136, 144)),
    }
    assert [(r.name, r.grid) for r in attribution.references] == [(name, g) for name, (g, _) in expected.items()]
    steps = measure(graph, range(64), keys(144))
    for number, (_, columns) in enumerate(expected.values()):
        assert_maps_equal(attribution, steps, number, columns)


def test_s2v_without_motion_and_with_sound():
    """Attention to sound is apart, in calls without the run's options, which are none of a block's own."""
    graph = tiny_wan.s2v(motion=None, size=(4, 6))
    for conditioning in (graph.positive, graph.negative):
        conditioning[0][1]["audio_embed"] = tiny_graphs.noise(3, 1, 25, 1024, 8)
    attribution = capture(graph)
    assert [r.name for r in attribution.references] == ["reference frame 1"]
    assert_maps_equal(attribution, measure(graph, range(12), keys(18)), 0, range(12, 18))
    assert attribution.skipped == {"attention of the video to the text": 4}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["scail", "scail2"])
def test_scail(kind, shape):
    """One reference before the video, poses of half the size after it, and the image's CLIP tokens."""
    attribution = capture(graph := tiny_wan.scail(kind=kind, **shape))
    assert_layers(attribution, BLOCKS, TokenGrid(4, 6, 2))
    assert [(r.name, r.grid) for r in attribution.references] == [
        ("reference image", CLIP), ("reference frame 1", TokenGrid(4, 6)), ("pose video", TokenGrid(2, 3, 2)),
    ]  # fmt: skip
    own, clip = measure(graph, range(24, 72), keys(84)), measure(graph, range(24, 72), keys(257))
    assert_maps_equal(attribution, clip, 0, range(1, 257))
    assert_maps_equal(attribution, own, 1, range(24))
    assert_maps_equal(attribution, own, 2, range(72, 84))


def test_the_first_of_several_references_of_scail_is_next_to_the_video():
    graph = tiny_wan.scail2(images=3, poses=False, clip=False)
    attribution = capture(graph)
    assert [r.name for r in attribution.references] == [f"reference frame {n}" for n in (1, 2, 3)]
    steps = measure(graph, range(72, 120), keys(120))
    for number, first in enumerate((48, 0, 24)):
        assert_maps_equal(attribution, steps, number, range(first, first + 24))


@pytest.mark.parametrize("shape", SHAPES)
def test_bernini(shape):
    """A video that is edited, and two images of sizes of their own, each a reference."""
    attribution = capture(graph := tiny_wan.bernini(images=2, **shape))
    assert_layers(attribution, BLOCKS, TokenGrid(2, 3, 2))
    assert [(r.name, r.grid) for r in attribution.references] == [
        ("context video 1", TokenGrid(2, 3, 2)), ("context image 2", TokenGrid(2, 3)),
        ("context image 3", TokenGrid(3, 3)),
    ]  # fmt: skip
    steps = measure(graph, range(12), keys(39))
    for number, columns in enumerate((range(12, 24), range(24, 30), range(30, 39))):
        assert_maps_equal(attribution, steps, number, columns)


def test_a_video_as_a_reference_is_read_as_the_mean_of_its_frames():
    attribution = capture(tiny_wan.bernini())
    (values,) = maps(attribution, "g2r", reference=0).values
    assert values.shape[-2:] == (2, 3) and values.max() > 0


@pytest.mark.parametrize("shape", [{}, {"batch": 2}, {"cfg": 3.0}])
def test_animate(shape):
    """The first frame of the latent, which counts as 0 in maps of the video, and the image's CLIP tokens."""
    attribution = capture(graph := tiny_wan.animate(**shape))
    assert_layers(attribution, BLOCKS, TokenGrid(2, 3, 3))
    assert [(r.name, r.grid) for r in attribution.references] == [
        ("reference image", CLIP), ("reference frame 1", TokenGrid(2, 3)),
    ]  # fmt: skip
    gain = (torch.arange(18) >= 6).float()[None]
    steps = measure(graph, range(18), keys(18))
    assert_maps_equal(attribution, steps, 1, range(6), gain)
    assert_maps_equal(attribution, measure(graph, range(18), keys(257)), 0, range(1, 257))
    assert any("it counts as 0 in maps of the video" in note for note in attribution.notes)


def test_animate_without_a_first_frame_that_is_known():
    """Its conditioning says what is known: where nothing is, the first frame is one of the video."""
    graph = tiny_wan.animate()
    for conditioning in (graph.positive, graph.negative):
        conditioning[0][1]["concat_mask"] = torch.ones_like(conditioning[0][1]["concat_mask"])
    attribution = capture(graph)
    assert [r.name for r in attribution.references] == ["reference image"]
    assert attribution.skipped["self-attention of the video"] == 4


@pytest.mark.parametrize("shape", [{}, {"batch": 2, "cfg": 1.0}])
def test_wan_dancer(shape):
    """Two images' tokens in one softmax: the reference's are before those of the first frame."""
    attribution = capture(graph := tiny_wan.dancer(**shape))
    assert_layers(attribution, BLOCKS, TokenGrid(2, 3, 2))
    assert [r.name for r in attribution.references] == ["reference image", "start image"]
    steps = measure(graph, range(12), keys(514))
    assert_maps_equal(attribution, steps, 0, range(1, 257))
    assert_maps_equal(attribution, steps, 1, range(258, 514))
    assert {(key, "captured") for key in ("clip_vision_output_ref", "clip_vision_output")} < fates(attribution)


# What is said of what was given


def test_what_animate_was_given():
    attribution = capture(tiny_wan.animate())
    summary = attribution.summary()
    assert {("clip_vision_output", "captured"), ("concat_latent_image", "captured")} == fates(attribution)
    assert "(or the grey that its node puts there for none): captured (by reference frames)" in summary
    motion, background = tiny_graphs.pixels(4, 1, 32, 48), tiny_graphs.pixels(5, 5, 32, 48)
    for given, filled in (
        ({"continue_motion": motion}, "it fills frame 1 of 3"),
        ({"background_video": background}, ""),
    ):
        attribution = capture(tiny_wan.animate(**given))
        assert ("concat_latent_image", "elsewhere") in fates(attribution)
        assert "a background, or motion that goes on" in attribution.summary() and filled in attribution.summary()
    alone = capture(tiny_wan.animate(), "image cross-attention")
    assert fates(alone) == {("clip_vision_output", "captured"), ("concat_latent_image", "unknown")}
    assert "this is read by 'reference frames'" in alone.summary()


def test_what_the_others_were_given():
    for graph, given in (
        (tiny_wan.s2v(), {"reference_latents", "reference_motion"}),
        (tiny_wan.scail2(), {"reference_latents", "pose_video_latent", "clip_vision_output"}),
        (tiny_wan.bernini(), {"context_latents"}),
    ):
        assert fates(capture(graph)) == {(key, "captured") for key in given}


def test_poses_of_animate_are_added_to_the_video():
    attribution = capture(tiny_wan.animate(pose_video=tiny_graphs.pixels(6, 5, 32, 48)))
    assert ("pose_video_latent", "elsewhere") in fates(attribution)
    assert "added to the video's own tokens" in attribution.summary()


# Context windows of a video whose references are in its latent


def windows_of(graph, frames):
    """The frames of each window, and how much each counts in each frame: their mean is flat."""
    handler = graph.model.model_options["context_handler"]
    options = {"transformer_options": {"sample_sigmas": torch.ones(1)}}
    whole = torch.zeros(1, 1, frames, 1, 1)
    windows = [list(w.index_list) for w in handler.get_context_windows(None, whole, options)]
    counts = torch.zeros(frames)
    for window in windows:
        counts[window] += 1
    return windows, 1 / counts


def own_attention(queries):
    return lambda call: (call.q.shape[2], call.k.shape[2]) == (queries, queries)


def put(part, frames, places, weight):
    """A map ``[items, heads, n * 6]`` of n frames at their places among so many, times their weights."""
    whole = torch.zeros(*part.shape[:2], frames, 6).double()
    values = part.unflatten(-1, (-1, 6))
    for n, (place, factor) in enumerate(zip(places, weight, strict=True)):
        whole[:, :, place] = values[:, :, n] * factor
    return whole.flatten(-2)


@pytest.mark.parametrize(("images", "fixed"), [(1, True), (1, False), (2, False)])
def test_vace_in_context_windows(images, fixed):
    """Frames land at their place among those that are not trimmed off; a window without the reference reads none."""
    graph = tiny_wan.in_windows(tiny_wan.long_vace(images=images), 4, 1, fixed)
    attribution = capture(graph)
    assert_layers(attribution, ["block 0", "vace 0", "block 1"], TokenGrid(2, 3, 5))
    assert [r.name for r in attribution.references] == [f"reference frame {n + 1}" for n in range(images)]
    assert attribution.missed == () and attribution.all_observed
    assert any("context window that holds no frame of the reference" in reason for reason in attribution.skipped)
    windows, weight = windows_of(graph, 5 + images)
    frames = windows[0][images:]
    steps = measure(graph, range(6 * images, 24), own_attention(24))
    evaluations = len(steps) // 2
    for step in range(2):
        for number in range(3):
            for image in range(images):
                part = expected_maps(steps[step * evaluations][number], range(6 * image, 6 * image + 6))["r2g_share"]
                expected = put(part, 5, [frame - images for frame in frames], weight[frames])
                got = attribution.layer_maps(image, number).maps["r2g_share"][:, step]
                torch.testing.assert_close(got.double(), expected, atol=2e-5, rtol=1e-3)


def test_vace_in_context_windows_that_keep_the_reference():
    """The host puts the reference's control in the place of each window's first frame, which is then no video."""
    graph = tiny_wan.in_windows(tiny_wan.long_vace(), 4, 2, cond_retain_index_list="0")
    attribution = capture(graph)
    assert_layers(attribution, ["block 0", "vace 0", "block 1"], TokenGrid(2, 3, 5))
    assert not any("context window" in reason for reason in attribution.skipped)
    windows, weight = windows_of(graph, 6)
    assert windows == [[0, 1, 2, 3], [2, 3, 4, 5]]
    steps = measure(graph, range(6, 24), own_attention(24))
    parts = [expected_maps(calls[0], range(6))["r2g_share"] for calls in steps[:2]]
    expected = [put(x, 5, [f - 1 for f in w[1:]], weight[w[1:]]) for x, w in zip(parts, windows, strict=True)]
    got = attribution.layer_maps(0, 0).maps["r2g_share"][:, 0].double()
    torch.testing.assert_close(got, sum(expected), atol=2e-5, rtol=1e-3)


def test_vace_in_context_windows_that_hold_a_part_of_the_reference():
    graph = tiny_wan.in_windows(tiny_wan.long_vace(images=2), 4, 2, cond_retain_index_list="0")
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512).args
    attribution = handle.find(graph.sample(model)["samples"])
    assert attribution.entries
    assert any("holds some of the frames of the reference" in reason for reason in attribution.missed)


def test_vace_in_context_windows_is_steered_and_measured():
    """As by hand, in the window that holds the reference alone."""
    graph, calls = tiny_wan.in_windows(tiny_wan.long_vace(), 4, 1), [0]

    def without_first_frame(attention, q, k, v, heads, *args, **kwargs):
        if q.shape[1] == k.shape[1] == 24:
            calls[0] += 1
            if (calls[0] - 1) % 6 < 3:  # of the two windows, the first; three layers each
                k, v = k[:, 6:], v[:, 6:]
        return attention(q, k, v, heads, *args, **kwargs)

    by_hand = graph.model.clone()
    by_hand.model_options["transformer_options"]["optimized_attention_override"] = without_first_frame
    plain, expected = graph.sample()["samples"], graph.sample(by_hand)["samples"]
    muted = graph.sample(steered(graph.model, 0.0))["samples"]
    assert calls[0] == 12 and (muted - plain).abs().max() > 1e-3
    torch.testing.assert_close(muted, expected, rtol=2e-4, atol=2e-4)
    effects = measured(graph, plain=plain, probe_steps=1).effects
    assert effects.owners == [0] and not effects.unmeasured
    assert effects.maps[Removal(0, 0)].max() > 1e-3


def test_animate_in_context_windows():
    """The window with the first frame reads it; the other reads none."""
    tiny_wan.need_windows_of_conditionings()
    graph = tiny_wan.in_windows(tiny_wan.animate(length=17, clip=False), 4, 1)
    attribution = capture(graph)
    assert_layers(attribution, BLOCKS, TokenGrid(2, 3, 6))
    assert "a context window that holds no frame of the reference" in attribution.skipped
    assert not attribution.missed
    windows, weight = windows_of(graph, 6)
    steps = measure(graph, range(24), own_attention(24))
    gain = (torch.arange(24) >= 6).float()[None]
    part = expected_maps(steps[0][0], range(6), gain)["r2g_share"]
    got = attribution.layer_maps(0, 0).maps["r2g_share"][:, 0].double()
    torch.testing.assert_close(got, put(part, 6, windows[0], weight[windows[0]]), atol=2e-5, rtol=1e-3)


# Wan Animate 2


@pytest.mark.parametrize("poses", [False, True])
def test_of_animate_2_the_images_tokens_are_captured_and_its_frame_is_refused(poses):
    """Its self-attention is made for each frame apart, and no call says for which."""
    graph = tiny_wan.animate2(poses=poses)
    attribution = capture(graph)
    assert_layers(attribution, ["double 0", "double 1"], TokenGrid(2, 3, 3))
    assert [(r.name, r.grid) for r in attribution.references] == [("reference image", CLIP)]
    steps = measure(graph, range(18), lambda call: (call.q.shape[2], call.k.shape[2]) == (18, 257))
    assert_maps_equal(attribution, steps, 0, range(1, 257))
    (reason,) = attribution.missed
    assert "Wan Animate 2 attends to its reference frame and its poses for each frame" in reason
    expected = {("clip_vision_output", "captured"), ("concat_latent_image", "unknown")}
    expected |= {("clip_vision_output_pose", "elsewhere")} | ({("pose_video_latent", "elsewhere")} if poses else set())
    assert fates(attribution) == expected


def test_animate_2_cannot_be_steered_and_is_measured_without_its_image():
    graph, without = tiny_wan.animate2(), tiny_wan.animate2(reference=9).positive
    with pytest.raises(ValueError, match="Wan Animate 2 attends to its reference frame"):
        graph.sample(steered(graph.model, 0.5))
    effects = measured(graph, probe_steps=1, without=without).effects
    assert effects.owners == ["conditioning"] and effects.maps[Removal(0, "conditioning")].max() > 1e-3
    assert any("Wan Animate 2 attends" in reason for reason in effects.unmeasured.values())
