"""What a viewer reads is what the levels say, for every selection that it can make."""

import json

import pytest
import torch
from recorded import BIG_BUDGET, COARSE, FINE, HEADS, REFERENCE, STEPS, record
from selected import maps, specific

from i2am_core import Layer, Place, Positions, Recorder, Reference, TokenGrid, attribute, span
from i2am_core.reading.metrics import concentration, share_inside
from i2am_core.showing.view import MEASURES, choose_detail, sheets, view

LAYERS = [Layer("a", FINE, HEADS), Layer("b", COARSE, HEADS), Layer("c", FINE, 2)]
DIRECTIONS = ("r2g", "g2r")


@pytest.fixture(scope="module")
def attribution():
    return record(LAYERS)[0]


@pytest.fixture(scope="module")
def seen(attribution):
    return view(attribution, BIG_BUDGET)


def row(v, place, name, number):
    """A map as a viewer restores it."""
    low, high = v.tensors[f"range/{place}/{name}"][number]
    return low + v.tensors[f"maps/{place}/{name}"][number].float() / 255 * (high - low)


def same(restored, exact):
    """To half a level of the quantization."""
    torch.testing.assert_close(restored, exact, rtol=0, atol=(exact.max() - exact.min()).item() / 510 + 1e-7)


def fields():
    return [(d, n) for d in DIRECTIONS for n in ("paper", "share")]


@pytest.mark.parametrize(("direction", "normalization"), fields())
@pytest.mark.parametrize("layers", ["all", "0", "1", "2"])
def test_every_row_is_the_map_of_its_selection(attribution, seen, direction, normalization, layers):
    name = f"{direction}_{normalization}"
    place = f"1/0/{layers}"

    def exact(**selection):
        return maps(attribution, direction, normalization=normalization, item=1, **{"layers": layers} | selection)

    same(row(seen, place, name, 0), exact().values[0])
    for step in range(STEPS):
        same(row(seen, place, name, 1 + step), exact(steps=str(step)).values[0])
    by_head = exact(level="head").values
    for head, values in enumerate(by_head):
        same(row(seen, place, name, 1 + STEPS + head), values)
    for step in range(STEPS):
        for head, values in enumerate(exact(level="head", steps=str(step)).values):
            same(row(seen, place, name, 1 + STEPS + (1 + step) * len(by_head) + head), values)
    assert len(seen.tensors[f"maps/{place}/{name}"]) == 1 + STEPS + (1 + STEPS) * len(by_head)


def test_the_header_is_json_that_says_what_rows_there_are(attribution, seen):
    header = json.loads(json.dumps(seen.header))
    assert header["steps"] == header["joint"] == [[s, s + 1] for s in range(STEPS)]
    assert header["references"][0]["heads"] == [[HEADS, 2], [2, 1]]
    assert header["references"][0]["grid"] == [REFERENCE.grid.height, REFERENCE.grid.width]
    assert [x["name"] for x in header["layers"]] == ["a", "b", "c"]
    assert header["items"] == [{"scope": "inpainting mask"}] * 2
    assert len({name for name in seen.tensors if name.startswith("maps/")}) == sheets(attribution)


def test_ticks_count_the_sheets(attribution):
    ticks = []
    view(attribution, BIG_BUDGET, tick=lambda: ticks.append(1))
    assert len(ticks) == sheets(attribution)


def test_measures_are_those_of_the_rows(attribution):
    mask = torch.zeros(12, 8)
    mask[:6, 2:] = 1
    measures = view(attribution, BIG_BUDGET, [mask, mask]).tensors["measures/0/0/0"]
    share = maps(attribution, "r2g", "unified", "share", layers="0").values
    paper = maps(attribution, "r2g", layers="0", steps="3").values
    assert measures[MEASURES.index("share"), 0] == pytest.approx(share.mean().item(), rel=1e-5)
    assert measures[MEASURES.index("concentration"), 4] == pytest.approx(concentration(paper)[0].item(), abs=1e-6)
    small = mask[::2, ::2]
    assert measures[MEASURES.index("inside"), 4] == pytest.approx(share_inside(paper[0], small), rel=1e-5)


def test_the_share_is_that_of_the_scope():
    """What went to the reference from the positions that were painted: the mass of the map on the reference."""
    attribution = record(LAYERS[:1], steps=2)[0]
    measures = view(attribution, BIG_BUDGET).tensors["measures/0/0/0"]
    whole = maps(attribution, "g2r", "unified", "share", scope="inpainting mask").values.sum()
    attribution.denoise_mask[:] = 1  # the mask of the call was every other position, here it is all
    assert measures[0, 0] == pytest.approx(maps(attribution, "r2g", "unified", "share").values.mean().item(), rel=1e-5)
    assert whole > 0


def test_a_flat_map_has_no_concentration_and_a_single_cell_has_all():
    flat, point = torch.full((3, 4), 0.3), torch.zeros(3, 4)
    point[1, 2] = 5
    torch.testing.assert_close(concentration(torch.stack([flat, point])), torch.tensor([0.0, 1.0]))


def test_steps_in_which_a_layer_was_not_seen_are_no_numbers():
    recorder = Recorder(torch.linspace(10, 0, 4), 1, BIG_BUDGET)
    number = recorder.reference(REFERENCE)
    for step in range(3):
        for layer in LAYERS[: 2 if step == 1 else 1]:
            q, k = torch.randn(1, layer.heads, layer.grid.cells, 8), torch.randn(1, layer.heads, 12, 8)
            (m,) = attribute(q, k, [span("reference", 0, REFERENCE.grid)])
            recorder.add(Place(layer, step, number), m)
    attribution = recorder.freeze(grid=FINE)
    seen = view(attribution, BIG_BUDGET)
    assert seen.tensors["range/0/0/1/r2g_paper"][1:4].isnan()[:, 0].tolist() == [True, False, True]
    assert not seen.tensors["range/0/0/all/r2g_paper"].isnan().any()
    same(row(seen, "0/0/all", "r2g_paper", 1), maps(attribution, "r2g", steps="0").values[0])
    same(row(seen, "0/0/all", "r2g_paper", 0), maps(attribution, "r2g").values[0])
    assert seen.tensors["measures/0/0/1"][0, 1:4].isnan().tolist() == [True, False, True]


