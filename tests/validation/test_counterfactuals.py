"""Maps against what whole runs change by: with known answers, and the part in its short form on fewer regions."""

import pytest
import torch

from i2am_pack.demo import data, effect
from i2am_pack.validation.parts import counterfactuals


@pytest.fixture(scope="module", autouse=True)
def _one_change():
    """Each way to change a region is 16 whole runs of each model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counterfactuals, "CHANGED", dict.fromkeys(("without it", "painted", "blurred"), "blurred"))
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
    assert f"In the cross-attention model: {effect.NO_SHARE}" in section.text
    assert not any("In the joint attention model" in x for x in section.text)
    for name in ("R2G of the paper", "share", "G2R of the paper", "G2R by share", "geometry", "object"):
        assert f"| {name} |" in written
    assert len(section.verdicts) == 5
    for model, study in lab.studies.items():
        assert all(model in says for says in section.verdicts.values())
        monkeypatch.setattr(study, "run", None)
    assert counterfactuals.run(lab).text == section.text
