"""Findings: sentences say the numbers that were computed, each with its baseline, and none where there is no data."""

import dataclasses
import re
import string

import pytest
import torch
from taken_apart import small
from with_effects import with_effects, without_attention

from i2am_core import GivenReference, Page, Removal, examine, finding_lines, of_items, run_lines
from i2am_core.effect import rms
from i2am_core.findings.examine import RULES, SENTENCES
from i2am_core.findings.finding import SUGGESTIONS, WEIGHTS
from i2am_core.findings.rules import form

MASK = torch.tensor([[[1.0, 1, 0, 0]] * 3, [[1.0] * 4] * 3])
COUNTS = {"count", "total", "others", "tokens", "grid", "captured", "missed"}
EFFECT_BY_STEP = "what the masked area changes by without it (latent units), by step"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?%?")


@pytest.fixture(autouse=True)
def _small_areas_have_form(monkeypatch):
    """The run of these tests has 12 positions, which are too few for a real one."""
    monkeypatch.setattr(form, "FEWEST", 4)


@pytest.fixture
def run():
    """Two references, two pictures of 3 rows of 4 cells, four steps; the mask is half of picture 0, and all of 1."""
    return with_effects(dataclasses.replace(small(), denoise_mask=MASK))


def changed(run, factors, inside=None):
    """The run, with effects of owners times other factors, inside a part of the cells alone where that is given."""
    where = torch.ones(run.grid.cells) if inside is None else inside
    maps = {x: values * (factors.get(x.owner, 1) * where) for x, values in run.effects.maps.items()}
    return dataclasses.replace(run, effects=dataclasses.replace(run.effects, maps=maps))


def without_floor(run):
    """As of a run without guidance, in which nothing is rounded otherwise."""
    return dataclasses.replace(run, effects=dataclasses.replace(run.effects, floor=torch.zeros_like(run.effects.floor)))


def keys(run, **marked):
    return [finding.key for finding in examine(run, **marked).findings]


def of_rule(run, rule, **marked):
    return [finding for finding in examine(run, **marked).findings if finding.rule == rule]


def fields(template):
    return [(name, spec) for _, name, spec, _ in string.Formatter().parse(template) if name]


def numbers_in(finding):
    """What the sentence says of each value, read back: by the name of the value."""
    sentence, pattern = finding.worded(SENTENCES), ""
    for text, name, spec, _ in string.Formatter().parse(SENTENCES[finding.key]):
        pattern += re.escape(text) + (f"(?P<{name}>{NUMBER.pattern if spec else '.*'})" if name else "")
    match = re.fullmatch(pattern, sentence)
    assert match, (pattern, sentence)
    return match.groupdict()


def assert_faithful(finding):
    for name, text in numbers_in(finding).items():
        value = finding.values[name]
        if isinstance(value, str):
            assert text == value
        else:
            read = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
            assert read == pytest.approx(value, rel=0.06, abs=0.0051), (finding.key, name)


@pytest.mark.parametrize("factor", [0, 1e-4, 0.05, 1, 20])
@pytest.mark.parametrize("marked", [{}, {"mask": MASK[0]}, {"object_mask": MASK[0]}])
def test_a_sentence_says_the_values_that_were_computed(run, factor, marked):
    result = examine(changed(run, {0: factor}), **marked)
    assert result.findings
    for finding in result.findings:
        assert_faithful(finding)
        assert finding.weight in WEIGHTS and finding.suggestion in ("", *SUGGESTIONS)


def test_no_number_stands_alone():
    """Each sentence has two numbers that can be compared, or none."""
    for key, template in SENTENCES.items():
        compared = [name for name, spec in fields(template) if spec or name in COUNTS]
        assert len(compared) != 1, key


def test_values_are_those_of_an_oracle(run):
    first = next(x for x in of_rule(run, "strength") if x.evidence.owner == 0)
    inside = MASK[0].bool().flatten()
    by_step = [rms(run.effects.maps[Removal(step, 0)][0], inside) for step in (0, 2)]
    assert first.values["strength"] == pytest.approx(sum(by_step) / 2)
    effect = sum(run.effects.maps[Removal(step, 0)][0] for step in (0, 2)).double()
    place = next(x for x in of_rule(run, "place") if x.evidence.owner == 0)
    assert place.values["part"] == pytest.approx(float(effect[inside].sum() / effect.sum()))
    assert place.values["area"] == 0.5


