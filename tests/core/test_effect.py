"""Maps of effects against sums over single values in 64 bits; and each that there is not is said in a sentence."""

import dataclasses
import math

import pytest
import torch
from recorded import record
from taken_apart import small
from with_effects import FLOOR, with_effects, without_attention

from i2am_core import (
    Effects,
    Layer,
    RegionEffects,
    Removal,
    Selection,
    TokenGrid,
    concentration,
    effect_inside,
    effect_maps,
    errors,
    imacs,
    share_inside,
    specific_effect,
)
from i2am_core.effect import Certainty, certainty_of, effect_of, region_grid, regions_of

GRID = TokenGrid(3, 4)
HALF = torch.tensor([[1.0, 1, 0, 0]] * 3).repeat_interleave(2, 0).repeat_interleave(2, 1)


@pytest.fixture
def run():
    """Two references, two pictures of 3 rows of 4 cells, four steps; the mask is the left half of picture 0."""
    made = dataclasses.replace(small(), denoise_mask=torch.tensor([[[1.0, 1, 0, 0]] * 3, [[0.0] * 4] * 3]))
    return with_effects(made, routes=("everything", "directly"))


def video(run, frames=3):
    grid = TokenGrid(3, 4, frames)
    layers = (Layer("output 1.0", grid, 3),)
    return with_effects(dataclasses.replace(run, grid=grid, layers=layers, denoise_mask=None, entries={}))


def values(run, step, owner, route="everything", item=0):
    """Values of one map as numbers of 64 bits."""
    return run.effects.maps[Removal(step, owner, route)][item].double().tolist()


def mean(numbers):
    return math.fsum(numbers) / len(numbers)


def rms_of(numbers):
    return math.sqrt(mean([x * x for x in numbers]))


def as_map(numbers, height=3):
    return torch.tensor(numbers, dtype=torch.float64).view(1, height, -1).float()


@pytest.mark.parametrize("route", ["everything", "directly"])
@pytest.mark.parametrize("item", [0, 1])
@pytest.mark.parametrize("owner", [None, 0, 1, "text"])
def test_unified_is_the_mean_over_the_steps_that_were_measured(run, owner, item, route):
    got = effect_maps(run, "r2g", selection=Selection(item=item), owner=owner, route=route)
    rows = [values(run, step, owner or 0, route, item) for step in (0, 2)]
    assert got.labels == ["unified"] and got.values.dtype == torch.float32
    torch.testing.assert_close(got.values, as_map([mean(x) for x in zip(*rows, strict=True)]))
    assert got.scope == ("whole image" if item else "inpainting mask")


def test_the_selection_chooses_the_reference_and_the_steps(run):
    got = effect_maps(run, "r2g", selection=Selection("1-3", reference=1))
    torch.testing.assert_close(got.values, as_map(values(run, 2, 1)))
    named = effect_maps(run, "r2g", selection=Selection("1-3", reference=1), owner="text")
    torch.testing.assert_close(named.values, as_map(values(run, 2, "text")))


def test_time_has_each_step_that_was_measured(run):
    got = effect_maps(run, "r2g", "time", owner=1)
    assert got.labels == ["step 0, sigma 4", "step 2, sigma 2"]
    torch.testing.assert_close(got.values, torch.cat([as_map(values(run, step, 1)) for step in (0, 2)]))
    torch.testing.assert_close(got.values.mean(0, keepdim=True), effect_maps(run, "r2g", owner=1).values)
    one = effect_maps(run, "r2g", "time", Selection("0"), 1)
    assert one.labels == ["step 0, sigma 4"]


