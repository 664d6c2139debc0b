"""What a viewer reads is what the levels say, for every selection that it can make."""

import json
from dataclasses import replace

import pytest
import torch
from recorded import BIG_BUDGET, COARSE, FINE, HEADS, REFERENCE, STEPS, record
from selected import maps, specific

from i2am_core import Layer, Place, Positions, Recorder, Reference, Selection, TokenGrid, attribute, span
from i2am_core.effect import Effects, RegionEffects, Removal
from i2am_core.reading.effect import effect_inside, effect_maps
from i2am_core.reading.metrics import concentration, share_inside
from i2am_core.regions import cover_of
from i2am_core.showing.view import MEASURES, choose_detail, sheets, view
from i2am_core.showing.view_effects import EFFECT_MEASURES

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


CLIP = [Layer("a", TokenGrid(6, 4, frames=3), 2), Layer("b", TokenGrid(3, 2, frames=3), 2)]


def clip(layers=CLIP):
    """Two videos, with a second reference that only one layer reads."""
    recorder = Recorder(torch.linspace(10, 0, 3), 2, BIG_BUDGET)
    numbers = [recorder.reference(REFERENCE), recorder.reference(Reference("face", 4, None))]
    for step in range(2):
        for n, layer in enumerate(layers):
            q, k = torch.randn(2, 2, layer.grid.cells, 8), torch.randn(2, 2, 20, 8)
            groups = [span("reference", 0, REFERENCE.grid), span("face", 12, count=4)]
            for number, marginals in list(zip(numbers, attribute(q, k, groups), strict=True))[: 2 - n]:
                recorder.add(Place(layer, step, number), marginals)
    return recorder.freeze(grid=TokenGrid(6, 4, frames=3))


@pytest.mark.parametrize("normalization", ["paper", "share"])
@pytest.mark.parametrize(("reference", "layers"), [(0, "all"), (0, "0"), (0, "1"), (1, "all"), (1, "0")])
def test_single_frames_of_a_video_are_those_of_the_level(normalization, reference, layers):
    attribution = clip()
    mask = torch.zeros(24, 16)
    mask[8:, 4:] = 1
    v = view(attribution, BIG_BUDGET, [mask, mask])
    assert v.header["video"] == {"frames": 3, "layers": [0, 1]}
    selected = {"normalization": normalization, "item": 1, "reference": reference, "layers": layers}
    exact = maps(attribution, "r2g", "frame", **selected).values
    place, field = f"1/{reference}/{layers}", f"r2g_{normalization}"
    assert v.tensors[f"frames/{place}/{field}"].shape == exact.shape
    for levels, (low, high), values in zip(
        v.tensors[f"frames/{place}/{field}"], v.tensors[f"frame_range/{place}/{field}"], exact, strict=True
    ):
        same(low + levels.float() / 255 * (high - low), values)
    measured = dict(zip(MEASURES, v.tensors[f"frame_measures/{place}"], strict=True))
    if normalization == "share":
        torch.testing.assert_close(measured["share"], exact.flatten(1).mean(1))
    else:
        cover = cover_of(mask, TokenGrid(*exact.shape[1:])).view(exact.shape[1:])
        torch.testing.assert_close(measured["inside"], torch.tensor([share_inside(row, cover) for row in exact]))
        torch.testing.assert_close(measured["concentration"], concentration(exact))


