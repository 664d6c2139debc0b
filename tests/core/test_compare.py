"""What changed from one run to another: numbers of an oracle, each beside another, and nothing silent."""

import dataclasses
import itertools
import re
import string

import pytest
import torch
from taken_apart import small
from with_effects import with_effects, without_attention

from i2am_core import COMPARED_SENTENCES, SENTENCES, GivenReference, Layer, Removal, compare, errors, of_items
from i2am_core.effect import rms
from i2am_core.findings.compare import COMPARISONS
from i2am_core.findings.comparisons.two import TwoRuns, case_of

MASK = torch.tensor([[[1.0, 1, 0, 0]] * 3] * 2)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?%?")


@pytest.fixture
def run():
    """Two references, two pictures of 3 rows of 4 cells, four steps, the left half masked."""
    return made()


def made():
    floorless = with_effects(dataclasses.replace(small(), denoise_mask=MASK))
    effects = dataclasses.replace(floorless.effects, floor=torch.zeros_like(floorless.effects.floor))
    return dataclasses.replace(floorless, effects=effects)


def times(run, factors, floor=0.0):
    maps = {x: values * factors.get(x.owner, 1) for x, values in run.effects.maps.items()}
    effects = dataclasses.replace(run.effects, maps=maps, floor=run.effects.floor + floor)
    return dataclasses.replace(run, effects=effects)


def of_rule(compared, rule):
    return [finding for finding in compared.findings if finding.rule == rule]


def cases(compared, rule):
    return [finding.case for finding in of_rule(compared, rule)]


def strength(run, item, owner=0, steps=(0, 2)):
    inside = MASK[item].bool().flatten()
    return sum(rms(run.effects.maps[Removal(step, owner)][item], inside) for step in steps) / len(steps)


def assert_faithful(finding):
    """Each number of the sentence, read back, is the value; each text is in it."""
    sentence, pattern = finding.worded(COMPARED_SENTENCES), ""
    for text, name, spec, _ in string.Formatter().parse(COMPARED_SENTENCES[finding.key]):
        pattern += re.escape(text) + ("" if not name else f"(?P<{name}>{NUMBER.pattern})" if spec else "(?:.*)")
    for name, text in re.fullmatch(pattern, sentence, re.DOTALL).groupdict().items():
        read = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        assert read == pytest.approx(finding.values[name], rel=0.06, abs=0.0051), (finding.key, name)
    assert all(value in sentence for value in finding.values.values() if isinstance(value, str))


@pytest.mark.parametrize("factor", [0, 0.1, 1, 3])
@pytest.mark.parametrize("floor", [0, 1e-3])
def test_sentences_say_the_values(run, factor, floor):
    for b in (times(run, {0: factor}, floor), made()):
        compared = compare(run, b)
        assert compared.findings
        for finding in compared.findings:
            assert_faithful(finding)


def test_every_rule_speaks_or_says_why(run):
    for a, b in itertools.product([run, without_attention(run), dataclasses.replace(run, effects=None)], repeat=2):
        compared = compare(a, b)
        spoken = {finding.rule for finding in compared.findings}
        assert spoken | set(compared.lacking) == {rule.name for rule in COMPARISONS}
        assert not spoken & set(compared.lacking)
        assert all(re.search(r"\w", why) and not why.endswith(".") for why in compared.lacking.values())


def test_no_number_stands_alone():
    for key, template in COMPARED_SENTENCES.items():
        numbers = [name for _, name, spec, _ in string.Formatter().parse(template) if name and spec]
        assert len(numbers) != 1 or "(1 is" in template, key


def test_strengths_are_those_of_an_oracle(run):
    b = made()
    (first, *_) = of_rule(compare(run, b, 1), "strength")
    assert first.values["a"] == pytest.approx(strength(run, 1))
    assert first.values["b"] == pytest.approx(strength(b, 1))
    numbers = [[strength(x, item) for item in (0, 1)] for x in (run, b)]
    variance = sum(torch.tensor(x, dtype=torch.float64).var() for x in numbers) / 2  # of two degrees of freedom
    assert first.values["seeds"] == pytest.approx(float(4.303 * (2 * variance) ** 0.5), rel=1e-3)


