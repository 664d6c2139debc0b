"""Levels of an attribution whose maps are known."""

import pytest
import torch
from recorded import BIG_BUDGET, COARSE, FINE, HEADS, ITEMS, REFERENCE, STEPS, record
from selected import maps, specific

from i2am_core import Layer, Place, Positions, Recorder, Reference, TokenGrid, attribute, span
from i2am_core.reading.aggregate import resize


@pytest.fixture
def equal_grids():
    return record([Layer("a", FINE, HEADS), Layer("b", FINE, HEADS)])


@pytest.mark.parametrize("direction", ["r2g", "g2r"])
@pytest.mark.parametrize("normalization", ["paper", "share"])
def test_unified_is_the_mean_of_every_other_level(equal_grids, direction, normalization):
    attribution, _ = equal_grids
    unified = maps(attribution, direction, "unified", normalization).values[0]
    for level in ("time", "head", "layer"):
        torch.testing.assert_close(maps(attribution, direction, level, normalization).values.mean(0), unified)


def test_unified_equals_the_mean_of_all_calls(equal_grids):
    attribution, given = equal_grids
    expected = torch.stack([m.r2g_paper[1].mean(0) for calls in given.values() for m in calls]).mean(0)
    got = maps(attribution, "r2g", item=1).values[0]
    torch.testing.assert_close(got, expected.reshape(6, 4))
    torch.testing.assert_close(got.sum(), torch.tensor(1.0))


def test_selections_pick_exactly_what_they_name(equal_grids):
    attribution, given = equal_grids
    layer = attribution.layers[1]
    expected = torch.stack([given[layer, step][0].g2r_share[0, 2] for step in (0, 1, 7)]).mean(0)
    got = maps(attribution, "g2r", "unified", "share", scope="whole image", steps="0-1,7", layers="b", heads="2")
    torch.testing.assert_close(got.values[0], expected.reshape(3, 4))


def test_scope_asks_only_the_mask(equal_grids):
    attribution, given = equal_grids
    inside = torch.stack([m.g2r_paper_scope[0].mean(0) for calls in given.values() for m in calls]).mean(0)
    auto, named = maps(attribution, "g2r"), maps(attribution, "g2r", scope="inpainting mask")
    assert auto.scope == "inpainting mask"
    torch.testing.assert_close(auto.values, named.values)
    torch.testing.assert_close(auto.values[0].flatten(), inside)
    assert not torch.allclose(maps(attribution, "g2r", scope="whole image").values, auto.values)


def test_scope_without_a_mask():
    attribution, _ = record([Layer("a", FINE, HEADS)], masked=False)
    assert maps(attribution, "g2r").scope == "whole image"
    with pytest.raises(ValueError, match="no inpainting mask"):
        maps(attribution, "g2r", scope="inpainting mask")


@pytest.mark.parametrize(
    ("groups", "labels"),
    [
        (
            5,
            [
                "steps 0-1, sigma 10",
                "steps 2-3, sigma 8",
                "steps 4-5, sigma 6",
                "steps 6-7, sigma 4",
                "steps 8-9, sigma 2",
            ],
        ),
        (1, ["steps 0-9, sigma 10"]),
        (3, ["steps 0-3, sigma 10", "steps 4-6, sigma 6", "steps 7-9, sigma 3"]),
    ],
)
def test_time_groups(equal_grids, groups, labels):
    assert maps(equal_grids[0], "r2g", "time", time_groups=groups).labels == labels


def test_time_group_zero_keeps_each_step(equal_grids):
    attribution, given = equal_grids
    got = maps(attribution, "r2g", "time", time_groups=0)
    assert len(got.labels) == STEPS and got.labels[3] == "step 3, sigma 7"
    expected = torch.stack([given[layer, 3][0].r2g_paper[0].mean(0) for layer in attribution.layers]).mean(0)
    torch.testing.assert_close(got.values[3].flatten(), expected)