def test_reference_has_each_owner_the_strongest_in_scope_first(run):
    maps = dict(run.effects.maps)
    for step in (0, 2):
        maps[Removal(step, 1)] = torch.full((2, 12), 0.5)
        maps[Removal(step, 0)] = torch.tensor([[2.0, 2, 0, 0] * 3, [0.0, 0, 0.1, 0.1] * 3])
        maps[Removal(step, "text")] = torch.tensor([[0.0, 0, 9, 9] * 3] * 2)
    maps[Removal(0, "text")] = torch.full((2, 12), 0.2)
    run = dataclasses.replace(run, effects=dataclasses.replace(run.effects, maps=maps))
    got = effect_maps(run, "r2g", "reference")
    assert got.labels == [
        "reference 0 ('a'), effect 2", "reference 1 ('global'), effect 0.5", "the text, effect 0.1"
    ]  # fmt: skip
    torch.testing.assert_close(got.values[0], torch.tensor([[2.0, 2, 0, 0]] * 3))
    whole = effect_maps(run, "r2g", "reference", Selection(scope="whole image"))
    assert [label.partition(",")[0] for label in whole.labels] == [
        "the text", "reference 0 ('a')", "reference 1 ('global')"
    ]  # fmt: skip
    assert effect_maps(run, "r2g", "reference", Selection(item=1)).labels[-1].startswith("reference 0 ('a')")


@pytest.mark.parametrize("item", [0, 1])
def test_frames_of_a_video(run, item):
    clip = video(run)
    rows = [values(clip, step, 0, item=item) for step in (0, 2)]
    cells = [mean(x) for x in zip(*rows, strict=True)]
    frames = effect_maps(clip, "r2g", "frame", Selection(item=item))
    assert frames.labels == ["frame 0", "frame 1", "frame 2"]
    torch.testing.assert_close(frames.values, as_map(cells, 9).view(3, 3, 4))
    expected = [mean(cells[n::12]) for n in range(12)]
    torch.testing.assert_close(effect_maps(clip, "r2g", selection=Selection(item=item)).values, as_map(expected))


def regions_by_hand(run, inside, item=0, cut="taken away"):
    effects = run.effects.regions[0, cut].values[item].double().tolist()
    return [rms_of([row[cell] for cell in inside]) for row in effects]


LEFT = [cell for cell in range(12) if cell % 4 < 2]


@pytest.mark.parametrize(
    ("item", "inside", "scope"), [(0, LEFT, "auto"), (0, range(12), "whole image"), (1, range(12), "auto")]
)
def test_on_the_reference_it_is_of_regions_over_the_scope(run, item, inside, scope):
    got = effect_maps(run, "g2r", selection=Selection(item=item, scope=scope))
    assert got.labels == ["regions, taken away, step 0, sigma 4"]
    torch.testing.assert_close(got.values, as_map(regions_by_hand(run, inside, item), 2))
    alone = with_effects(run, cuts=("only this left",))
    got = effect_maps(alone, "g2r", selection=Selection(item=item, scope=scope))
    assert got.labels == ["regions, only this left, step 0, sigma 4"]
    torch.testing.assert_close(got.values, as_map(regions_by_hand(alone, inside, item, "only this left"), 2))


@pytest.mark.parametrize("cut", ["taken away", "only this left"])
@pytest.mark.parametrize("item", [0, 1])
def test_which_regions_changed_a_part_of_the_picture(run, cut, item):
    region = torch.zeros(30, 40)
    region[:10, 10:30] = 1  # cells 1 and 2 of the first row
    got = specific_effect(run, region, "g2r", Selection(item=item), cut)
    torch.testing.assert_close(got.values, as_map(regions_by_hand(run, [1, 2], item, cut), 2)[0])
    assert got.note == f"effect of 3x2 regions of reference 0 ('a'), {cut}, in step 0"
    clip = video(run)
    got = specific_effect(clip, region, "g2r", Selection(item=item), cut)
    cells = [cell + 12 * frame for frame in range(3) for cell in (1, 2)]
    torch.testing.assert_close(got.values, as_map(regions_by_hand(clip, cells, item, cut), 2)[0])