def test_two_seeds_are_told_from_chance_95_of_100_times():
    """Runs that differ in nothing but noise: how often a change is said, whatever the size of the batch."""
    generator = torch.Generator().manual_seed(1)
    for count in (2, 4, 16):
        said, pairs = 0, 400
        for _ in range(pairs):
            a, b = torch.randn(2, count, generator=generator).tolist()
            two = Numbers(a, b)
            case, _ = case_of(a[0], b[0], two.seeds(lambda x: x, lambda x: x), 0.0)
            said += case != "within seeds"
        assert said / pairs < 0.09, count  # 5 of 100, and what 400 pairs vary by


class Numbers(TwoRuns):
    """Two batches of numbers in place of pictures."""

    def __init__(self, a, b):
        object.__setattr__(self, "a", a)
        object.__setattr__(self, "b", b)

    def batch(self, run):
        return run


def test_only_steps_of_both_count_where_both_took_the_same_steps(run):
    other = {x: values for x, values in run.effects.maps.items() if x.step == 2}
    b = dataclasses.replace(run, effects=dataclasses.replace(run.effects, maps=other))
    (first, *_) = of_rule(compare(run, b), "strength")
    assert first.values["a"] == first.values["b"] == pytest.approx(strength(run, 0, steps=(2,)))
    assert first.values["steps"] == "steps 2"
    longer = dataclasses.replace(b, sigmas=tuple(x * 2 for x in b.sigmas))
    (first, *_) = of_rule(compare(run, longer), "strength")
    assert first.values["a"] == pytest.approx(strength(run, 0)) and first.values["steps"] == "steps 0, 2 of A, 2 of B"


@pytest.mark.parametrize(
    ("factor", "alone", "case"),
    [
        (3, True, "more"),
        (0.2, True, "less"),
        (9, False, "more, beside seeds"),
        (0.2, False, "less, beside seeds"),
        (1, False, "same"),
        (0, True, "in A alone"),
    ],
)
def test_more_or_less_or_as_two_seeds_differ(run, factor, alone, case):
    a, b = (of_items(x, [0]) if alone else x for x in (run, times(run, {0: factor})))
    compared = compare(a, b)
    assert cases(compared, "strength")[0] == case
    assert compared.seeds_known is not alone
    assert any("two seeds differ is not known" in line for line in compared.notes()) is alone
    if case == "in A alone":
        assert cases(compare(b, a), "strength")[0] == "in B alone"
        assert cases(compare(b, b), "strength")[0] == "in neither"


def test_rounding_is_not_compared_with_rounding(run):
    faint = times(run, {0: 1e-4}, 1e-2)
    assert cases(compare(faint, faint), "strength")[0] == "in neither"
    assert cases(compare(run, faint), "strength")[0] == "in A alone"


def test_faults_that_are_gone_new_and_still_there(run):
    weak = times(run, {0: 0.01})
    beside = "beside what is said of the other"
    for pair, case in (
        ((run, weak), f"in B, {beside}"),
        ((weak, run), f"in A, {beside}"),
        ((weak, weak), "still there"),
    ):
        said = [x for x in of_rule(compare(*pair), "faults") if "hardly acts" in x.values["said"]]
        assert [x.case for x in said] == [case]
        assert said[0].weight == ("fine" if pair[1] is run else "fault")
        assert said[0].of_thumb and any("rule of thumb" in line for line in compare(*pair).notes())