def test_layers_of_other_grids_are_resized_then_averaged():
    attribution, _ = record([Layer("fine", FINE, HEADS), Layer("coarse", COARSE, HEADS)])
    entry = attribution.layer_maps(0, 1).maps["r2g_paper"][0]
    expected = resize(entry.unflatten(-1, (3, 2)), 6, 4).mean((0, 1))
    assert expected.min() >= 0
    layered = maps(attribution, "r2g", "layer")
    assert layered.labels == ["layer 0: fine", "layer 1: coarse"]
    torch.testing.assert_close(layered.values[1], expected)
    torch.testing.assert_close(maps(attribution, "r2g").values[0], layered.values.mean(0))


def test_heads_are_only_averaged_among_layers_that_share_a_count():
    attribution, given = record([Layer("a", FINE, 2), Layer("b", FINE, 3), Layer("c", FINE, 2)])
    got = maps(attribution, "r2g", "head")
    assert got.labels == [
        "head 0 of 2 (2 layers)", "head 1 of 2 (2 layers)",
        "head 0 of 3 (1 layer)", "head 1 of 3 (1 layer)", "head 2 of 3 (1 layer)",
    ]  # fmt: skip
    pair = [m.r2g_paper[0, 1] for (layer, _), calls in given.items() if layer.heads == 2 for m in calls]
    torch.testing.assert_close(got.values[1].flatten(), torch.stack(pair).mean(0))


def test_every_step_weighs_the_same_however_many_calls_it_has():
    recorder = Recorder(torch.linspace(1, 0, 3), 1, BIG_BUDGET)
    number, layer = recorder.reference(REFERENCE), Layer("a", FINE, 1)
    given = [
        attribute(torch.randn(1, 1, 24, 4), torch.randn(1, 1, 12, 4), [span("r", 0, count=12)])[0] for _ in range(3)
    ]
    for step, m in ((0, given[0]), (1, given[1]), (1, given[2])):
        recorder.add(Place(layer, step, number), m)
    got = maps(recorder.freeze(grid=FINE), "r2g").values[0].flatten()
    expected = (given[0].r2g_paper + (given[1].r2g_paper + given[2].r2g_paper) / 2) / 2
    torch.testing.assert_close(got, expected.flatten())


def test_a_small_budget_keeps_the_unified_map():
    layers = [Layer("a", FINE, HEADS)]
    torch.manual_seed(0)
    full, _ = record(layers)
    per_step = full.nbytes // STEPS
    torch.manual_seed(0)
    tiny, _ = record(layers, budget=per_step // 20)
    assert len(tiny.bins) == 1 and tiny.heads == "merged"
    assert tiny.layer_maps(0, 0).pairs == {} and "did not fit" in tiny.summary()
    torch.testing.assert_close(maps(tiny, "r2g").values, maps(full, "r2g").values, rtol=5e-3, atol=1e-6)
    with pytest.raises(ValueError, match="heads are not resolved"):
        maps(tiny, "r2g", "head")
    with pytest.raises(ValueError, match="are not resolved"):
        maps(tiny, "r2g", steps="0")


def test_pair_maps_average_to_g2r(equal_grids):
    attribution, _ = equal_grids
    entry = attribution.layer_maps(0, 0)
    whole = maps(attribution, "g2r", scope="whole image", layers="a").values[0]
    torch.testing.assert_close(entry.pairs["g2r_pairs"][0].mean(0), whole.flatten())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(reference=1), "reference 1 does not exist: this run has 1"),
        (dict(item=2), "item 2 does not exist: this run made 2"),
        (dict(steps="0-10"), "10 steps, numbered 0 to 9"),
        (dict(layers="middle*"), r"cannot read 'middle\*'"),
        (dict(heads="3"), "3 heads in layer 'a', numbered 0 to 2"),
        (dict(scope="mask"), "scope 'mask' does not exist"),
        (dict(level="no such"), "level 'no such' does not exist"),
        (dict(level="time", time_groups=-1), "time_groups must be 0"),
    ],
)
def test_bad_selections_are_one_clear_sentence(equal_grids, arguments, message):
    with pytest.raises(ValueError, match=message):
        maps(equal_grids[0], "r2g", **arguments)


