"""Two runs as one: what one recorder would have made of all steps, to rounding; what is no one run is refused."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from selected import maps, specific
from with_effects import with_effects

from i2am_core import (
    Layer,
    Place,
    Positions,
    Recorder,
    Reference,
    Removal,
    Selection,
    TokenGrid,
    attribute,
    errors,
    join,
    load,
    save,
    span,
)
from i2am_core.attribution import HEAD_DETAILS
from i2am_core.given import GivenReference
from i2am_core.half import Half, full
from i2am_core.reading.coarser import in_half_precision, with_heads
from i2am_core.recording.account import ComputedBy

FINE, COARSE = TokenGrid(6, 4), TokenGrid(3, 2)
FACE = Reference("face", 12, TokenGrid(3, 4), "a")
COAT = Reference("coat", 6, TokenGrid(2, 3), "b")
LAYERS = (Layer("fine", FINE, 3), Layer("coarse", COARSE, 2))
SIGMAS = torch.linspace(10, 0, 8)
LARGE = 2**30


def run(steps=range(7), layers=LAYERS, references=(FACE, COAT), budget=LARGE, masked=True, items=2):
    """What was drawn for these of the seven steps, as one recorder of a run with no others would have it."""
    recorder = Recorder(SIGMAS[steps.start : steps.stop + 1], items, budget)
    recorder.given(references)
    for n, step in enumerate(steps):
        for layer in layers:
            for reference in references:
                number, cells = recorder.reference(reference), layer.grid.cells
                drawn = torch.Generator().manual_seed(step * 100 + 10 * len(layer.name) + reference.tokens)
                q, k = (torch.randn(items, layer.heads, m, 8, generator=drawn) for m in (cells, 20))
                scope = (torch.arange(cells) % 2 == 0).expand(items, cells) if masked else None
                rows = torch.arange(cells) if recorder.pairs_fit(number, layer, cells, reference.tokens) else None
                (m,) = attribute(
                    *(q, k, [span(reference.name, 5, reference.grid, reference.tokens)]),
                    positions=Positions(scope=scope, pair_rows=rows),
                )
                recorder.add(Place(layer, n, number, reference_grid=reference.grid), m, rows)
            recorder.captured(layer.name, ["token order"], ComputedBy("kernel", "of halves"))
    recorder.skip("self-attention", 3)
    mask = torch.ones(items, 6, 4) if masked else None
    frozen = recorder.freeze(grid=FINE, denoise_mask=mask, branch="positive")
    began = tuple(f"picture {n} before step {steps.start}" for n in range(items))
    ended = tuple(frozenset({f"picture {n} before step {steps.stop}"}) for n in range(items))
    return dataclasses.replace(frozen, began=began, ended=ended, all_observed=True)


def close(one, other):
    torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def assert_same(joined, whole):
    assert joined.references == whole.references and joined.layers == whole.layers
    assert joined.bins == whole.bins and joined.heads == whole.heads
    close(torch.tensor(joined.sigmas), torch.tensor(whole.sigmas))
    assert joined.entries.keys() == whole.entries.keys()
    for place, entry in joined.entries.items():
        expected = whole.entries[place]
        assert torch.equal(entry.seen, expected.seen) and entry.reference_grid == expected.reference_grid
        for name in ("maps", "head_maps"):
            of_entry, of_expected = getattr(entry, name), getattr(expected, name)
            assert of_entry.keys() == of_expected.keys()
            for key in of_entry:
                close(full(of_entry[key]), full(of_expected[key]))
        assert entry.pairs.keys() == expected.pairs.keys()
        for key in entry.pairs:
            close(entry.pairs[key], expected.pairs[key])
    counts = "captured_calls", "row_sums", "arithmetic", "mechanism", "branch", "items", "grid"
    assert all(getattr(joined, name) == getattr(whole, name) for name in counts)


@settings(max_examples=12, deadline=None)
@given(cut=st.integers(1, 6), masked=st.booleans(), swapped=st.booleans())
def test_two_parts_are_the_whole(cut, masked, swapped):
    parts = [run(range(cut), masked=masked), run(range(cut, 7), masked=masked)]
    joined = join(*(reversed(parts) if swapped else parts))
    assert_same(joined, run(masked=masked))
    assert joined.skipped == {"self-attention": 6}
    assert joined.nbytes <= sum(part.nbytes for part in parts)


def test_what_was_given_and_what_was_not_evaluated_is_of_both():
    first, second = run(range(3)), run(range(3, 7))
    given_first, given_second = (GivenReference(what, "captured") for what in ("an image", "another"))
    first = dataclasses.replace(first, given=(given_first,), not_evaluated=(1,), not_looked_at=(0,))
    second = dataclasses.replace(second, given=(given_first, given_second), not_evaluated=(0, 2), not_looked_at=(1,))
    joined = join(first, second)
    assert joined.given == (given_first, given_second)
    assert joined.not_evaluated == (1, 3, 5) and joined.not_looked_at == (0, 4)


def test_guidance_is_that_of_both_where_it_is_the_same():
    first, second = (dataclasses.replace(x, guidance=3.0) for x in (run(range(3)), run(range(3, 7))))
    assert join(first, second).guidance == 3
    assert join(first, dataclasses.replace(second, guidance=1.0)).guidance is None
    assert join(first, dataclasses.replace(second, guidance=None)).guidance is None


def test_off_steps_are_of_both():
    def off(attribution, *steps):
        entries = {place: dataclasses.replace(entry, off=steps) for place, entry in attribution.entries.items()}
        return dataclasses.replace(attribution, entries=entries)

    joined = join(off(run(range(3)), 2), off(run(range(3, 7)), 0, 3))
    assert {entry.off for entry in joined.entries.values()} == {(2, 3, 6)}


@pytest.mark.parametrize("budget", [LARGE, 60_000])
def test_means_of_heads_are_weighed_by_steps(budget):
    """Their maps of heads are means over two and over five steps: as such they are in the whole."""
    parts = [run(range(2), budget=budget), run(range(2, 7), budget=budget)]
    parts = [with_heads(part, "over steps") for part in parts]
    joined, whole = join(*parts), with_heads(run(), "over steps")
    for place, entry in joined.entries.items():
        for key, x in entry.head_maps.items():
            torch.testing.assert_close(full(x), full(whole.entries[place].head_maps[key]), atol=1e-5, rtol=2e-3)


def test_the_coarser_detail_of_heads_is_that_of_both():
    fine, coarse = run(range(3)), run(range(3, 7), budget=25_000)
    assert fine.heads == "in each step" and coarse.heads != "in each step"
    joined = join(fine, coarse)
    assert joined.heads == coarse.heads
    time = maps(joined, "r2g", "time", normalization="share", time_groups=len(joined.bins)).values
    close(time[:3], maps(fine, "r2g", "time", normalization="share", time_groups=3).values)


def test_levels_by_time_show_all_steps_in_order():
    joined = join(run(range(3)), run(range(3, 7)))
    labels = maps(joined, "r2g", "time", time_groups=0).labels
    assert [label.partition(",")[0] for label in labels] == [f"step {n}" for n in range(7)]
    whole = run()
    for level in ("unified", "head", "layer", "time", "reference"):
        close(maps(joined, "r2g", level).values, maps(whole, "r2g", level).values)
    region = torch.zeros(6, 4)
    region[:3] = 1
    close(specific(joined, region, "g2r").values, specific(whole, region, "g2r").values)


OTHERS = (Layer("fine", FINE, 3), Layer("coarse", COARSE, 4), Layer("new", COARSE, 2))


def test_a_layer_that_one_model_lacks_was_seen_in_no_step_of_the_other():
    first, second = run(range(3)), run(range(3, 7), layers=OTHERS)
    joined = join(first, second)
    assert [layer.name for layer in joined.layers] == ["fine", "coarse", "coarse (second run)", "new"]
    assert [x.tolist() for x in (joined.entries[0, n].seen for n in range(4))] == [
        [1.0] * 7,
        [1.0] * 3 + [0.0] * 4,
        [0.0] * 3 + [1.0] * 4,
        [0.0] * 3 + [1.0] * 4,
    ]
    assert "of one run alone: coarse, coarse (second run), new" in joined.notes
    for layers, part in (("1", first), ("3", second)):  # a mean over all steps is that over those of its run
        in_part = "1" if part is first else "2"
        close(maps(joined, "r2g", layers=layers).values, maps(part, "r2g", layers=in_part).values)
    time = maps(joined, "r2g", "time", layers="1", time_groups=0)
    assert [label.endswith("(not captured)") for label in time.labels] == [False] * 3 + [True] * 4


def test_what_takes_more_than_both_is_in_half_precision():
    first = run(range(3), layers=(Layer("one", FINE, 8),))
    second = run(range(3, 7), layers=(Layer("two", FINE, 8),))
    assert join(first, second).heads == "in each step" and not join(first, second).notes[2:]
    joined = join(first, second, budget_bytes=0)
    assert joined.nbytes <= first.nbytes + second.nbytes
    assert all(isinstance(x, Half) for entry in joined.entries.values() for x in entry.maps.values())
    assert any("half precision" in note for note in joined.notes)
    torch.testing.assert_close(
        maps(joined, "r2g", layers="0").values, maps(first, "r2g", layers="0").values, atol=1e-6, rtol=2e-3
    )


def test_where_half_precision_is_not_enough_heads_are_merged():
    first, second = (
        run(x, layers=(Layer("l" * len(x), grid, 8),)) for x, grid in ((range(1), FINE), (range(1, 7), COARSE))
    )
    most, joined = first.nbytes + second.nbytes, join(first, second, budget_bytes=0)
    assert joined.nbytes <= most and joined.heads in ("over steps", "merged")
    finer = HEAD_DETAILS[HEAD_DETAILS.index(joined.heads) - 1]
    assert with_heads(in_half_precision(join(first, second)), finer).nbytes > most
    torch.testing.assert_close(
        maps(joined, "r2g", layers="0").values, maps(first, "r2g", layers="0").values, atol=1e-6, rtol=2e-3
    )


def test_halves_are_joined_as_they_are():
    parts = [run(range(4), budget=60_000), run(range(4, 7), budget=60_000)]
    assert all(isinstance(part.entries[0, 0].maps["r2g_share"], Half) for part in parts)
    joined = join(*parts)
    of_parts = torch.cat([full(part.entries[0, 0].maps["r2g_share"]) for part in parts], 1)
    assert torch.equal(full(joined.entries[0, 0].maps["r2g_share"]), of_parts)


def pictured(attribution, **values):
    pictures = {name.replace("_", " "): torch.full((4, 4, 3), x, dtype=torch.uint8) for name, x in values.items()}
    return dataclasses.replace(attribution, pictures=pictures)


@pytest.mark.parametrize(
    ("other", "pictures", "count"),
    [
        (FACE, ({}, {}), 1),
        (dataclasses.replace(FACE, key="another"), ({}, {}), 2),
        (dataclasses.replace(FACE, name="coat"), ({}, {}), 2),
        (dataclasses.replace(FACE, key="another"), ({"reference_0": 1}, {"reference_0": 1}), 1),  # two text encoders
        (FACE, ({"reference_0": 1}, {"reference_0": 2}), 2),
        (COAT, ({}, {}), 2),
        (dataclasses.replace(FACE, tokens=6, grid=TokenGrid(2, 3)), ({}, {}), 2),
        (dataclasses.replace(FACE, grid=None), ({}, {}), 2),
    ],
)
def test_which_references_are_the_same(other, pictures, count):
    first = pictured(run(range(3), references=(FACE,)), **pictures[0])
    second = pictured(run(range(3, 7), references=(other,)), **pictures[1])
    joined = join(*(dataclasses.replace(x, all_observed=False) for x in (first, second)))
    assert len(joined.references) == count
    last = count - 1
    assert joined.references[0] == FACE and joined.references[last].name == other.name
    assert joined.entries[last, 0].seen.tolist() == ([1.0] * 7 if count == 1 else [0.0] * 3 + [1.0] * 4)
    if pictures[1]:
        assert torch.equal(joined.pictures[f"reference {last}"], second.pictures["reference 0"])


def test_the_picture_is_that_of_the_second():
    first, second = pictured(run(range(3)), generated_0=1), pictured(run(range(3, 7)), generated_0=2)
    assert int(join(second, first).pictures["generated 0"][0, 0, 0]) == 2


def test_effects_are_of_the_steps_of_both():
    first = with_effects(run(range(3)), steps=(0, 2), owners=(0, "text"))
    second = with_effects(run(range(3, 7), references=(COAT, FACE)), steps=(1,), owners=(1, "text"))
    joined = join(first, second)
    assert list(joined.effects.maps) == [
        *(Removal(step, owner) for step in (0, 2) for owner in (0, "text")),
        *(Removal(4, owner) for owner in (0, "text")),
    ]
    assert torch.equal(joined.effects.maps[Removal(4, 0)], second.effects.maps[Removal(1, 1)])
    assert torch.equal(joined.effects.predictions[4, 0], second.effects.predictions[1, 1])
    assert torch.equal(joined.effects.floor, torch.maximum(first.effects.floor, second.effects.floor))
    assert {(r, cut): x.step for (r, cut), x in joined.effects.regions.items()} == {
        (n, cut): step for n, step in ((0, 0), (1, 4)) for cut in ("taken away", "only this left")
    }
    assert joined.effects.evaluations == 34 and joined.effects.seconds == 3
    assert joined.effects.unmeasured == {"all references together": "out of memory"}


def test_effects_of_one_run_alone():
    first, second = run(range(3)), with_effects(run(range(3, 7)), steps=(0,), owners=(0,))
    effects = dataclasses.replace(second.effects, unmeasured={"regions of reference 1 ('coat')": "out of memory"})
    joined = join(first, dataclasses.replace(second, effects=effects))
    assert list(joined.effects.maps) == [Removal(3, 0)]
    assert "effects were measured in the second run alone" in joined.notes
    assert joined.effects.unmeasured == {"regions of reference 1 ('coat')": "out of memory"}


def test_what_one_run_did_not_measure_is_named_by_its_number_in_both():
    first = with_effects(run(range(3)), steps=(0,), owners=(0,))
    second = with_effects(run(range(3, 7), references=(COAT, FACE)), steps=(0,), owners=(1,))
    effects = dataclasses.replace(second.effects, unmeasured={"regions of reference 0 ('coat')": "no time"})
    unmeasured = join(first, dataclasses.replace(second, effects=effects)).effects.unmeasured
    assert unmeasured == {
        "all references together": "out of memory (in the first run)",
        "regions of reference 1 ('coat')": "no time (in the second run)",
    }


def test_notes_say_of_which_run_they_are():
    first = dataclasses.replace(run(range(3)), notes=("both", "one", "steered: reference 0 x 2"))
    second = dataclasses.replace(run(range(3, 7)), notes=("both", "steered: reference 1 x 0"))
    assert join(first, second).notes == (
        "two runs as one: steps 0-2 are of the first, 3-6 of the second",
        *("steered: reference 0 x 2 (the first run)", "steered: reference 1 x 0 (the second run)"),
        *("both", "one (the first run)"),
    )
    assert "steered: reference 1 x 0 (the second run)" in join(first, second).summary()


def test_with_different_masks_maps_are_of_the_whole_picture():
    first, second = run(range(3)), run(range(3, 7), masked=False)
    joined = join(first, second)
    assert joined.denoise_mask is None and any("different inpainting masks" in note for note in joined.notes)
    assert not any(key.endswith("scope") for entry in joined.entries.values() for key in entry.maps)
    close(maps(joined, "g2r", steps="0-2").values, maps(first, "g2r", scope="whole image").values)


@pytest.mark.parametrize(
    ("first", "second", "agree"), [(1.0, 0.45, True), (1.0, 0.2, True), (0.45, 0.3, True), (1.0, 0.0, False)]
)
def test_what_a_soft_mask_has_around_it_does_not_make_two_masks_of_one(first, second, agree):
    """One rule for masks: a place is inside one where it is above half of its own largest value."""
    inner = torch.zeros(1, 6, 4)
    inner[:, 2:4] = 1
    halo = inner.clone()
    halo[:, 4] = 0.2  # what a blur leaves
    masks = inner * first, halo * second
    runs = [dataclasses.replace(run(x), denoise_mask=m) for x, m in zip((range(3), range(3, 7)), masks, strict=True)]
    joined = join(*runs)
    assert (joined.denoise_mask is not None) == agree
    assert any("different inpainting masks" in note for note in joined.notes) != agree


def alone_in(first, second):
    """Runs of which the first has both references, and the second has the coat."""
    return [
        dataclasses.replace(run(range(3)), **first),
        dataclasses.replace(run(range(3, 7), references=(COAT,)), **second),
    ]


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("budget", [LARGE, 60_000, 25_000])
def test_a_reference_that_one_run_observed_not_to_be_there_is_0_in_it(budget, swapped):
    """As one recorder has it of what is off: the mean over all steps counts them."""
    with_face, without = run(range(3), budget=budget), run(range(3, 7), references=(COAT,), budget=budget)
    if swapped:
        with_face, without = run(range(3, 7), budget=budget), run(range(3), references=(COAT,), budget=budget)
    joined = join(with_face, without)
    face, steps = joined.references.index(FACE), with_face.steps
    for kind in ("r2g", "g2r"):
        whole, part = (
            maps(x, kind, reference=x.references.index(FACE), normalization="share").values for x in (joined, with_face)
        )
        torch.testing.assert_close(whole, part * steps / 7, atol=1e-6, rtol=2e-3)
    assert all(entry.seen.sum() == 7 for entry in joined.entries.values())
    entry, own = joined.entries[face, 0], with_face.entries[with_face.references.index(FACE), 0]
    for one, other in ((entry.pairs, own.pairs), (entry.head_maps, own.head_maps)):
        assert one.keys() == other.keys()
        for key, x in one.items():
            torch.testing.assert_close(full(x), full(other[key]) * steps / 7, atol=1e-6, rtol=2e-3)
    assert entry.off == (tuple(range(3)) if swapped else tuple(range(3, 7)))
    assert not any(x.off for (r, _), x in joined.entries.items() if r != face)
    here = "0-2" if swapped else "3-6"
    assert (
        f"'face' is not in the {'first' if swapped else 'second'} run: its maps are 0 in steps {here}" in joined.notes
    )


UNKNOWN = GivenReference("an image", "unknown")
PERHAPS = GivenReference("a picture", "captured", certain=False)


@pytest.mark.parametrize(
    "second",
    [
        {"all_observed": False},
        {"given": (UNKNOWN,)},
        {"given": (GivenReference("an image", "elsewhere"),)},
        {"given": (PERHAPS,)},
        {"references": (COAT, dataclasses.replace(FACE, key="another"))},  # given, and read by nothing: the same image?
    ],
)
def test_where_that_is_not_known_its_steps_are_named(second):
    joined = join(*alone_in({}, second))
    assert joined.entries[0, 0].seen.tolist() == [1.0] * 3 + [0.0] * 4
    assert joined.entries[1, 0].seen.tolist() == [1.0] * 7
    assert (
        "'face' is captured in the first run alone, and whether anything read it in the second one is not known: its "
        "maps are means over steps 0-2"
    ) in joined.notes
    assert not any("maps are 0" in note for note in joined.notes)
    close(maps(joined, "r2g").values, maps(run(range(3)), "r2g").values)


def test_what_was_given_and_read_or_ignored_hides_nothing():
    given = GivenReference("an image", "captured"), GivenReference("another", "ignored")
    assert join(*alone_in({"given": (UNKNOWN,)}, {"given": given})).entries[0, 0].seen.sum() == 7


def test_a_run_that_observed_no_reference_at_all():
    without = dataclasses.replace(run(range(3, 7)), entries={}, layers=(), references=(), not_evaluated=(1,))
    joined = join(run(range(3)), without)
    assert joined.entries[0, 0].seen.tolist() == [1.0] * 3 + [1.0, 0.0, 1.0, 1.0]
    assert "'face', 'coat' are not in the second run: their maps are 0 in steps 3-6" in joined.notes


def test_a_layer_in_which_a_reference_is_left_out():
    """It is read in the fine layers alone of the second run, whose coarse ones read the coat."""
    second = run(range(3, 7))
    entries = {place: entry for place, entry in second.entries.items() if place != (0, 1)}
    joined = join(run(range(3)), dataclasses.replace(second, entries=entries))
    assert joined.entries[0, 1].seen.tolist() == [1.0] * 7 and not any("maps are 0" in x for x in joined.notes)
    joined = join(run(range(3)), dataclasses.replace(second, entries=entries, all_observed=False))
    assert joined.entries[0, 1].seen.tolist() == [1.0] * 3 + [0.0] * 4


def test_what_is_joined_is_joined_on():
    one, two, three = run(range(2)), run(range(2, 4), references=(COAT,)), run(range(4, 7))
    seen = join(join(one, two), three).entries[0, 0].seen
    assert seen.tolist() == [1.0] * 7
    assert join(one, two).all_observed and not join(one, dataclasses.replace(two, all_observed=False)).all_observed


def latents(began, ended):
    return {"began": tuple(began), "ended": tuple(frozenset(x.split()) for x in ended)}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (("a", "b"), ("c", "d"), ""),
        (("a", "b"), ("c also-d", "d"), ""),
        ((), (), "known by their sigmas alone"),
        (("a", "b"), (), "known by their sigmas alone"),
        (("e", "f"), ("x", "y"), "did not begin with the latent that the first ended with"),
        (("e", "f"), ("c", "y"), "did not begin with the latent that the first ended with"),
        (("c", "d"), ("c", "d"), ""),  # the first changed nothing
    ],
)
def test_that_the_second_went_on_with_the_latent_of_the_first(first, second, expected):
    runs = [
        dataclasses.replace(run(range(3)), **latents(first, second)),
        dataclasses.replace(run(range(3, 7)), **latents(("c", "d"), ("z", "w"))),
    ]
    notes = join(*runs).notes
    assert [note for note in notes if "latent" in note] == [note for note in notes if expected and expected in note]
    assert any(expected in note for note in notes)


@pytest.mark.parametrize(
    ("first", "second", "sentence"),
    [
        (("c", "d"), ("x", "y"), "both began with the same latent, and not one with what the other had made"),
        (("a", "d"), ("c", "y"), "both began with the same latent"),
        (("a", "b"), ("d", "c"), "picture 0 of one began with what picture 1 of the other had become"),
    ],
)
def test_pictures_that_are_proved_to_be_others_are_refused(first, second, sentence):
    one = dataclasses.replace(run(range(3)), **latents(first, second))
    other = dataclasses.replace(run(range(3, 7)), **latents(("c", "d"), ("z", "w")))
    for pair in ((one, other), (other, one)):
        with pytest.raises(errors.NotOneRun, match=sentence):
            join(*pair)


def test_a_name_is_renamed_exactly():
    """Also where one reference is called as another one is numbered."""
    odd = dataclasses.replace(FACE, name="reference 0 ('coat')", key="c")
    first = with_effects(run(range(3)), steps=(0,), owners=(0,))
    second = with_effects(run(range(3, 7), references=(COAT, odd)), steps=(0,), owners=(0,))
    unmeasured = {"regions of reference 1 ('reference 0 ('coat')')": "a", "reference 0 ('coat') in other steps": "b"}
    effects = dataclasses.replace(second.effects, unmeasured=unmeasured)
    joined = join(first, dataclasses.replace(second, effects=effects)).effects.unmeasured
    assert list(joined)[-2:] == [
        "regions of reference 2 ('reference 0 ('coat')')",
        "reference 1 ('coat') in other steps",
    ]


def test_pair_maps_of_other_positions_are_left_out():
    first, second = run(range(3)), run(range(3, 7))
    entry = second.entries[0, 1]
    half = dataclasses.replace(
        entry, pair_rows=entry.pair_rows[:3], pairs={k: x[:, :3] for k, x in entry.pairs.items()}
    )
    joined = join(first, dataclasses.replace(second, entries={**second.entries, (0, 1): half}))
    assert not joined.entries[0, 1].pairs and joined.entries[0, 0].pairs and joined.entries[1, 1].pairs
    assert "pair maps of coarse are left out: they are not of the same positions in both runs" in joined.notes


def test_a_run_without_attention():
    empty = dataclasses.replace(run(range(3)), entries={}, layers=(), references=(), heads="merged", all_observed=False)
    joined = join(empty, run(range(3, 7)))
    assert joined.heads == "in each step" and joined.entries[0, 0].seen.tolist() == [0.0] * 3 + [1.0] * 4


def test_three_parts_and_a_file(tmp_path):
    joined = join(join(run(range(2)), run(range(2, 4))), run(range(4, 7)))
    assert_same(joined, run())
    save(joined, tmp_path / "joined.i2am.safetensors")
    loaded = load(tmp_path / "joined.i2am.safetensors")
    assert torch.equal(maps(loaded, "g2r").values, maps(joined, "g2r").values)
    assert loaded.all_observed and not loaded.began and not loaded.ended
    layers = join(run(range(3)), run(range(3, 7), layers=OTHERS))
    save(with_effects(layers, steps=(1, 5)), tmp_path / "layers.i2am.safetensors")
    loaded = load(tmp_path / "layers.i2am.safetensors")
    assert torch.equal(maps(loaded, "r2g", "layer").values, maps(layers, "r2g", "layer").values)
    assert Selection(layers="coarse (second run)").layer_numbers([x.name for x in loaded.layers]) == [2]


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (run(range(4, 7)), "ended at sigma 5.714, and the other began at 4.286"),
        (run(range(3)), "ended at sigma 5.714, and the other began at 10"),
        (run(range(3, 7), items=1), r"one made 2 picture\(s\), and the other 1"),
        (dataclasses.replace(run(range(3, 7)), grid=TokenGrid(8, 8)), "on a latent of 4x6, and the other on 8x8"),
        (
            dataclasses.replace(run(range(3, 7)), branch="negative"),
            "captured the positive .*, and the other the negative",
        ),
    ],
    ids=["a gap", "the same again", "pictures", "grid", "branch"],
)
def test_what_is_not_one_run(second, sentence):
    for pair in ((run(range(3)), second), (second, run(range(3)))):
        with pytest.raises(errors.NotOneRun, match="not two parts of one run"):
            join(*pair)
    with pytest.raises(errors.NotOneRun, match=sentence):
        join(run(range(3)), second)