def test_without_data_a_rule_is_silent_and_named(run):
    nothing = examine(dataclasses.replace(run, effects=None))
    assert set(nothing.lacking) == {rule.name for rule in RULES} - {"steps", "unseen", "display", "unmeasured"}
    assert [finding.key for finding in nothing.findings] == ["unmeasured: no effect"]
    no_mask = examine(dataclasses.replace(run, denoise_mask=None))
    assert no_mask.lacking["place"] == "there is no mask that leaves out a part of the picture"
    assert examine(without_attention(run)).lacking["looked"] == "no attention was captured"


def test_where_no_effect_was_measured_that_is_offered(run):
    """Attention alone proves no effect: what it says is a fact, and measuring is what to try."""
    unmeasured = of_no_effect(run)[0]
    (only,) = of_rule(unmeasured, "unmeasured")
    assert (only.case, only.weight, only.suggestion) == ("no effect", "fact", "measure effect")
    assert not of_rule(run, "unmeasured")
    (failed,) = of_rule(of_no_effect(run)[1], "unmeasured")
    assert (failed.case, failed.suggestion) == ("could not", "") and "out of memory" in failed.worded(SENTENCES)
    assert not of_rule(without_attention(unmeasured), "unmeasured")  # nothing was looked at either


def test_effects_by_the_picture_s_own_positions_alone_are_examined(run):
    directly = without_floor(changed(with_effects(run, routes=("directly",), owners=(0, 1)), {0: 0.05}))
    assert {"strength: weak", "strength: acts"} <= set(keys(directly))


def test_predictions_of_another_size_are_not_read(run):
    larger = {key: torch.zeros(2, 4, 5, 5) for key in run.effects.predictions}
    other = dataclasses.replace(run, effects=dataclasses.replace(run.effects, predictions=larger))
    assert "form" in examine(other).lacking


def test_a_map_that_there_is_not_is_lacking(run):
    """Whatever a file holds, the summary of the run is not lost for it."""
    unseen = {place: dataclasses.replace(x, seen=torch.zeros_like(x.seen)) for place, x in run.entries.items()}
    result = examine(dataclasses.replace(run, entries=unseen))
    assert "display" in result.lacking and result.findings


def test_effects_alone_of_a_conditioning_are_examined(run):
    alone = without_attention(with_effects(run, owners=("conditioning",), cuts=()), references=False)
    assert {finding.rule for finding in examine(alone).findings} >= {"strength", "place"}


def swapped(run):
    """The same run with its references in the other order."""
    other = {0: 1, 1: 0}
    effects = run.effects
    return dataclasses.replace(
        run,
        references=run.references[::-1],
        entries={(other[r], layer): entry for (r, layer), entry in run.entries.items()},
        effects=dataclasses.replace(
            effects,
            maps={x._replace(owner=other.get(x.owner, x.owner)): values for x, values in effects.maps.items()},
            regions={(other[r], cut): x for (r, cut), x in effects.regions.items()},
            predictions={(step, other.get(owner, owner)): x for (step, owner), x in effects.predictions.items()},
        ),
    )


def test_the_order_of_references_does_not_matter(run):
    def by_name(run):
        rows = []
        for finding in examine(run).findings:
            values = {
                k: re.sub(r"reference \d ", "", v) if isinstance(v, str) else v for k, v in finding.values.items()
            }
            rows.append((finding.key, sorted(map(str, values.items()))))
        return sorted(rows)

    weak = changed(run, {0: 0.05})
    assert by_name(weak) == by_name(swapped(weak))


@pytest.mark.parametrize("item", [0, 1])
def test_a_batch_may_be_split(run, item):
    split = examine(of_items(run, [item]))
    whole = examine(run, item)
    said = [(x.key, x.values) for x in whole.findings]
    assert said == [(x.key, x.values) for x in split.findings] and whole.lacking == split.lacking