def test_a_reference_without_a_layout_has_no_g2r():
    recorder = Recorder(torch.tensor([1.0, 0.0]), 1, BIG_BUDGET)
    number = recorder.reference(Reference("global", 4, None))
    (m,) = attribute(torch.randn(1, 1, 24, 4), torch.randn(1, 1, 9, 4), [span("global", 5, count=4)])
    recorder.add(Place(Layer("a", FINE, 1), 0, number), m)
    attribution = recorder.freeze(grid=FINE)
    assert maps(attribution, "r2g").values.shape == (1, 6, 4)
    with pytest.raises(ValueError, match="without a spatial layout"):
        maps(attribution, "g2r")


@pytest.mark.parametrize("normalization", ["paper", "share"])
def test_references_are_ranked_by_their_share_of_each_cell(normalization):
    """The top rows look at the second reference, the last row at the first, which has another grid."""
    layer, grids = Layer("a", FINE, 1), (TokenGrid(2, 2), TokenGrid(3, 4))
    recorder = Recorder(torch.linspace(1, 0, 2), 1, BIG_BUDGET)
    q, k = torch.zeros(1, 1, 24, 2), torch.zeros(1, 1, 18, 2)
    q[..., :20, 0] = q[..., 20:, 1] = 6
    k[..., 6:, 0] = k[..., 2:6, 1] = 1
    marginals = attribute(q, k, [span("first", 2, grids[0]), span("second", 6, grids[1])])
    for number, m in enumerate(marginals):
        assert recorder.reference(Reference(("first", "second")[number], grids[number].cells, grids[number])) == number
        recorder.add(Place(layer, 0, number), m)
    attribution = recorder.freeze(grid=FINE)
    result = maps(attribution, "r2g", "reference", normalization)
    assert result.values.shape == (2, 6, 4)
    assert (
        result.labels[0].startswith("reference 1: second") and "the strongest in 83% of the picture" in result.labels[0]
    )
    assert (
        result.labels[1].startswith("reference 0: first") and "the strongest in 17% of the picture" in result.labels[1]
    )
    for n, number in enumerate((1, 0)):
        plain = maps(attribution, "r2g", "unified", normalization, reference=number)
        torch.testing.assert_close(result.values[n], plain.values[0])
    with pytest.raises(ValueError, match="compares references on the picture"):
        maps(attribution, "g2r", "reference")


CLIP = Reference("clip", 24, TokenGrid(2, 3, frames=4))


def video(layers, steps=2):
    """Layers of frames look at a reference of four frames; returns also the marginals of each call."""
    recorder = Recorder(torch.linspace(1, 0, steps + 1), ITEMS, BIG_BUDGET)
    number, given = recorder.reference(CLIP), []
    for step in range(steps):
        for layer in layers:
            q, k = torch.randn(ITEMS, layer.heads, layer.grid.cells, 8), torch.randn(ITEMS, layer.heads, 30, 8)
            rows = torch.arange(layer.grid.cells)
            (m,) = attribute(q, k, [span("clip", 6, CLIP.grid)], positions=Positions(pair_rows=rows))
            recorder.add(Place(layer, step, number), m, rows)
            given.append(m)
    return recorder.freeze(grid=TokenGrid(12, 8, frames=3)), given


@pytest.mark.parametrize(("direction", "grid"), [("r2g", TokenGrid(6, 4, 3)), ("g2r", CLIP.grid)])
def test_a_map_of_a_video_is_the_mean_of_its_frames(direction, grid):
    attribution, given = video([Layer(name, TokenGrid(6, 4, 3), HEADS) for name in "ab"])
    field = f"{direction}_share"
    expected = torch.stack([getattr(m, field)[1] for m in given]).mean((0, 1))
    expected = expected.unflatten(0, (grid.frames, grid.height, grid.width))
    frames = maps(attribution, direction, "frame", "share", item=1)
    assert frames.labels == [f"frame {n}" for n in range(grid.frames)]
    torch.testing.assert_close(frames.values, expected)
    for level in ("unified", "time", "head", "layer"):
        result = maps(attribution, direction, level, "share", item=1)
        assert result.values.shape[1:] == expected.shape[1:] and len(result.labels) == len(result.values)
        torch.testing.assert_close(result.values.mean(0), expected.mean(0))


