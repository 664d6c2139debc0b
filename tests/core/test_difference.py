"""Maps of two runs are paired by what they are of, on one grid: against sums and means by hand, in float64."""

import dataclasses

import pytest
import torch
from recorded import COARSE, FINE, HEADS, record
from taken_apart import small
from with_effects import with_effects

from i2am_core import Layer, MapKind, Maps, Removal, Selection, TokenGrid, effect_maps, errors, maps, maps_of_both
from i2am_core.reading.difference import counterpart, on_one_grid

PAPER = MapKind("r2g", "paper")


def attention(level="unified", kind=PAPER, time_groups=5):
    return lambda run, selection: maps(run, kind, level, selection, time_groups)


@pytest.fixture
def run():
    return with_effects(small())


def blocky(values, times):
    return values.repeat_interleave(times, -2).repeat_interleave(times, -1)


@pytest.mark.parametrize("fine", [(3, 4), (5, 7), (6, 8), (9, 11)])
def test_means_on_a_coarser_grid_are_those_over_its_cells(fine):
    """Every cell cut into so many that those of both grids are whole numbers of them."""
    values, size = torch.rand(2, *fine, dtype=torch.float64), (3, 4)
    many = values.repeat_interleave(size[0], -2).repeat_interleave(size[1], -1)
    means = many.unflatten(-1, (size[1], fine[1])).unflatten(-3, (size[0], fine[0])).mean((2, 4))
    got, other, note = on_one_grid(values, torch.rand(1, *size, dtype=torch.float64))
    torch.testing.assert_close(got, means)
    assert other.shape == (1, *size) and bool(note) == (fine != size)
    sums, _, _ = on_one_grid(values, torch.rand(1, *size, dtype=torch.float64), sums=True)
    torch.testing.assert_close(sums.sum((1, 2)), values.sum((1, 2)))
    torch.testing.assert_close(sums, means * (fine[0] * fine[1]) / (size[0] * size[1]))


def test_the_same_map_on_a_finer_grid_has_no_difference():
    values = torch.rand(1, 3, 4)
    a, b, _ = on_one_grid(values, blocky(values, 2) / 4, sums=True)
    torch.testing.assert_close(a, b)


def test_grids_of_another_form_are_not_compared():
    with pytest.raises(errors.Incomparable, match="4x3 in A, 3x4 in B"):
        on_one_grid(torch.rand(1, 3, 4), torch.rand(1, 4, 3))


def test_a_run_is_as_it_is(run):
    pairs = maps_of_both(attention(), (run, run), Selection())
    assert not pairs.difference.any() and pairs.a.any() and pairs.labels == [("unified", "unified")]
    assert not pairs.left_out and not pairs.grids


def test_b_less_a(run):
    other = with_effects(small())
    pairs = maps_of_both(lambda x, selection: effect_maps(x, "r2g", "unified", selection), (run, other), Selection())
    expected = [sum(x.effects.maps[Removal(step, 0)][0] for step in (0, 2)) / 2 for x in (run, other)]
    torch.testing.assert_close(pairs.difference.flatten(), expected[1] - expected[0])


def test_layers_are_paired_by_name():
    names = (["a", "b", "c"], ["c", "x", "a"])
    runs = tuple(record([Layer(name, FINE, HEADS) for name in each])[0] for each in names)
    pairs = maps_of_both(attention("layer"), runs, Selection())
    assert pairs.labels == [("layer 0: a", "layer 2: a"), ("layer 2: c", "layer 0: c")]
    assert pairs.left_out == ("layer 1: b: in A alone", "layer 1: x: in B alone")
    torch.testing.assert_close(pairs.b[0], maps(runs[1], PAPER, "layer").values[2])


def test_heads_are_paired_by_number_and_count():
    runs = record([Layer("a", FINE, 3)])[0], record([Layer("a", FINE, 2)])[0]
    with pytest.raises(errors.Incomparable, match="of nothing that is the same"):
        maps_of_both(attention("head"), runs, Selection())


def test_groups_of_steps_are_paired_in_their_order(run):
    pairs = maps_of_both(attention("time", time_groups=2), (run, run), Selection())
    assert [a for a, _ in pairs.labels] == [b for _, b in pairs.labels] and len(pairs.a) == 2
    unequal = record([Layer("a", FINE, HEADS)])[0]
    assert unequal.steps != run.steps
    pairs = maps_of_both(attention("time", time_groups=0), (unequal, unequal), Selection(steps="0-2"))
    assert len(pairs.a) == 3


def test_steps_of_which_nothing_was_captured_are_not_compared(run):
    def unseen(entry):
        seen = entry.seen.clone()
        seen[0] = 0
        return dataclasses.replace(entry, seen=seen)

    gap = dataclasses.replace(run, entries={place: unseen(entry) for place, entry in run.entries.items()})
    pairs = maps_of_both(attention("time", time_groups=0), (run, gap), Selection())
    assert len(pairs.a) == 3 and [x for x in pairs.left_out if "step 0" in x and "in A alone" in x]