def off_in(run, *steps):
    """The run, whose first reference was observed to be off in some steps, which it changes nothing in."""
    entries = {place: dataclasses.replace(x, off=steps if place[0] == 0 else ()) for place, x in run.entries.items()}
    maps = {
        x: torch.zeros_like(values) if (x.step in steps and x.owner == 0) else values
        for x, values in run.effects.maps.items()
    }
    effects = dataclasses.replace(run.effects, maps=maps)
    return dataclasses.replace(run, entries=entries, effects=effects)


def test_a_reference_that_is_on_in_half_of_the_measured_steps_has_the_strength_of_these(run):
    (half,) = [x for x in of_rule(off_in(run, 2, 3), "strength") if x.evidence.owner == 0]
    assert half.values["strength"] == pytest.approx(rms(run.effects.maps[Removal(0, 0)][0], MASK[0].bool().flatten()))
    assert half.values["steps"] == "0" and "in steps 0," in half.worded(SENTENCES)
    text = run.effects.maps[Removal(0, "text")][0]
    assert half.values["text"] == pytest.approx(rms(text, MASK[0].bool().flatten()))  # in the same steps
    never = off_in(run, 0, 1, 2)
    (none,) = [x for x in of_rule(never, "strength") if x.evidence.owner == 0]
    assert none.values["steps"] == "0, 2" and none.values["strength"] == 0


def test_a_reference_that_is_off_in_one_of_its_layers_is_not_off(run):
    layers = (*run.layers, dataclasses.replace(run.layers[0], name="another"))
    part = off_in(run, 2)
    two = dataclasses.replace(part, layers=layers, entries={**part.entries, (0, 1): run.entries[0, 0]})
    (whole,) = [x for x in of_rule(two, "strength") if x.evidence.owner == 0]
    assert whole.values["steps"] == "0, 2"


def test_the_curve_of_an_effect_has_all_measured_steps(run):
    curves = Page(run, examine(run)).curves()[EFFECT_BY_STEP]
    off = Page(off_in(run, 2), examine(run)).curves()[EFFECT_BY_STEP]
    name = "reference 0 ('a')"
    assert curves["curves"][name][0] == off["curves"][name][0] == [0, 2]
    assert off["curves"][name][1][1] == 0 < off["curves"][name][1][0]


def test_the_curve_of_an_effect_is_of_the_mask_that_findings_are_of(run):
    other = 1 - MASK[0]
    curves = Page(run, examine(run, 0, other), mask=other).curves()[EFFECT_BY_STEP]["curves"]
    (finding,) = [x for x in of_rule(run, "strength", mask=other) if x.evidence.owner == 0]
    _, values = curves["reference 0 ('a')"]
    assert sum(values) / len(values) == pytest.approx(finding.values["strength"])


def test_why_parts_of_the_attention_are_not_known(run):
    """Where one marks a part of the picture: they were recorded as means over another."""
    assert "was not recorded" in examine(run, mask=MASK[0]).lacking["rest"]
    recorded = shared(run, 0.6, 0.1)
    assert "rest" not in examine(recorded).lacking
    assert examine(recorded, mask=MASK[0]).lacking["rest"].startswith("parts of the attention are known over all of")


def test_an_effect_has_its_unit_once():
    """Of all sentences that say what changes by how much."""
    for key, template in SENTENCES.items():
        says = {name for name, _ in fields(template)} & {"strength", "less", "change"}
        assert template.count("latent units") == bool(says), key


def test_what_was_taken_away_directly_alone_is_worded_so(run):
    both = with_effects(run, owners=(0, 1), routes=("everything", "directly"))
    directly = with_effects(run, owners=(0, 1), routes=("directly",))
    for made, expected in ((both, False), (directly, True)):
        for factor in (0, 1e-5, 0.05, 1):
            findings = [x for x in of_rule(without_floor(changed(made, {0: factor})), "strength")]
            said = [finding.worded(SENTENCES) for finding in findings]
            assert said and all(("its direct way to the picture" in one) == expected for one in said)