@pytest.mark.parametrize("cut", ["taken away", "only this left"])
@pytest.mark.parametrize("item", [0, 1])
def test_where_regions_changed_the_picture(run, cut, item):
    """Regions of a reference of 2 x 3 tokens are its tokens: one wholly marked, one by a quarter."""
    region = torch.zeros(20, 30)
    region[:10, :10], region[10:15, 20:25] = 1, 1
    effects = run.effects.regions[0, cut].values[item].double().tolist()
    expected = [math.sqrt(effects[0][cell] ** 2 + 0.25 * effects[5][cell] ** 2) for cell in range(12)]
    got = specific_effect(run, region, "r2g", Selection(item=item), cut)
    torch.testing.assert_close(got.values, as_map(expected)[0])
    clip = video(run)
    effects = clip.effects.regions[0, cut].values[item].double().tolist()
    cells = [math.sqrt(effects[0][cell] ** 2 + 0.25 * effects[5][cell] ** 2) for cell in range(36)]
    got = specific_effect(clip, region, "r2g", Selection(item=item), cut)
    torch.testing.assert_close(got.values, as_map([mean(cells[n::12]) for n in range(12)])[0])


@pytest.mark.parametrize(
    ("tokens", "regions"), [((7, 5), (3, 2)), ((5, 7), (4, 4)), ((8, 8), (3, 3)), ((2, 9), (2, 4))]
)
def test_regions_that_do_not_divide_the_grid(run, tokens, regions):
    """A region has the tokens in rows y with y * g // h == i: some have more than others."""
    (h, w), (gh, gw) = tokens, regions
    effects = torch.rand(2, gh * gw, 12) + 0.1
    of_regions = RegionEffects(0, "everything", TokenGrid(gh, gw), effects)
    reference = dataclasses.replace(run.references[0], tokens=h * w, grid=TokenGrid(h, w))
    made = dataclasses.replace(
        run,
        references=(reference, run.references[1]),
        effects=dataclasses.replace(run.effects, regions={(0, "taken away"): of_regions}),
    )
    marked = torch.rand(h, w)
    weights = [0.0] * (gh * gw)
    counts = [0] * (gh * gw)
    for y in range(h):
        for x in range(w):
            region = (y * gh // h) * gw + x * gw // w
            weights[region] += float(marked[y, x])
            counts[region] += 1
    assert sum(counts) == h * w and min(counts) > 0
    assert regions_of(TokenGrid(h, w), TokenGrid(gh, gw)).bincount().tolist() == counts
    expected = [
        math.sqrt(sum(weights[n] / counts[n] * float(effects[0, n, cell]) ** 2 for n in range(gh * gw)))
        for cell in range(12)
    ]
    torch.testing.assert_close(specific_effect(made, marked, "r2g").values, as_map(expected)[0])
    assert effect_maps(made, "g2r").values.shape == (1, gh, gw)


def test_a_reference_has_no_more_regions_than_tokens_a_side():
    assert region_grid(TokenGrid(3, 20), 8) == TokenGrid(3, 8)
    clip = TokenGrid(2, 2, 3)
    assert regions_of(clip, TokenGrid(2, 1)).tolist() == [0, 0, 1, 1] * 3


@pytest.mark.parametrize("item", [0, 1])
@pytest.mark.parametrize("owner", [0, "text"])
@pytest.mark.parametrize("frames", [1, 3])
def test_how_much_of_an_effect_is_inside_a_mask(run, owner, item, frames):
    run = run if frames == 1 else video(run, frames)
    mask = torch.zeros(12, 16)
    mask[:4, :6] = 1  # the first cell, and half of the second
    cover = ([1, 0.5] + [0.0] * 10) * frames
    maps = [values(run, step, owner, item=item) for step in (0, 2)]
    parts = [math.fsum(c * x for c, x in zip(cover, row, strict=True)) / math.fsum(row) for row in maps]

    def strength(row):
        return math.sqrt(math.fsum(c * x * x for c, x in zip(cover, row, strict=True)) / sum(cover))

    got = effect_inside(run, owner, "everything", mask, item)
    assert got.part == pytest.approx(mean(parts), rel=1e-9)
    assert got.area == pytest.approx(1.5 / 12)
    assert got.strength == pytest.approx(mean([strength(row) for row in maps]), rel=1e-9)
    assert got.certainty == "measured"


def test_an_effect_without_any_aim_has_the_area_as_its_part(run):
    flat = {removal: torch.full((2, 12), 0.3) for removal in run.effects.maps}
    run = dataclasses.replace(run, effects=dataclasses.replace(run.effects, maps=flat))
    got = effect_inside(run, 1, "directly", HALF)
    assert got.part == pytest.approx(got.area) == pytest.approx(0.5) and got.strength == pytest.approx(0.3)
    whole = effect_inside(run, 1, "directly", torch.ones(4, 4))
    assert (whole.part, whole.area) == pytest.approx((1, 1))


def scaled(run, factor, owner=0, step=None):
    """The run, with an effect that many times the noise floor."""
    maps = {
        removal: run.effects.floor * factor if removal.owner == owner and step in (None, removal.step) else x
        for removal, x in run.effects.maps.items()
    }
    regions = {key: dataclasses.replace(x, values=run.effects.floor[:, None].expand(2, 6, 12) * factor)
               for key, x in run.effects.regions.items()}  # fmt: skip
    return dataclasses.replace(run, effects=dataclasses.replace(run.effects, maps=maps, regions=regions))


@pytest.mark.parametrize(
    ("times", "certainty"), [(0, "none"), (2.9, "too small to measure"), (9.9, "rough"), (10.1, "measured")]
)
def test_what_is_compared_with_the_floor(run, times, certainty):
    run = scaled(run, times)
    readings = [
        lambda: effect_maps(run, "r2g"),
        lambda: effect_maps(run, "r2g", "time"),
        lambda: effect_maps(run, "g2r"),
        lambda: specific_effect(run, HALF, "g2r"),
        lambda: specific_effect(run, torch.tensor([[1.0, 0, 0], [0, 0, 0]]), "r2g"),
    ]
    assert effect_inside(run, 0, "everything", HALF).certainty == certainty
    assert certainty_of(times * FLOOR, FLOOR) == certainty
    for read in readings:
        if certainty in ("measured", "none"):
            assert bool(read().values.any()) == (certainty == "measured")
        else:
            with pytest.raises(errors.EffectTooSmall) as refusal:
                read()
            assert refusal.value.strength == pytest.approx(times * refusal.value.floor, rel=1e-3)
            assert refusal.value.name == "reference 0 ('a')"


def test_no_effect_at_all_is_a_map_of_zeros_that_says_so(run):
    ending = "no effect: not a digit changes"
    zero = scaled(run, 0)
    assert effect_maps(zero, "r2g").labels == [f"unified, {ending}"]
    assert effect_maps(zero, "r2g", "time").labels[1] == f"step 2, sigma 2, {ending}"
    assert effect_maps(zero, "g2r").labels == [f"regions, taken away, step 0, sigma 4, {ending}"]
    assert specific_effect(zero, HALF, "g2r").note.endswith(ending)
    assert effect_maps(zero, "r2g", "reference").labels[-1].endswith(ending)
    assert effect_inside(zero, 0, "everything", HALF).part == 0
    clip = video(run)
    maps = {removal: torch.zeros_like(x) for removal, x in clip.effects.maps.items()}
    clip = dataclasses.replace(clip, effects=dataclasses.replace(clip.effects, maps=maps))
    assert effect_maps(clip, "r2g", "frame").labels == [f"frame {n}, {ending}" for n in range(3)]
    for none in (effect_maps(zero, "r2g"), effect_maps(zero, "g2r"), effect_maps(clip, "r2g", "frame")):
        assert none.certainties == ("none",) * len(none.values)


def test_a_frame_in_which_nothing_changes_is_measured_with_the_whole(run):
    clip = video(run)
    maps = {removal: x * (torch.arange(36) >= 12) for removal, x in clip.effects.maps.items()}
    frames = effect_maps(
        dataclasses.replace(clip, effects=dataclasses.replace(clip.effects, maps=maps)), "r2g", "frame"
    )
    assert not frames.values[0].any() and frames.certainties == ("measured",) * 3


def test_a_certainty_is_of_the_scope(run):
    """What changes beyond the mask alone is no effect in it."""
    outside = torch.tensor([[0.0, 0, 1, 1] * 3, [1.0] * 12])
    maps = {removal: x * outside for removal, x in run.effects.maps.items()}
    masked = dataclasses.replace(run, effects=dataclasses.replace(run.effects, maps=maps))
    assert effect_maps(masked, "r2g", selection=Selection(scope="inpainting mask")).certainties == ("none",)
    assert effect_maps(masked, "r2g", selection=Selection(scope="whole image")).certainties == ("measured",)


def test_one_map_among_others_that_is_too_small_is_zeros_and_says_so(run):
    small_in_one = scaled(run, 2, step=2)
    got = effect_maps(small_in_one, "r2g", "time")
    assert got.labels[0] == "step 0, sigma 4" and "too small to measure" in got.labels[1]
    assert got.values[0].all() and not got.values[1].any()
    assert effect_maps(small_in_one, "r2g").labels == ["unified"]
    assert got.certainties == ("measured", "too small to measure")
    of_owners = effect_maps(scaled(run, 5), "r2g", "reference")
    assert "rough" in of_owners.labels[-1] and not of_owners.values[-1].any() and of_owners.values[:-1].all()


def test_each_certainty_is_said():
    said = {certainty_of(x, 1.0) for x in (0, 1, 5, 20)}
    assert said == set(Certainty.__args__)
    assert certainty_of(0.1, 0.0) == "measured"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(level="head"), "no heads or layers.* 'head' .*unified, time, reference"),
        (dict(level="layer"), "no heads or layers"),
        (dict(selection=Selection(layers="output*")), "no heads or layers.* 'layer'"),
        (dict(selection=Selection(heads="0-1")), "no heads or layers.* 'head'"),
        (dict(level="depth"), "level 'depth' does not exist"),
        (dict(direction="up"), "direction 'up' does not exist"),
        (dict(route="around"), "route 'around' does not exist"),
        (dict(owner="music"), "owner 'music' does not exist: choose one such as all references, text"),
        (dict(owner=2), "reference 2 does not exist"),
        (dict(selection=Selection(reference=2)), "reference 2 does not exist"),
        (dict(selection=Selection(item=2)), "item 2 does not exist"),
        (dict(selection=Selection(scope="mask")), "scope 'mask' does not exist"),
        (dict(selection=Selection(item=1, scope="inpainting mask")), "no inpainting mask for picture 1"),
        (dict(selection=Selection("9")), "4 steps, numbered 0 to 3"),
        (dict(selection=Selection("1,3")), r"'a'\) was measured in the selected steps \(1,3\).*of 0,2"),
        (dict(level="reference", selection=Selection("1,3")), "select some of 0,2"),
        (dict(direction="g2r", selection=Selection("2")), r"regions of reference 0 \('a'\).*\(2\): select some of 0\."),
        (dict(owner="all references"), r"all references together was not measured \(out of memory\).*; the text[;,.]"),
        (dict(owner="conditioning"), "what the conditioning 'without' lacks was not measured: there is that of"),
        (dict(level="frame"), "level 'frame' is for videos"),
        (dict(direction="g2r", level="time"), "no level 'time', since they are of one step"),
        (dict(direction="g2r", level="reference"), "compares references on the picture"),
        (dict(direction="g2r", owner=1), r"regions of reference 1 \('global'\) were measured in this run: measure"),
        (dict(direction="g2r", owner="text"), "no effects of regions of the text"),
        (dict(direction="g2r", route="directly"), r"\(.*own positions alone\): there are those of regions taken away"),
    ],
)  # fmt: skip
def test_what_there_is_not_is_a_sentence(run, arguments, message):
    with pytest.raises(errors.AttributionError, match=message):
        effect_maps(run, **(dict(direction="r2g") | arguments))