def test_a_fault_follows_its_reference(run):
    """The same references in another order: nothing changed."""
    weak = times(run, {0: 0.01})
    swap = {0: 1, 1: 0}
    turned = dataclasses.replace(
        weak,
        references=weak.references[::-1],
        entries={(1 - r, layer): entry for (r, layer), entry in weak.entries.items()},
        effects=dataclasses.replace(
            weak.effects,
            maps={x._replace(owner=swap.get(x.owner, x.owner)): y for x, y in weak.effects.maps.items()},
            regions={(1 - r, cut): x for (r, cut), x in weak.effects.regions.items()},
            predictions={(s, swap.get(owner, owner)): x for (s, owner), x in weak.effects.predictions.items()},
        ),
    )
    compared = compare(weak, turned)
    assert set(cases(compared, "faults")) == {"still there"}
    assert set(cases(compared, "strength")) == {"same"}
    assert all(finding.values["agree"] == pytest.approx(1) for finding in of_rule(compared, "agreement"))


def test_a_map_agrees_with_itself_and_not_with_its_opposite(run):
    (first, *_) = of_rule(compare(run, run), "agreement")
    assert first.values["agree"] == pytest.approx(1) and first.case == "acts, beside seeds"
    opposite = {x: 3 - values for x, values in run.effects.maps.items()}
    b = dataclasses.replace(run, effects=dataclasses.replace(run.effects, maps=opposite))
    (first, *_) = of_rule(compare(run, b), "agreement")
    assert first.values["agree"] == pytest.approx(-1)
    attention = dataclasses.replace(run, effects=None)
    (first, *_) = of_rule(compare(attention, run), "agreement")
    assert first.case == "looked at, beside seeds" and first.evidence.shows == "attention"


def test_pictures_differ_by_what_they_differ_by(run):
    a, b = torch.rand(2, 2, 12, 16, 3)
    b = b * 0.5
    given = {0: a[0], 1: a[1]}, {0: b[0], 1: b[1]}
    differs, inside = of_rule(compare(run, run, 0, given), "picture")
    assert differs.values["differ"] == pytest.approx(float((a[0] - b[0]).abs().mean()))
    assert differs.values["flat"] == pytest.approx(float((a[0] - a[0].mean((0, 1))).abs().mean()))
    pairs = [float((x[0] - x[1]).abs().mean()) for x in (a, b)]
    assert differs.values["seeds"] == pytest.approx(sum(pairs) / 2)
    assert inside.values["inside"] == pytest.approx(float((a[0] - b[0])[:, :8].abs().mean()))
    assert inside.values["outside"] == pytest.approx(float((a[0] - b[0])[:, 8:].abs().mean()))
    assert cases(compare(run, run, 0, (given[0], given[0])), "picture") == ["same"]
    assert cases(compare(run, run, 0, ({0: a[0]}, {0: b[0]})), "picture")[0] == "differs"
    unlike = compare(run, run, 0, ({0: a[0]}, {0: torch.rand(12, 8, 3)}))
    assert unlike.lacking["picture"] == "the pictures have 16x12 and 8x12 pixels"
    assert "picture" in compare(run, run, 1).lacking  # of which no picture was saved


def test_settings_that_are_unlike_are_said(run):
    assert compare(run, run).settings == ()
    b = dataclasses.replace(
        run,
        branch="negative",
        sigmas=tuple(2 * x for x in run.sigmas),
        notes=("steered: reference 0 by attention, strength 2",),
        denoise_mask=None,
        references=(run.references[0],),
        entries={(r, layer): x for (r, layer), x in run.entries.items() if r == 0},
        effects=None,
    )
    said = "\n".join(compare(run, b).settings)
    for words in (
        "branch: positive in A, negative in B",
        "noise (sigma): from 4 to 0 in A, from 8 to 0 in B",
        "B alone: steered: reference 0",
    ):
        assert words in said
    assert "inpainting mask: 50% of the picture in A, not known in B" in said and "references: 'a'" in said
    assert {"strength", "place"} <= set(compare(run, b).lacking)