@pytest.mark.parametrize(
    ("guidance", "floor", "expected"),
    [
        (None, True, "strength: weak, before guidance that is not known"),
        (None, False, "strength: weak"),
        (7.0, False, "strength: weak, before guidance"),
        (1.0, True, "strength: weak"),
    ],
)
def test_what_guidance_multiplies_is_no_fault(run, guidance, floor, expected):
    """A noise floor is a guess of it, where it was not recorded."""
    weak = changed(with_effects(run, owners=(0, 1)), {0: 0.05})
    weak = dataclasses.replace(weak if floor else without_floor(weak), guidance=guidance)
    (finding,) = [x for x in of_rule(weak, "strength") if x.evidence.owner == 0]
    assert finding.key == expected
    assert ("(cfg 7)" in finding.worded(SENTENCES)) == (guidance == 7)


def with_all_as(run, owner, factor=1):
    """The run, in which all references together change what this one does."""
    maps = dict(run.effects.maps)
    for x in [x for x in maps if x.owner == owner]:
        maps[x._replace(owner="all references")] = maps[x] * factor
    return dataclasses.replace(run, effects=dataclasses.replace(run.effects, maps=maps))


@pytest.mark.parametrize(
    ("weaker", "together", "expected"),
    [
        ({0: 0.05, 1: 0.05}, 20, ["stood in for"] * 2),  # as two that show the same
        ({0: 0.05, 1: 0.05}, 1.9, ["weak"] * 2),  # what both change is little, too
        ({0: 0.05}, 1, ["weak", "acts"]),  # a blank object beside the scene
        ({0: 0.05}, 1.05, ["weak", "acts"]),  # changes that add up
    ],
)
def test_references_stand_in_for_each_other_where_none_is_missed_alone(run, weaker, together, expected):
    one = without_floor(with_all_as(changed(with_effects(run, owners=(0, 1)), weaker), 1, together))
    said = {x.evidence.owner: x.case for x in of_rule(one, "strength")}
    assert [said[0], said[1]] == expected


@pytest.mark.parametrize("pasted", [False, True])
def test_a_mask_is_not_for_every_reference(run, pasted):
    """Of several it is not known which one the mask is for: where one is in place, others may be for the rest."""
    left = MASK[0].flatten()
    two = with_effects(run, owners=(0, 1))

    def placed(of_0, of_1):
        inside = {0: of_0, 1: of_1}
        maps = {x: values * inside[x.owner] for x, values in two.effects.maps.items() if x.owner in inside}
        one = dataclasses.replace(two, effects=dataclasses.replace(two.effects, maps=maps))
        judged = of_rule(one, "place", **({} if pasted else {"mask": MASK[0]}))
        return {x.evidence.owner: (x.case.split(",")[0], x.weight, x.suggestion) for x in judged}

    mostly = 0.6 + 0.4 * left
    in_place = ("in place", "fine", "")
    assert placed(1 - left, left) == {1: in_place, 0: ("not there", "fact", "")}
    assert placed(mostly, left) == {1: in_place, 0: ("bleeds", "fact", "")}
    bleeds = ("bleeds", "fact" if pasted else "fault", "mask it")
    assert placed(mostly, mostly) == {0: bleeds, 1: bleeds}


def test_faults_come_first(run):
    weights = [WEIGHTS.index(x.weight) for x in examine(changed(run, {0: 0})).findings]
    assert weights == sorted(weights) and weights[0] == 0


def test_what_is_of_the_whole_run_is_said_once_under_no_picture(run):
    made = dataclasses.replace(run, given=given("ignored"))
    for one in (made, *of_no_effect(made)):
        lines = list(run_lines(one))
        assert len(lines) == len(set(lines)) and lines[0] == "[!] thing 0: this model ignores it (a reason)."
        expected = [f"picture {n}:" for n in range(2) if one.effects is not None and one.effects.maps]
        assert [line for line in lines if line.startswith("picture")] == expected


def test_what_is_said_to_be_of_the_run_is_so(run):
    for one in (*of_unseen_and_display(run), *of_no_effect(run)):
        first, second = ([x for x in examine(one, item).findings if x.of_run] for item in (0, 1))
        assert first == second


