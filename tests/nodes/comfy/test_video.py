"""Video models: every reference at its columns, maps with frames, layers by the names of their blocks."""

import pytest
import tiny_graphs
import tiny_models
import torch
from comfy import context_windows
from mechanisms import assert_maps_equal, capture, expected_maps, measure
from selected import maps
from this_core import VERSION

from i2am_pack.i2am_core import TokenGrid
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.comfy.located import Skip
from i2am_pack.nodes.comfy.mechanisms import MECHANISMS, Mechanism
from i2am_pack.nodes.comfy.token_orders import sequence_of

CLIP = TokenGrid(16, 16)
FLUX_LIKE = ["double 0", "double 1", "single 0", "single 1"]


def keys(count):
    return lambda call: call.k.shape[2] == count


def grid_of(graph, patch=2):
    frames, height, width = graph.latent["samples"].shape[-3:]
    return TokenGrid(-(-height // patch), -(-width // patch), frames)


def refused(graph, reason):
    """Nothing is captured, and Collect says why."""
    with pytest.raises(ValueError, match=reason):
        capture(graph)


def assert_layers(attribution, names, grid):
    assert [layer.name for layer in attribution.layers] == names
    assert {layer.grid for layer in attribution.layers} == {grid}


@pytest.mark.parametrize(
    "shape",
    [
        {"size": (5, 7)},
        {"cfg": 1.0},
        {"batch": 2},
        {"lengths": (9, 14)},  # two calls
        {"lengths": (257, 257)},  # text as long as the image
        {"lengths": (12, 12)},  # or as the video
    ],
)
def test_wan_i2v(shape):
    graph = tiny_graphs.wan_i2v(**shape)
    attribution = capture(graph)
    grid = grid_of(graph)
    assert attribution.mechanism == "image cross-attention"
    assert_layers(attribution, ["block 0", "block 1"], grid)
    assert [(r.name, r.grid) for r in attribution.references] == [("start image", CLIP)]
    steps = measure(graph, range(grid.cells), keys(257))
    if graph.text_tokens == 257:
        steps = [calls[::2] for calls in steps]  # the image comes before the text
    assert_maps_equal(attribution, steps, 0, range(1, 257))
    assert maps(attribution, "r2g", "frame").values.shape == (2, grid.height, grid.width)
    assert any("class token" in note for note in attribution.notes)


def test_wan_first_and_last_frame():
    graph = tiny_graphs.wan_flf2v()
    attribution = capture(graph)
    grid = grid_of(graph)
    assert_layers(attribution, ["block 0", "block 1"], grid)
    assert [r.name for r in attribution.references] == ["start image", "end image"]
    steps = measure(graph, range(grid.cells), keys(514))
    assert_maps_equal(attribution, steps, 0, range(1, 257))
    assert_maps_equal(attribution, steps, 1, range(258, 514))


@pytest.mark.parametrize("shape", [{"size": (5, 7)}, {"batch": 2, "cfg": 1.0}, {"lengths": (9, 14)}, {"images": 1}])
def test_wan_phantom(shape):
    graph = tiny_graphs.wan_phantom(**shape)
    attribution = capture(graph)
    grid = grid_of(graph)
    cells, images = grid.cells // 2, shape.get("images", 2)
    assert attribution.mechanism == "reference frames"
    assert_layers(attribution, ["block 0", "block 1"], grid)
    assert [r.name for r in attribution.references] == [f"reference frame {n + 1}" for n in range(images)]
    assert {r.grid for r in attribution.references} == {TokenGrid(grid.height, grid.width)}
    steps = measure(graph, range(grid.cells), keys((2 + images) * cells))
    for n in range(images):
        first = grid.cells + n * cells
        assert_maps_equal(attribution, steps, n, range(first, first + cells))


@pytest.mark.parametrize("sound", [False, True])
def test_humo_reference(sound):
    """HuMo has its reference after the video (``HumoWanModel``, comfy/ldm/wan/model.py)."""
    if sound and VERSION < (0, 3, 61):
        pytest.skip("ComfyUI 0.3.60 itself fails on HuMo with sound where attention returns a transposed view")
    graph = tiny_graphs.wan_text()
    graph.model = tiny_models.wan_t2v(model_type="humo")
    graph = tiny_graphs.with_references(graph, 2, ((1, 4, 6),))
    if sound:
        for conditioning in (graph.positive, graph.negative):
            conditioning[0][1]["audio_embed"] = tiny_graphs.noise(3, 1, 2, 8, 5, 1280)
    attribution = capture(graph)
    assert attribution.mechanism == "reference frames"
    assert_layers(attribution, ["block 0", "block 1"], TokenGrid(2, 3, 2))
    assert_maps_equal(attribution, measure(graph, range(12), keys(18)), 0, range(12, 18))


@pytest.mark.parametrize("shape", [{}, {"batch": 2, "cfg": 1.0}])
def test_wan_fun_reference(shape):
    graph = tiny_graphs.wan_fun_reference(**shape)
    attribution = capture(graph)
    assert_layers(attribution, ["block 0", "block 1"], TokenGrid(2, 3, 2))
    steps = measure(graph, range(6, 18), keys(18))
    assert_maps_equal(attribution, steps, 0, range(6))


@pytest.mark.parametrize("shape", [{}, {"batch": 2, "cfg": 1.0}, {"lengths": (18, 18)}])
def test_wan_vace(shape):
    """The reference is a frame of the latent, which is trimmed off: maps are of the frames that remain."""
    graph = tiny_graphs.wan_vace(**shape)
    attribution = capture(graph)
    assert attribution.grid == TokenGrid(4, 6, 3)
    assert_layers(attribution, ["block 0", "vace 0", "block 1"], TokenGrid(2, 3, 2))
    assert [r.name for r in attribution.references] == ["reference frame 1"]
    steps = measure(graph, range(6, 18), keys(18))
    if graph.text_tokens == 18:
        steps = [calls[::2] for calls in steps]
    assert_maps_equal(attribution, steps, 0, range(6))


@pytest.mark.parametrize("change", ["vace_mask", "vace_frames"])
def test_wan_vace_without_a_reference(change):
    """The first frame of the latent is one of the video: kept, or changed to nothing; either alone is no reference."""
    graph = tiny_graphs.wan_vace()
    for conditioning in (graph.positive, graph.negative):
        (frames,), (mask,) = conditioning[0][1]["vace_frames"], conditioning[0][1]["vace_mask"]
        reference = {"vace_frames": frames, "vace_mask": mask}[change][:, :, :1]
        frames, mask = frames[:, :, 1:].clone(), mask[:, :, 1:].clone()
        {"vace_frames": frames, "vace_mask": mask}[change][:, :, :1] = reference
        conditioning[0][1].update(vace_frames=[frames], vace_mask=[mask])
    graph.latent = {"samples": graph.latent["samples"][:, :, 1:]}
    refused(graph, "6 x self-attention of a VaceWanModel without a reference frame")


@pytest.mark.parametrize("make", [tiny_graphs.hunyuan_video_custom, tiny_graphs.hunyuan_video_padded])
@pytest.mark.parametrize("shape", [{}, {"cfg": 3.0, "lengths": (9, 14)}])  # the host can do one row in a call
def test_hunyuan_video_custom(make, shape):
    graph = make(**shape)
    attribution = capture(graph)
    assert attribution.mechanism == "reference frames"
    assert_layers(attribution, FLUX_LIKE, TokenGrid(2, 3, 2))
    assert "a refiner of the text, before it meets the video" in attribution.skipped
    first = tiny_graphs.hunyuan_start(graph, 9)
    steps = measure(graph, range(first + 6, first + 18), keys(27))
    assert_maps_equal(attribution, steps, 0, range(first, first + 6))


def test_hunyuan_video_replace():
    """The first frame of the latent is the reference: it does not ask."""
    graph = tiny_graphs.hunyuan_video_replace()
    attribution = capture(graph)
    assert_layers(attribution, FLUX_LIKE, TokenGrid(2, 3, 2))
    assert [r.name for r in attribution.references] == ["start image"]
    gain = (torch.arange(12) >= 6).float()[None]
    first = tiny_graphs.hunyuan_start(graph, 9)
    steps = measure(graph, range(first, first + 12), keys(21))
    assert_maps_equal(attribution, steps, 0, range(first, first + 6), gain)
    assert maps(attribution, "r2g", "frame").values[0].max() == 0
    assert any("counts as 0" in note for note in attribution.notes)
    assert any("mask of a video" in note for note in attribution.notes)


@pytest.mark.parametrize("shape", [{}, {"batch": 2}])
def test_hunyuan_video_15(shape):
    graph = tiny_graphs.hunyuan_video_15(**shape)
    attribution = capture(graph)
    grid = grid_of(graph, 1)
    assert attribution.mechanism == "vision tokens"
    assert_layers(attribution, FLUX_LIKE, grid)
    assert [(r.name, r.grid) for r in attribution.references] == [("start image", TokenGrid(27, 27))]
    first = tiny_graphs.hunyuan_start(graph, 743)
    vision = 0 if first else 48
    steps = measure(graph, range(first, first + 48), keys(791))
    assert_maps_equal(attribution, steps, 0, range(vision, vision + 729))


@pytest.mark.parametrize("name", ["wan_text", "hunyuan_video_text", "hunyuan_video_i2v"])
def test_videos_without_a_reference_have_no_maps(name):
    refused(tiny_graphs.GRAPHS[name](), "attention in which I2AM knows no reference")


# A reference cell that is made to dominate is found, at its place in its reference


def wan_keys(graph, number):
    model = graph.model.model.diffusion_model
    kind = {True: "cross_attn.norm_k_img", False: "self_attn.norm_k"}[number in (257, 514)]
    return {block.get_submodule(kind): 0 for block in [*model.blocks, *getattr(model, "vace_blocks", ())]}


def hunyuan_keys(graph, number):
    """Norms of the keys, and the column of their first: in double blocks, video and text have their own."""
    model = graph.model.model.diffusion_model
    with_image = number == 791
    double = {
        block.get_submodule("txt_attn.norm" if with_image else "img_attn.norm"): 0 for block in model.double_blocks
    }
    texts = 743 if with_image else 9
    first = (
        (0 if tiny_graphs.hunyuan_start(graph, texts) else 48)
        if with_image
        else tiny_graphs.hunyuan_start(graph, texts)
    )
    return double | {block.norm: -first for block in model.single_blocks}


@pytest.mark.parametrize(
    ("name", "keys", "number", "column", "reference", "cell"),
    [
        ("wan_i2v", wan_keys, 257, 1 + 37, 0, 37),
        ("wan_flf2v", wan_keys, 514, 258 + 200, 1, 200),
        ("wan_phantom", wan_keys, 24, 12 + 6 + 4, 1, 4),
        ("wan_fun_reference", wan_keys, 18, 5, 0, 5),
        ("wan_vace", wan_keys, 18, 3, 0, 3),
        ("hunyuan_video_custom", hunyuan_keys, 27, 2, 0, 2),
        ("hunyuan_video_replace", hunyuan_keys, 21, 1, 0, 1),
        ("hunyuan_video_15", hunyuan_keys, 791, 500, 0, 500),
    ],
)
def test_a_planted_cell_has_the_most(name, keys, number, column, reference, cell):
    """Its key is made so long that most positions look there or nowhere near."""
    graph = tiny_graphs.GRAPHS[name]()

    def plant(first):
        def hook(module, inputs, output):
            key = output if isinstance(output, torch.Tensor) else output[1]
            key[..., column - first, :] *= 40

        return hook

    for module, first in keys(graph, number).items():
        module.register_forward_hook(plant(first))
    attribution = capture(graph)
    peaks = [
        maps(attribution, "g2r", "unified", "share", reference=n).values[0].flatten()
        for n in range(len(attribution.references))
    ]
    assert peaks[reference].argmax() == cell
    others = [*peaks[:reference], peaks[reference][:cell], peaks[reference][cell + 1 :], *peaks[reference + 1 :]]
    assert torch.cat(others).max() < peaks[reference][cell] / 4


# Context windows


def in_windows(graph, length, overlap, fuse, frames=5, dim=2):
    """The graph for a video of 5 frames of the latent, of which the host denoises ``length`` at a time."""
    graph.latent = {"samples": torch.zeros(1, 16, frames, *graph.latent["samples"].shape[-2:])}
    handler = context_windows.IndexListContextHandler(
        context_windows.get_matching_context_schedule("standard_static"),
        context_windows.get_matching_fuse_method(fuse),
        context_length=length,
        context_overlap=overlap,
        dim=dim,
    )
    handler.causal_window_fix = False  # of newer ComfyUI cores: a further frame before each window
    graph.model = graph.model.clone()
    graph.model.model_options["context_handler"] = handler
    return graph


def weights_of(model, frames):
    """How much each window counts in each frame, ``[windows, frames]``: the host's mean of a one among zeros."""
    handler = model.model_options["context_handler"]
    options = {"transformer_options": {"sample_sigmas": torch.ones(1)}}
    x, sigma = torch.zeros(1, 1, frames, 1, 1), torch.ones(1)
    handler.set_step(sigma, options)
    count = len(handler.get_context_windows(None, x, options))
    weights = []
    for chosen in range(count):
        outputs = iter([torch.full_like(x, n == chosen) for n in range(count)])

        def calculate(model, conds, part, sigma, options, outputs=outputs):
            return [next(outputs)[:, :, : part.shape[2]]]

        weights.append(handler.execute(calculate, model.model, [[{}]], x, sigma, options)[0].flatten())
    return torch.stack(weights)


@pytest.mark.parametrize(("overlap", "fuse"), [(2, "pyramid"), (1, "flat"), (2, "relative"), (2, "overlap-linear")])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_frames_of_context_windows_land_at_their_place(overlap, fuse, cfg):
    graph = in_windows(tiny_graphs.wan_phantom(images=1, cfg=cfg), 3, overlap, fuse)
    attribution = capture(graph)
    assert_layers(attribution, ["block 0", "block 1"], TokenGrid(2, 3, 5))
    assert any("context windows" in note for note in attribution.notes)
    weights = weights_of(graph.model, 5)
    windows = [range(n, n + 3) for n in range(0, 3, 3 - overlap)]
    torch.testing.assert_close(weights.sum(0), torch.ones(5))
    calls = measure(graph, range(18), keys(24))
    assert len(calls) == 2 * len(windows)
    for step in range(2):
        for layer in range(2):
            parts = [expected_maps(c[layer], range(18, 24)) for c in calls[step * len(windows) :][: len(windows)]]
            expected = {
                "r2g_share": sum(placed(p["r2g_share"], f, w) for p, f, w in zip(parts, windows, weights, strict=True)),
                "g2r_paper": sum(p["g2r_paper"] for p in parts) / len(parts),
                "r2g_paper": sum(placed(p["r2g_paper"], f, w) for p, f, w in zip(parts, windows, weights, strict=True))
                / len(parts),
            }
            got = attribution.layer_maps(0, layer).maps
            for name, values in expected.items():
                torch.testing.assert_close(got[name][:, step].double(), values, atol=2e-5, rtol=1e-3)
            total = got["g2r_share"][:, step].sum(-1)
            torch.testing.assert_close(total, got["r2g_share"][:, step].mean(-1))


def placed(values, frames, weight):
    """Values ``[items, heads, 3 * 6]`` of three frames among five, times the weight of each."""
    whole = torch.zeros(*values.shape[:-1], 5, 6, dtype=values.dtype)
    whole[..., list(frames), :] = values.unflatten(-1, (3, 6)) * weight[list(frames), None]
    return whole.flatten(-2)


def test_context_windows_that_cannot_be_placed_are_refused():
    graph = in_windows(tiny_graphs.hunyuan_video_replace(), 3, 1, "flat")
    refused(graph, "references inside the latent of a video that is denoised in context windows")
    batch = in_windows(tiny_graphs.wan_phantom(batch=3, cfg=1.0, images=1), 2, 1, "flat", frames=2, dim=0)
    batch.latent = {"samples": torch.zeros(3, 16, 2, 4, 6)}
    refused(batch, "given 2 picture.* where the run has 3 .*since context windows over the pictures of a batch are not")


# What cannot be proved is refused


def test_blocks_that_another_pack_runs_are_captured_under_their_own_names():
    """They used to be refused; packs that replace them in earnest are in test_blocks.py."""
    graph = tiny_graphs.wan_phantom()
    plain = capture(graph)
    graph.model = graph.model.clone()
    graph.model.set_model_patch_replace(lambda args, extra: extra["original_block"](args), "dit", "double_block", 0)
    attribution = capture(graph)
    assert attribution.layers == plain.layers and attribution.skipped == plain.skipped
    for place, entry in plain.entries.items():
        for name, values in entry.maps.items():
            assert torch.equal(attribution.entries[place].maps[name], values)


def test_image_tokens_of_another_number_are_refused():
    graph = tiny_graphs.wan_i2v()
    for conditioning in (graph.positive, graph.negative):
        conditioning[0][1]["clip_vision_output"] = tiny_graphs.vision(3, 100, 1280)
    refused(graph, "attention to 100 image tokens, where CLIP vision gives 257")


# The order of tokens, for sources that mark a part of the picture


@pytest.mark.parametrize(
    ("name", "first", "text"),
    [
        ("wan_text", 0, None),
        ("wan_fun_reference", 6, None),
        ("hunyuan_video_text", 0, slice(12, 21)),
        ("hunyuan_video_custom", 6, slice(18, 27)),
        ("hunyuan_video_15", 0, slice(782, 791)),  # measured in test_token_orders.py
    ],
)
def test_where_the_video_and_its_text_are(name, first, text, monkeypatch):
    seen = []

    class Watching(Mechanism):
        name = "order"
        priority = 0

        def locate(self, site, chunk, call):
            seen.append(sequence_of(site, call))

    monkeypatch.setitem(MECHANISMS, "order", Watching())
    graph = tiny_graphs.GRAPHS[name]()
    graph.sample(I2AMCapture.execute(graph.model, "order", "positive", "off", 512).args[0], steps=1)
    orders = [order for order in seen if not isinstance(order, Skip)]
    grid = grid_of(graph, 1 if name == "hunyuan_video_15" else 2)
    assert len(orders) == (2 if name.startswith("wan") else 4)
    begin = first if text is None else first + tiny_graphs.hunyuan_start(graph, text.start + 9 - first - grid.cells)
    for order in orders:
        assert order.grid == grid and order.queries == order.picture == slice(begin, begin + grid.cells)
        if text is not None and begin == first:
            assert order.text == text