def test_a_route_that_was_not_taken(run):
    run = with_effects(run)
    with pytest.raises(errors.NotMeasured, match=r"positions alone, was not measured: there is that of reference 0"):
        effect_maps(run, "r2g", route="directly")
    with pytest.raises(errors.NotMeasured, match="positions alone"):
        effect_maps(run, "r2g", "reference", route="directly")


def test_specific_effects_that_there_are_not(run):
    for region, direction, selection, cut, message in (
        (torch.zeros(4, 4), "g2r", Selection(), "taken away", "the region is empty"),
        (HALF, "g2r", Selection(), "painted over", "cut 'painted over' does not exist"),
        (HALF, "g2r", Selection(reference=1), "taken away", "no effects of regions of reference 1"),
        (HALF, "g2r", Selection(heads="0"), "taken away", "no heads or layers"),
        (HALF, "r2g", Selection("3"), "taken away", "select some of 0"),
    ):
        with pytest.raises(errors.AttributionError, match=message):
            specific_effect(run, region, direction, selection, cut)
    with pytest.raises(errors.NoRegions, match=r"\(only this left\): there are those of regions taken away\."):
        specific_effect(with_effects(run, cuts=("taken away",)), HALF, "g2r", cut="only this left")
    bare = dataclasses.replace(run, references=(dataclasses.replace(run.references[0], grid=None), run.references[1]))
    with pytest.raises(errors.NoLayout, match="no part of it can be named"):
        specific_effect(bare, HALF, "r2g")
    with pytest.raises(errors.EmptyRegion):
        effect_inside(run, 0, "everything", torch.zeros(4, 4))