def test_lines_of_a_run_are_the_findings_of_its_pictures(run):
    lines = [line for line in run_lines(run) if not line.startswith("picture")]
    findings = [x for item in (0, 1) for x in examine(run, item).findings]
    assert lines == finding_lines(findings)
    few = list(run_lines(run, most=1))
    assert "picture 1:" not in few and "and 1 more pictures." in few
    assert list(run_lines(of_items(run, [1]))) == finding_lines(examine(run, 1).findings)
    advised = list(run_lines(run, lambda findings: [f"of {len(findings)}"]))
    assert [line for line in advised if line.startswith("of ")] == [
        f"of {len(examine(run, item).findings)}" for item in (0, 1)
    ]


def muted(run, layer_steps):
    """The run, with no attention to the first reference in some steps."""
    entries = {}
    for place, entry in run.entries.items():
        if place[0] == 0:
            share = entry.maps["r2g_share"].clone()
            share[:, layer_steps] = 0
            entry = dataclasses.replace(entry, maps={**entry.maps, "r2g_share": share})
        entries[place] = entry
    return dataclasses.replace(run, entries=entries)


def test_that_nothing_looks_at_a_reference_is_said_where_its_effect_is_not_known(run):
    off = muted(run, slice(None))
    assert keys(dataclasses.replace(off, effects=None)).count("steps: never on") == 1
    assert "steps: never on" not in keys(off)


def test_of_steps_that_were_left_out_nothing_is_said(run):
    """That a reference is off in those that were looked at is no fault."""
    left_out = dataclasses.replace(run, effects=None, not_looked_at=(1, 3))
    off = "steps: off where it was looked"
    assert keys(muted(left_out, slice(None))).count(off) == 1 and off not in keys(left_out)
    some = keys(muted(left_out, slice(0, 2)))
    assert "steps: partly on where it was looked" in some
    assert not {"steps: never on", "steps: partly on"} & {*some, *keys(muted(left_out, slice(None)))}


def test_that_it_changes_nothing_is_no_fault_where_it_may_be_on_in_steps_that_were_left_out(run):
    off = changed(muted(run, slice(None)), {0: 0})
    for left_out, weight, suggestion in (
        ((), "fault", "switch on"),
        ((0, 2), "fault", "switch on"),
        ((1, 3), "fact", "look at all"),
    ):
        one = next(
            x for x in of_rule(dataclasses.replace(off, not_looked_at=left_out), "strength") if x.evidence.owner == 0
        )
        assert (one.case, one.weight, one.suggestion) == ("none", weight, suggestion)


def flat(run):
    """The run, with predictions that do not vary over the picture."""
    same = {key: torch.full_like(x, float(key[1] is None)) for key, x in run.effects.predictions.items()}
    return dataclasses.replace(run, effects=dataclasses.replace(run.effects, predictions=same))


def shared(run, references, text):
    shape = run.items, run.steps, len(run.layers), 2
    return dataclasses.replace(
        run, shares={"references": torch.full(shape, references), "text": torch.full(shape, text)}
    )


def given(*fates):
    return tuple(GivenReference(f"thing {n}", fate, "a reason", "an advice") for n, fate in enumerate(fates))


def of_unseen_and_display(run):
    """Runs that say less than they seem to."""
    one = dataclasses.replace(run.references[0], alone=True)
    guess = dataclasses.replace(run.references[0], approximate=True)
    same = {
        place: dataclasses.replace(entry, maps={key: torch.ones_like(x) for key, x in entry.maps.items()})
        for place, entry in run.entries.items()
    }
    return [
        dataclasses.replace(run, given=given("ignored", "elsewhere", "unknown", "captured")),
        dataclasses.replace(run, entries={place: x for place, x in run.entries.items() if place[0] == 0}),
        dataclasses.replace(run, skipped={"a reason": 3, "another": 4}, missed=("a reason",), captured_calls=5),
        dataclasses.replace(run, references=(one, run.references[1])),
        dataclasses.replace(run, references=(guess, run.references[1])),
        dataclasses.replace(run, entries=same),
    ]


def of_no_effect(run):
    """Runs with attention alone: Effect was not there, or measured nothing."""
    tried = dataclasses.replace(run.effects, maps={}, regions={}, predictions={})
    return [dataclasses.replace(run, effects=effects) for effects in (None, tried)]


