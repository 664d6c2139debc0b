"""Maps against what whole runs change by: with known answers, and the part in its short form on fewer regions."""

import pytest
import torch

from i2am_pack.demo import data, effect
from i2am_pack.demo.steer import bracketed
from i2am_pack.validation.parts import counterfactuals


@pytest.fixture(scope="module", autouse=True)
def _one_change():
    """Each way to change a region is 16 whole runs of each model: of one, the others are made, each another."""
    measured = effect.Study.change_by_region

    def change_by_region(study, how):
        return measured(study, "blurred").roll(list(counterfactuals.CHANGED.values()).index(how), 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(effect.Study, "change_by_region", change_by_region)
        yield


@pytest.fixture(scope="module")
def section(lab, _one_change):
    return counterfactuals.run(lab)


def test_what_is_like_the_change_in_the_mask_correlates_whatever_is_outside(lab, monkeypatch):
    study = lab.joint
    inside = study.in_mask[study.order]
    values = torch.rand(2, data.GRID**2, generator=torch.Generator().manual_seed(9))
    maps = {"like it": values * inside + 7 * ~inside, "the other way": -values, "flat": torch.ones_like(values)}
    monkeypatch.setattr(effect, "maps_on_the_picture", lambda _: maps)
    monkeypatch.setattr(effect, "changes_of_the_picture", lambda _: {"change": values.square()})
    of = counterfactuals.of_positions(study)
    means = [of[name]["change"].tolist() for name in maps]
    assert means == [pytest.approx([1, 1]), pytest.approx([-1, -1]), [0, 0]]
    assert (of["random"]["change"].abs() < 0.4).all()


def test_regions_among_the_object_are_those_that_show_it(lab, monkeypatch):
    """A map that is right about them, and wrong about all others."""
    study = lab.cross
    cover = effect.by_region(study.scenes.reference_object_mask[study.order, 0])
    change = torch.rand(2, effect.REGIONS.cells, generator=torch.Generator().manual_seed(0))
    right = torch.where(cover > effect.HOLDS, change, -change)
    monkeypatch.setattr(effect, "maps_on_the_reference", lambda *_: {"right": right})
    monkeypatch.setattr(study, "change_by_region", lambda _: change)
    assert counterfactuals.of_regions(study, among_object=True)["right"]["blurred"].tolist() == pytest.approx([1, 1])
    assert (counterfactuals.of_regions(study)["right"]["blurred"] < 0.99).all()


def test_a_mean_in_the_mask_is_of_what_is_in_it():
    maps = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    inside = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    assert counterfactuals._mean_in(maps, inside).tolist() == [2.0]


def test_share_is_no_score_where_it_is_1_everywhere(lab):
    assert "share in the mask" not in counterfactuals.strengths(lab.cross)
    assert "share in the mask" in counterfactuals.strengths(lab.joint)


def test_the_part_says_what_it_measured(lab, section, monkeypatch):
    written = "\n".join(section.text)
    assert "nan" not in written
    assert f"In the cross-attention model {effect.NO_SHARE}" in section.text
    assert not any("In the joint attention model" in x for x in section.text)
    for name in ("R2G of the paper", "share", "G2R of the paper", "G2R by share", "geometry", "object"):
        assert f"| {name} |" in written
    assert len(section.verdicts) == 7
    for model, study in lab.studies.items():
        assert all(model in says for says in section.verdicts.values())
        monkeypatch.setattr(study, "run", None)
    assert counterfactuals.run(lab).text == section.text


def test_each_verdict_is_of_its_own_change(lab, section):
    positions, regions = counterfactuals.of_positions(lab.joint), counterfactuals.of_regions(lab.joint)
    expected = {
        "without the reference": (positions, "without the reference (Effect's own)"),
        "another reference in": (positions, "another one in its place"),
        "a blank one in": (positions, "a blank one in its place"),
        "taken away": (regions, "without the region (Effect's own)"),
        "painted over": (regions, "background over it"),
        "blurred": (regions, "blurred"),
    }
    said = []
    for words, (scores, column) in expected.items():
        (verdict,) = (says for question, says in section.verdicts.items() if words in question)
        said.append(bracketed(scores["R2G of the paper" if scores is positions else "G2R of the paper"][column], 2))
        assert f"of the paper {said[-1]}" in verdict.partition("joint attention: ")[2]
    assert len(set(said[3:])) == 3


def test_columns_that_are_effects_own_change_are_called_so(section):
    tables = [text for text in section.text if "| --- |" in text]
    heads = [[cell.strip() for cell in text.splitlines()[0].split("|")[2:-1]] for text in tables]
    assert [[head for head in of if head.startswith("joint") and "(Effect's own)" in head] for of in heads[:3]] == [
        ["joint attention: without the reference (Effect's own)",
         "joint attention: the same, from other noise (Effect's own)"],
        *[["joint attention: without the region (Effect's own)"]] * 2,
    ]  # fmt: skip


def test_how_well_the_strength_tells_has_its_interval(section):
    (verdict,) = (says for question, says in section.verdicts.items() if "says anything" in question)
    numbers = verdict.removesuffix(".").replace("; ", ", ").split("], ")
    assert len(numbers) > 8 and all("[" in number for number in numbers)