def test_a_run_without_effects(run):
    plain = dataclasses.replace(run, effects=None)
    failed = dataclasses.replace(run, effects=Effects({}, torch.zeros(2, 12), unmeasured={"the text": "out of memory"}))
    for read in (
        lambda run: effect_maps(run, "r2g"),
        lambda run: effect_maps(run, "g2r", "reference"),
        lambda run: specific_effect(run, HALF, "r2g"),
        lambda run: effect_inside(run, 0, "everything", HALF),
    ):
        with pytest.raises(errors.NoEffects, match="no effect was measured in this run: "):
            read(plain)
        with pytest.raises(errors.NoEffects, match=r"in this run \(the text: out of memory\)"):
            read(failed)


def test_without_references_it_is_the_conditioning(run):
    made = without_attention(with_effects(run, owners=("conditioning",), cuts=()), references=False)
    torch.testing.assert_close(
        effect_maps(made, "r2g", "time", Selection("2")).values, as_map(values(made, 2, "conditioning"))
    )
    assert effect_maps(made, "r2g", "reference").labels[0].startswith("what the conditioning 'without' lacks, ")
    with pytest.raises(errors.NoRegions, match="measure regions, too"):
        effect_maps(made, "g2r")
    with pytest.raises(errors.UnknownReference):
        specific_effect(made, HALF, "g2r")