def test_each_case_has_a_run(run):
    """Every sentence is reached: none is there that no run says."""
    left = MASK[0].flatten()
    alone = with_effects(run, owners=(0, 1))
    runs = [
        *(changed(run, {0: factor}) for factor in (0, 1e-5, 0.05, 1)), alone, changed(alone, {0: 0.05}),
        *(without_floor(changed(x, {0: 0.05})) for x in (run, alone)),
        changed(dataclasses.replace(alone, guidance=7.5), {0: 0.05}),
        with_all_as(changed(alone, {0: 0.05, 1: 0.05}), 1, 20),
        changed(run, {}, left), changed(run, {}, 1 - left), flat(run), muted(run, [1]),
        *of_unseen_and_display(run), *of_no_effect(run), changed(muted(run, [0, 2]), {0: 0}),
        dataclasses.replace(muted(run, slice(None)), effects=None),
        *(dataclasses.replace(muted(run, x), effects=None, not_looked_at=(1,)) for x in ([0], slice(None))),
        shared(run, 0.6, 0.1), shared(run, 0.6, 0.4),
    ]  # fmt: skip
    for weaker in (0, 2):
        maps = {x: values * (0.1 if x.step == weaker else 1) for x, values in run.effects.maps.items()}
        runs.append(dataclasses.replace(run, effects=dataclasses.replace(run.effects, maps=maps)))
    said = {key for one in runs for marked in ({}, {"mask": MASK[0]}) for key in keys(one, **marked)}
    said |= set(keys(run, object_mask=MASK[0])) | set(keys(run, object_mask=1 - MASK[0]))
    said |= set(keys(changed(run, {}, 0.3 + 0.7 * left), mask=MASK[0])) | set(keys(changed(run, {}, 0.3 + 0.7 * left)))
    said |= set(keys(run, object_mask=torch.ones(3, 4))) | set(keys(blank(run)))
    said |= set(keys(changed(blank(run), {0: 0.15 / strength_of(run)})))
    assert said == set(SENTENCES)


def test_a_small_area_has_no_form(run, monkeypatch):
    """Of few places even a healthy reference changes all alike."""
    assert of_rule(run, "form")
    monkeypatch.setattr(form, "FEWEST", 7)
    assert "the masked area has fewer than 7 places" in examine(run).lacking["form"]


def test_a_weak_reference_is_not_called_blank(run):
    """What brings little form and acts weakly is to be made stronger first: that changes how it is judged."""
    for factor, expected in ((0.15, ("weak", "stronger")), (0.5, ("none", "another reference"))):
        one = without_floor(changed(blank(run), {0: factor / strength_of(run)}))
        assert [(x.case, x.suggestion) for x in of_rule(one, "form") if x.evidence.owner == 0] == [expected]


def strength_of(run):
    return next(x for x in of_rule(run, "strength") if x.evidence.owner == 0).values["strength"]


def blank(run):
    """Without it, everything changes alike."""
    latents = {
        key: torch.full_like(values, 1.0 if key[1] is None else 0.0) for key, values in run.effects.predictions.items()
    }
    return dataclasses.replace(run, effects=dataclasses.replace(run.effects, predictions=latents))


def test_what_is_off_in_the_measured_steps_is_not_called_off(run):
    """Also where the budget merged the steps, of which maps then do not tell."""
    off = changed(muted(run, [0, 2]), {0: 0})
    entries = {place: dataclasses.replace(x, off=(0, 2)) if place[0] == 0 else x for place, x in off.entries.items()}
    for one in (dataclasses.replace(off, entries=entries),):
        said = {x.key for x in examine(one).findings if x.evidence.owner == 0}
        assert "strength: not measured where it is on" in said and "looked: in vain" not in said


def test_the_text_of_other_steps_is_not_beside_it(run):
    maps = {x: y for x, y in run.effects.maps.items() if x.step == (2 if x.owner == "text" else 0)}
    apart = dataclasses.replace(run, effects=dataclasses.replace(run.effects, maps=maps))
    assert "strength: acts" in keys(apart) and "strength: acts, beside the text" not in keys(apart)