def test_runs_of_other_grids_are_compared_as_far_as_they_can_be(run):
    """Strengths are, since they are means; places are not, since no place of one is a place of the other."""
    tall = dataclasses.replace(run, grid=dataclasses.replace(run.grid, height=4, width=3), denoise_mask=None)
    compared = compare(run, dataclasses.replace(tall, entries={}))
    assert of_rule(compared, "strength") and {"agreement", "place"} <= set(compared.lacking)
    assert any("latent grid" in line for line in compared.settings)


def test_a_picture_that_there_is_not(run):
    with pytest.raises(errors.InOneRun, match="in B, item 1 does not exist"):
        compare(run, of_items(run, [0]), 1)


def test_what_is_said_of_one_picture_does_not_depend_on_the_other_pictures(run):
    b = times(run, {0: 0.5})
    whole, part = compare(run, b, 1), compare(of_items(run, [1]), of_items(b, [1]))
    for one, other in zip(of_rule(whole, "strength"), of_rule(part, "strength"), strict=True):
        assert one.values["a"] == pytest.approx(other.values["a"]) and one.values["b"] == pytest.approx(
            other.values["b"]
        )


def by_way(run, route):
    """Measured by this route alone."""
    maps = {x._replace(route=route): values for x, values in run.effects.maps.items()}
    return dataclasses.replace(run, effects=dataclasses.replace(run.effects, maps=maps, predictions={}))


def test_what_was_measured_by_unlike_ways_is_not_compared(run):
    compared = compare(run, by_way(run, "directly"))
    assert set(cases(compared, "strength")) == {"by unlike ways"}
    assert cases(compare(by_way(run, "directly"), by_way(run, "directly")), "strength")[0] == "same"


def test_a_fault_that_could_not_be_told_of_the_other_run_is_not_gone(run):
    """Muted in A; of B no effect was measured."""
    muted, blind = times(run, {0: 0}), dataclasses.replace(run, effects=None)
    for pair, called in (((muted, blind), "A"), ((blind, muted), "B")):
        said = [x for x in of_rule(compare(*pair), "faults") if "changes nothing" in x.values["said"]]
        assert {x.case for x in said} == {f"in {called}, and not known of the other"}
        assert said[0].weight == "fact" and said[0].values["reason"] == "no effect was measured"
    maskless = dataclasses.replace(run, denoise_mask=None)
    assert "gone" not in cases(compare(run, maskless), "faults")


def test_faults_of_the_run_are_those_of_the_same_thing(run):
    def given(*names):
        return tuple(GivenReference(name, "ignored", "a reason", "", key=name, certain=True) for name in names)

    a, b = (dataclasses.replace(run, given=given(name)) for name in ("pose", "depth"))
    said = {(x.case, x.values["said"].split(":")[0]) for x in of_rule(compare(a, b), "faults")}
    assert {("gone", "pose"), ("new", "depth")} <= said
    both = dataclasses.replace(run, given=given("pose", "depth"))
    still = [x.values["said"] for x in of_rule(compare(both, both), "faults") if x.case == "still there"]
    assert sum("this model ignores it" in words for words in still) == 2


def test_a_picture_with_a_whole_mask_is_no_measure_of_places(run):
    """Nor one of which nothing is painted, of anything."""
    masks = torch.stack([MASK[0], torch.ones(3, 4)])
    narrow = {x: values * (0.2 + MASK[0].flatten()) for x, values in run.effects.maps.items()}
    runs = [
        dataclasses.replace(x, denoise_mask=masks)
        for x in (run, dataclasses.replace(run, effects=dataclasses.replace(run.effects, maps=narrow)))
    ]
    (first, *_) = of_rule(compare(*runs), "place")
    assert first.case == "more" and "seeds" not in first.values
    unpainted = [dataclasses.replace(x, denoise_mask=torch.stack([MASK[0], torch.zeros(3, 4)])) for x in runs]
    (strongest, *_) = of_rule(compare(*unpainted), "strength")
    assert "seeds" not in strongest.values
    other = compare(*unpainted, 1)
    assert not of_rule(other, "strength") and "nothing of this picture is painted" in other.lacking["strength"]