def test_detail_gives_way_to_the_budget(attribution):
    """From every head in every step, over heads in groups of steps and heads apart from steps, to one map a layer."""
    budgets = [2**20 // 2**n for n in range(12)]
    details = [choose_detail(attribution, budget) for budget in budgets]
    order = [(len(d.joint), d.heads, len(d.steps)) for d in details]
    assert order == sorted(order, reverse=True)
    assert order[0] == (STEPS, True, STEPS) and order[-1] == (0, False, 1)
    assert any(0 < joint < STEPS for joint, _, _ in order)
    assert (0, True, STEPS) in order and any(not heads and steps > 1 for _, heads, steps in order)


@pytest.mark.parametrize("kilobytes", [16, 40, 90, 150, 400])
def test_a_view_takes_no_more_than_its_budget(attribution, kilobytes):
    v = view(attribution, kilobytes * 1024)
    assert sum(x.nbytes for x in v.tensors.values()) <= kilobytes * 1024


def test_grouped_steps_are_means_of_their_steps(attribution):
    whole = 2**20
    while len((v := view(attribution, whole)).header["joint"]) in (0, STEPS):
        whole = whole * 15 // 16
    joint = v.header["joint"]
    assert [low for low, _ in joint[1:]] == [high for _, high in joint[:-1]] and joint[-1][1] == STEPS
    for number, (low, high) in enumerate(joint):
        exact = maps(attribution, "r2g", "head", layers="0", steps=f"{low}-{high - 1}").values
        same(row(v, "0/0/0", "r2g_paper", 1 + STEPS + (1 + number) * HEADS), exact[0])


def test_a_reference_without_a_place_has_maps_on_the_picture_only():
    recorder = Recorder(torch.linspace(10, 0, 3), 1, BIG_BUDGET)
    number = recorder.reference(Reference("face", 4, None))
    (m,) = attribute(torch.randn(1, 2, 24, 8), torch.randn(1, 2, 4, 8), [span("face", 0, count=4)])
    recorder.add(Place(Layer("a", FINE, 2), 0, number), m)
    v = view(recorder.freeze(grid=FINE), BIG_BUDGET)
    assert {name.split("/")[-1] for name in v.tensors if name.startswith("maps")} == {"r2g_paper", "r2g_share"}
    assert v.header["pairs"] == {"0/0": []}


def dequantized(v, place, kind):
    low, high = v.tensors[f"pair_range/{place}/{kind}"].unbind(1)
    levels = v.tensors[f"pairs/{place}/{kind}"].float()
    shape = (-1, *[1] * (levels.ndim - 1))
    return low.view(shape) + levels / 255 * (high - low).view(shape)


def test_pair_maps_answer_for_a_region(attribution, seen):
    region = torch.zeros(FINE.height, FINE.width)
    region[2, 1] = region[2, 2] = 1
    rows = seen.tensors["pair_rows/1/0/0"]
    chosen = region.flatten()[rows.long()] > 0
    made = dequantized(seen, "1/0/0", "g2r")[chosen].mean(0)
    exact = specific(attribution, region, "g2r", layers="0", item=1).values
    torch.testing.assert_close(made, exact, rtol=0, atol=0.003)
    part = torch.zeros(REFERENCE.grid.height, REFERENCE.grid.width)
    part[1, 2] = 1
    went = dequantized(seen, "1/0/0", "r2g")[part.flatten() > 0].mean(0)
    exact = specific(attribution, part, "r2g", layers="0", item=1).values
    torch.testing.assert_close(went.view(FINE.height, FINE.width), exact, rtol=0, atol=0.003)


def test_pair_maps_are_kept_for_the_layers_that_look_most():
    attribution = record(LAYERS, steps=2)[0]
    for n, strength in enumerate((0.1, 0.9, 0.5)):
        attribution.entries[0, n].maps["r2g_share"].fill_(strength)
    size_of_coarse = sum(x.nbytes for name, x in view(attribution, BIG_BUDGET).tensors.items() if "/0/0/1" in name
                         and name.startswith("pair"))  # fmt: skip
    v = view(attribution, 4 * size_of_coarse + 8)
    assert v.header["pairs"]["0/0"] == [1]
    assert v.header["references"][0]["pairs_captured"] == [0, 1, 2]


def test_a_video_is_the_mean_of_its_frames():
    grid = TokenGrid(2, 3, frames=2)
    recorder = Recorder(torch.linspace(10, 0, 2), 1, BIG_BUDGET)
    number = recorder.reference(REFERENCE)
    rows = torch.arange(grid.cells)
    (m,) = attribute(
        torch.randn(1, 2, 12, 8),
        torch.randn(1, 2, 12, 8),
        [span("reference", 0, REFERENCE.grid)],
        positions=Positions(pair_rows=rows),
    )
    assert recorder.pairs_fit(number, Layer("a", grid, 2), 12, 12)
    recorder.add(Place(Layer("a", grid, 2), 0, number), m, rows)
    attribution = recorder.freeze(grid=grid)
    v = view(attribution, BIG_BUDGET)
    same(row(v, "0/0/0", "r2g_paper", 0), maps(attribution, "r2g").values[0])
    assert v.header["layers"][0] == {"name": "a", "grid": (2, 3), "frames": 2, "heads": 2}