def test_single_frames_give_way_to_the_budget():
    attribution = clip()
    whole = view(attribution, BIG_BUDGET)
    taken = sum(x.nbytes for name, x in whole.tensors.items() if name.startswith("frame"))
    some = view(attribution, 4 * (taken - 1))
    assert some.header["video"] == {"frames": 3, "layers": []}
    assert {name for name in some.tensors if name.startswith("frames/0/")} == {
        f"frames/0/{reference}/all/r2g_{kind}" for reference in (0, 1) for kind in ("paper", "share")
    }
    assert view(attribution, 4 * (taken // 8)).header.get("video") is None


def test_pictures_and_videos_of_unlike_layers_have_no_single_frames(seen):
    assert "video" not in seen.header and not any(name.startswith("frame") for name in seen.tensors)
    unlike = clip([Layer("a", TokenGrid(6, 4, frames=3), 2), Layer("b", TokenGrid(3, 2, frames=2), 2)])
    assert "video" not in view(unlike, BIG_BUDGET).header


PROBED = (1, 4)  # steps


def caused(attribution, frames=1):
    """The run with effects of two items: of the reference by both routes, of the text, and of regions."""
    cells = FINE.cells * frames
    sizes = {
        (0, "everything"): 1.0,
        (0, "directly"): 0.5,
        ("text", "everything"): 2e-3,
        ("conditioning", "everything"): 0,
    }
    by_removal = {
        Removal(step, owner, route): size * torch.rand(2, cells)
        for (owner, route), size in sizes.items()
        for step in PROBED
    }
    by_removal[Removal(4, "text")] *= 100
    regions = {(0, "taken away"): RegionEffects(1, "everything", TokenGrid(2, 2), torch.rand(2, 4, cells))}
    grid = TokenGrid(FINE.height, FINE.width, frames)
    effects = Effects(by_removal, 1e-3 * torch.rand(2, cells), regions, unmeasured={"reference 1": "no layout"})
    return replace(attribution, grid=grid, effects=effects)


def test_a_run_without_effects_has_the_file_that_it_had(attribution, seen):
    assert attribution.effects is None and "effects" not in seen.header
    assert {name.partition("/")[0] for name in seen.tensors} == {
        *("maps", "range", "measures", "pairs", "pair_rows", "pair_range"),
    }
    with_effects = view(caused(attribution), BIG_BUDGET)
    for name, tensor in seen.tensors.items():
        torch.testing.assert_close(with_effects.tensors[name], tensor, rtol=0, atol=0, equal_nan=True)
    del with_effects.header["effects"]
    assert {**with_effects.header, "summary": ""} == {**seen.header, "summary": ""}


def effect_row(v, place, number, kind="effects", ranges="effect_range"):
    low, high = v.tensors[f"{ranges}/{place}"][number]
    return low + v.tensors[f"{kind}/{place}"][number].float() / 255 * (high - low)


@pytest.mark.parametrize("route", ["everything", "directly"])
def test_rows_of_effects_are_the_maps_of_their_selections(attribution, route):
    one = caused(attribution)
    v = view(one, BIG_BUDGET)
    selection = Selection(item=1)
    same(effect_row(v, f"1/0/{route}", 0), effect_maps(one, "r2g", selection=selection, route=route).values[0])
    by_step = effect_maps(one, "r2g", "time", selection, route=route).values
    assert len(v.tensors[f"effects/1/0/{route}"]) == 1 + len(by_step) == 3
    for number, values in enumerate(by_step):
        same(effect_row(v, f"1/0/{route}", 1 + number), values)


def test_an_effect_of_a_video_is_the_mean_of_its_frames(attribution):
    one = caused(attribution, frames=3)
    v = view(one, BIG_BUDGET)
    same(effect_row(v, "0/0/everything", 0), effect_maps(one, "r2g").values[0])
    assert v.tensors["regions/0/0/taken away"].shape == (4, FINE.height, FINE.width)
    floor = one.effects.floor[0].view(3, FINE.height, FINE.width).square().mean(0).sqrt()
    torch.testing.assert_close(v.tensors["effect_floor/0"], floor)


def test_the_header_says_what_was_measured_and_how_certainly(attribution):
    header = json.loads(json.dumps(view(caused(attribution), BIG_BUDGET).header))["effects"]
    measured = ["measured"] * 3
    assert header["maps"][:2] == [
        {"owner": 0, "route": route, "steps": [1, 4], "certainty": [measured] * 2}
        for route in ("everything", "directly")
    ]
    text, lacking = header["maps"][2:]
    assert text["owner"] == "text" and text["certainty"] == [["measured", "too small to measure", "measured"]] * 2
    assert lacking == {
        **{"owner": "conditioning", "route": "everything", "steps": [1, 4]},
        **{"certainty": [["none"] * 3] * 2},
    }
    assert header["regions"] == [
        {"reference": 0, "cut": "taken away", "route": "everything", "step": 1, "grid": [2, 2], "in_file": True}
    ]
    assert header["unmeasured"] == {"reference 1": "no layout"}


def test_measures_of_effects_are_those_of_the_scope(attribution):
    one = replace(caused(attribution), denoise_mask=torch.zeros(2, 6, 4))
    one.denoise_mask[0, :3] = 1  # the second item has no mask
    masks = [x.repeat_interleave(2, 0).repeat_interleave(2, 1) for x in one.denoise_mask]
    v = view(one, BIG_BUDGET, masks)
    values = dict(zip(EFFECT_MEASURES, v.tensors["effect_measures/0/0/everything"], strict=True))
    exact = effect_inside(one, 0, "everything", one.denoise_mask[0])
    inside = torch.zeros(2, FINE.cells, dtype=torch.bool)
    inside[0, : FINE.cells // 2] = True
    assert values["strength"][0] == pytest.approx(exact.strength, rel=1e-5)
    assert values["strength"][0] == pytest.approx(one.effects.strength(0, inside=inside), rel=1e-5)
    assert values["inside"][0] == pytest.approx(exact.part, rel=1e-5) and exact.part != pytest.approx(
        exact.area, rel=1e-3
    )
    step = one.effects.maps[Removal(4, 0)][0]
    assert values["strength"][2] == pytest.approx(step[: FINE.cells // 2].square().mean().sqrt().item(), rel=1e-5)
    assert values["everywhere"][2] == pytest.approx(step.square().mean().sqrt().item(), rel=1e-5)
    assert values["floor"][0] == pytest.approx(one.effects.floor[inside].square().mean().sqrt().item(), rel=1e-5)
    strength, everywhere, part, _ = v.tensors["effect_measures/1/0/everything"]
    torch.testing.assert_close(strength, everywhere)
    assert part[0] == 0  # nothing is inside an empty mask
    assert view(one, BIG_BUDGET).tensors["effect_measures/0/0/everything"][2].isnan().all()


def test_regions_are_those_of_the_core(attribution):
    one = caused(attribution)
    v = view(one, BIG_BUDGET)
    strengths = effect_maps(one, "g2r", selection=Selection(item=1)).values[0]
    torch.testing.assert_close(v.tensors["region_strengths/1/0/taken away"], strengths)
    for number, values in enumerate(one.effects.regions[0, "taken away"].values[1]):
        same(effect_row(v, "1/0/taken away", number, "regions", "region_range"), values.view(6, 4))


def test_maps_of_regions_give_way_to_the_budget_and_their_strengths_stay(attribution):
    v = view(caused(attribution), 512)
    assert v.header["effects"]["regions"][0]["in_file"] is False
    assert "regions/0/0/taken away" not in v.tensors and "region_strengths/0/0/taken away" in v.tensors


def test_effects_need_no_attention(attribution):
    """Neither references nor layers: there are effects of what another conditioning lacks."""
    one = caused(attribution)
    by_removal = {Removal(1, "conditioning"): one.effects.maps[Removal(1, 0)]}
    recorder = Recorder(torch.linspace(10, 0, STEPS + 1), 2, BIG_BUDGET)
    alone = replace(recorder.freeze(grid=FINE), effects=Effects(by_removal, one.effects.floor))
    v = view(alone, BIG_BUDGET)
    assert sheets(alone) == 0 and v.header["references"] == v.header["layers"] == []
    same(
        effect_row(v, "1/conditioning/everything", 0), effect_maps(alone, "r2g", selection=Selection(item=1)).values[0]
    )