def test_one_mask_alone_is_left_out_of_both(run):
    (first, *_) = of_rule(compare(run, dataclasses.replace(run, denoise_mask=None)), "strength")
    assert first.values["where"] == "the picture" and first.values["a"] == first.values["b"]


def test_certainty_is_that_of_the_steps_which_are_said(run):
    """Weak in step 0, strong in step 2, and only step 2 is measured in both."""
    maps = {x: values * (1e-6 if x.step == 0 else 1) for x, values in run.effects.maps.items()}
    effects = dataclasses.replace(run.effects, maps=maps, floor=run.effects.floor + 0.03)
    a = dataclasses.replace(run, effects=effects)
    b = dataclasses.replace(
        run, effects=dataclasses.replace(effects, maps={x: y for x, y in maps.items() if x.step == 2})
    )
    assert cases(compare(a, b), "strength")[0] == "same"


def test_what_is_nearly_nothing_has_no_place(run):
    faint = times(run, {0: 1e-3, 1: 1e-3, "text": 1e-3})
    assert compare(faint, faint).lacking["place"] == "no reference changes enough in both runs to have a place"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"denoise_mask": MASK.flip(-1)}, "inpainting mask: 50% of the picture, the same in these words"),
        ({"sigmas": (4.0, 3.5, 1.0, 0.5, 0.0)}, "noise (sigma): from 4 to 0, the same in these words"),
        ({"guidance": 7.0}, "guidance (cfg), before which effects are: not known in A, 7 in B"),
        ({"layers": (Layer("another", small().layers[0].grid, 3),)}, "layers: 1 of them, the same in these words"),
    ],
)
def test_what_differs_is_said_also_where_the_words_are_the_same(run, change, said):
    assert [line for line in compare(run, dataclasses.replace(run, **change)).settings if line.startswith(said)]


def test_a_picture_beyond_the_first_is_compared_as_well(run):
    many = of_items(run, [0, 1] * 10)
    compared = compare(many, many, 18)
    assert cases(compared, "agreement")[0] == "acts, beside seeds" and cases(compared, "strength")[0] == "same"


def test_names_of_sentences_are_those_of_no_rule_of_one_run():
    assert not set(COMPARED_SENTENCES) & set(SENTENCES)


def test_every_sentence_can_be_reached(run):
    """By the runs of this file, or close to them."""
    a, b = torch.rand(2, 2, 12, 16, 3)
    whole, one_of_each = ({0: a[0], 1: a[1]}, {0: b[0], 1: b[1]}), ({0: a[0]}, {0: b[0]})
    runs = [run, made(), *(times(run, {0: x, 1: 1 / max(x, 0.1), "text": x}) for x in (0, 0.01, 0.3, 1.02, 3))]
    runs += [dataclasses.replace(x, effects=None) for x in (run, made())] + [by_way(run, "directly")]
    runs += [dataclasses.replace(run, denoise_mask=None, notes=())]
    narrow = {x: values * (0.2 + MASK[0].flatten()) for x, values in run.effects.maps.items()}
    steady = [run, made(), dataclasses.replace(run, effects=dataclasses.replace(run.effects, maps=narrow))]
    steady = [of_items(x, [0, 0]) for x in steady]  # whose two pictures are alike: two seeds differ by nothing
    reached = {finding.key for x, y in itertools.product(steady, repeat=2) for finding in compare(x, y).findings}
    for x, y in itertools.product(runs, repeat=2):
        alone = of_items(x, [0]), of_items(y, [0])
        for pair, pictures in (((x, y), whole), (alone, one_of_each), (alone, (one_of_each[0],) * 2)):
            reached |= {finding.key for finding in compare(*pair, 0, pictures).findings}
    assert reached == set(COMPARED_SENTENCES), set(COMPARED_SENTENCES) - reached