def test_frames_need_a_video(equal_grids):
    for direction, what in (("r2g", "the picture"), ("g2r", "the reference")):
        with pytest.raises(ValueError, match=f"for videos: {what} has a single frame"):
            maps(equal_grids[0], direction, "frame")
    mixed, _ = video([Layer("a", TokenGrid(6, 4, 3), 1), Layer("b", TokenGrid(6, 4, 2), 1)])
    with pytest.raises(ValueError, match="different numbers of frames"):
        maps(mixed, "r2g", "frame")
    assert maps(mixed, "r2g").values.shape == (1, 6, 4)
    assert len(maps(mixed, "r2g", "frame", layers="b").labels) == 2


def test_a_region_of_a_video_is_the_same_in_all_frames():
    attribution, _ = video([Layer("a", TokenGrid(6, 4, 3), HEADS)])
    for direction in ("g2r", "r2g"):
        got = specific(attribution, torch.ones(60, 40), direction, item=1).values
        torch.testing.assert_close(got, maps(attribution, direction, item=1).values[0])
    corner = torch.zeros(6, 4)
    corner[0, 0] = 1
    rows = attribution.layer_maps(0, 0).pairs["g2r_pairs"][0][[0, 24, 48]].mean(0)
    torch.testing.assert_close(specific(attribution, corner, "g2r").values.flatten(), rows.view(4, 6).mean(0))


def test_a_reference_on_several_grids_is_one_reference():
    """As self-attention of a U-Net sees a region: finer in some layers. Its maps are resized, then averaged."""
    fine, coarse = Layer("fine", FINE, 1), Layer("coarse", COARSE, 1)
    recorder = Recorder(torch.linspace(1, 0, 2), 1, BIG_BUDGET)
    expected = []
    for layer, grid in ((coarse, TokenGrid(2, 1)), (fine, TokenGrid(4, 2))):
        q, k = torch.randn(1, 1, layer.grid.cells, 4), torch.randn(1, 1, grid.cells, 4)
        (m,) = attribute(q, k, [span("it", 0, grid)], positions=Positions(pair_rows=torch.arange(layer.grid.cells)))
        number = recorder.reference(Reference("it", grid.cells, grid))
        assert recorder.pairs_fit(number, layer, layer.grid.cells, grid.cells)
        recorder.add(Place(layer, 0, number, reference_grid=grid), m, torch.arange(layer.grid.cells))
        expected.append(resize(m.g2r_paper[0, 0].unflatten(0, (grid.height, grid.width)), 4, 2))
    attribution = recorder.freeze(grid=FINE)
    assert attribution.references == (Reference("it", 8, TokenGrid(4, 2)),)
    torch.testing.assert_close(maps(attribution, "g2r").values[0], torch.stack(expected).mean(0))
    assert attribution.layer_maps(0, 0).reference_grid == TokenGrid(2, 1)
    region = torch.ones(6, 4)
    torch.testing.assert_close(specific(attribution, region, "g2r").values, maps(attribution, "g2r").values[0])


def test_a_call_that_says_nothing_in_scope_is_not_part_of_its_mean():
    """Two conditionings of one evaluation, one of them for a part of the picture that is not painted."""
    layer, recorder = Layer("a", FINE, 1), Recorder(torch.linspace(1, 0, 2), 1, BIG_BUDGET)
    q, k = torch.randn(1, 1, 24, 4), torch.randn(1, 1, 12, 4)
    number = recorder.reference(REFERENCE)
    inside, gain = torch.arange(24) < 8, torch.tensor([1.0, 0.5])
    for part, weight in ((inside, gain[0]), (~inside, gain[1])):
        (m,) = attribute(
            q, k, [span("it", 0, REFERENCE.grid)], positions=Positions(gain=part[None] * weight, scope=inside[None])
        )
        recorder.add(Place(layer, 0, number, evaluation=1), m)
    attribution = recorder.freeze(grid=FINE, denoise_mask=inside.view(1, 6, 4).float())
    for scope in ("inpainting mask", "whole image"):
        torch.testing.assert_close(maps(attribution, "g2r", scope=scope).values.sum(), torch.tensor(1.0))
    torch.testing.assert_close(maps(attribution, "r2g").values.sum(), torch.tensor(1.0))
    share = maps(attribution, "r2g", "unified", "share").values[0].flatten()
    torch.testing.assert_close(share, torch.where(inside, 1.0, 0.5))