def test_references_are_paired_by_name(run):
    turned = dataclasses.replace(
        run,
        references=run.references[::-1],
        entries={(1 - r, layer): entry for (r, layer), entry in run.entries.items()},
    )
    pairs = maps_of_both(attention("reference"), (run, turned), Selection())
    assert not pairs.difference.any() and len(pairs.a) == 2
    assert counterpart(run, turned, 0) == 1
    assert not maps_of_both(attention(), (run, turned), Selection(reference=0)).difference.any()


def test_references_of_one_name_are_paired_by_number(run):
    twins = dataclasses.replace(run, references=(run.references[0], run.references[0]))
    assert counterpart(twins, twins, 1) == 1 and counterpart(twins, run, 1) == 1
    pairs = maps_of_both(attention("reference"), (twins, twins), Selection())
    assert len(pairs.a) == 2 and not pairs.difference.any()


def weaker(run, factor):
    floor = torch.full_like(run.effects.floor, 1e-3)
    maps_ = {key: values * factor for key, values in run.effects.maps.items()}
    return dataclasses.replace(run, effects=dataclasses.replace(run.effects, maps=maps_, floor=floor))


def test_an_effect_that_is_too_small_in_one_run_is_0_there_and_said(run):
    def read(x, selection):
        return effect_maps(x, "r2g", "unified", selection)

    faint = weaker(run, 1e-3)
    with pytest.raises(errors.EffectTooSmall):
        read(faint, Selection())
    for runs, zero in (((faint, run), 0), ((run, faint), 1)):
        pairs = maps_of_both(read, runs, Selection())
        assert not (pairs.a, pairs.b)[zero].any() and (pairs.a, pairs.b)[1 - zero].any()
        assert "too small to measure" in pairs.labels[0][zero]
        assert "too small" not in pairs.labels[0][1 - zero]
    with pytest.raises(errors.InOneRun, match="in A"):
        maps_of_both(read, (faint, faint), Selection())


def test_what_one_run_lacks_is_said_of_it(run):
    with pytest.raises(errors.Incomparable, match="reference 0 \\('a'\\) is in A alone"):
        maps_of_both(attention(), (run, dataclasses.replace(run, references=(), entries={})), Selection())
    with pytest.raises(errors.InOneRun, match="in A, "):
        maps_of_both(attention(), (run, run), Selection(steps="99"))


def test_every_map_has_a_key(run):
    coarse = record([Layer("a", COARSE, HEADS), Layer("b", FINE, HEADS)])[0]
    for level in ("unified", "time", "head", "layer", "reference"):
        result = maps(coarse, PAPER, level)
        assert len(result.keys) == len(result.values) == len(set(result.keys))
    for level in ("unified", "time", "reference"):
        result = effect_maps(run, "r2g", level)
        assert len(result.keys) == len(result.values) == len(set(result.keys))
    assert effect_maps(run, "g2r").keys == ("regions",)


def test_maps_without_keys_pair_nothing(run):
    with pytest.raises(errors.Incomparable):
        maps_of_both(lambda *_: Maps(torch.rand(1, 3, 4), ["x"], ""), (run, run), Selection())


def test_a_video_has_frames():
    video = TokenGrid(3, 4, frames=2)
    run = record([Layer("a", video, HEADS)])[0]
    assert maps_of_both(attention("frame"), (run, run), Selection()).a.shape[0] == 2


def named(run, *names, mechanism="m"):
    """The run with references of these names."""
    references = tuple(dataclasses.replace(run.references[0], name=name) for name in names)
    return dataclasses.replace(run, references=references, entries={}, mechanism=mechanism)


@pytest.mark.parametrize(
    ("of_a", "of_b", "pairs"),
    [
        (["cat", "dog"], ["dog", "cat"], [1, 0]),
        (["cat", "dog"], ["dog", "bird"], [None, 0]),  # not the dog, who has a counterpart
        (["cat"], ["bird"], [0]),  # another picture in the same place
        (["cat", "cat"], ["cat", "cat"], [0, 1]),
        (["cat", "cat"], ["dog", "cat"], [1, None]),
        (["cat", "dog", "owl"], ["cat"], [0, None, None]),
    ],
)
def test_no_two_references_have_one_counterpart(run, of_a, of_b, pairs):
    a, b = named(run, *of_a), named(run, *of_b)
    assert [counterpart(a, b, n) for n in range(len(of_a))] == pairs


def test_a_reference_of_another_mechanism_is_none_in_the_same_place(run):
    assert counterpart(named(run, "cat"), named(run, "bird", mechanism="another"), 0) is None
    with pytest.raises(errors.Incomparable, match="reference 0 \\('cat'\\) is in A alone"):
        maps_of_both(attention(), (named(run, "cat"), named(run, "bird", mechanism="another")), Selection())