def test_scores_take_maps_of_effects_as_any_others(run):
    values = effect_maps(run, "r2g", selection=Selection(item=1)).values
    flat, mask = values.double().flatten().tolist(), HALF[::2, ::2]
    inside = [x for n, x in enumerate(flat) if n % 4 < 2]
    assert share_inside(values[0], mask) == pytest.approx(math.fsum(inside) / math.fsum(flat), rel=1e-5)
    entropy = -math.fsum(x / math.fsum(flat) * math.log(x / math.fsum(flat)) for x in flat)
    assert concentration(values).item() == pytest.approx(1 - entropy / math.log(12), abs=1e-5)
    assert imacs(torch.tensor([[1.0, 1, 0, 0]] * 3), mask) == 1 and -3 <= imacs(values[0], mask) <= 1


def test_an_effect_is_the_change_of_the_predicted_latent():
    with_, without = torch.randn(2, 2, 4, 3, 3, 4)
    got = effect_of(with_.half(), without.half())
    first, second = with_.half().double(), without.half().double()
    assert got.shape == (2, 36)
    for item in range(2):
        for cell in range(36):
            place = item, slice(None), cell // 12, cell % 12 // 4, cell % 4
            expected = rms_of((first[place] - second[place]).tolist())
            assert float(got[item, cell]) == pytest.approx(expected, rel=1e-5)


def test_the_summary_says_what_was_measured():
    attribution, _ = record([Layer("a", TokenGrid(6, 4), 2)])
    text = with_effects(attribution, owners=(0, "text")).summary()
    assert "effect of reference 0 ('reference'): 0." in text and "in steps 0, 2: measured" in text
    assert "effect of all references together: not measured, out of memory" in text
    assert "effects took 17 more evaluations of the model, 1.5 s" in text
