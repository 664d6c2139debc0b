"""Two references of the joint model: AUC of known answers, and the part in its short form."""

import pytest
import torch

from i2am_pack.validation.parts import two_references


@pytest.fixture(scope="module")
def section(lab):
    return two_references.run(lab)


def test_positions_are_told_apart_in_each_scene_by_itself():
    values = torch.tensor([[3.0, 2.0, 1.0, 9.0], [1.0, 1.0, 1.0, 9.0], [0.0, 4.0, 5.0, 9.0]])
    good = torch.tensor([[True, False, False, False]]).expand(3, -1)
    bad = torch.tensor([[False, True, True, False]]).expand(3, -1)
    assert two_references.auc_of_positions(values, good, bad).tolist() == [1.0, 0.5, 0.0]


def test_the_object_without_its_scene_is_what_effect_measured_before(lab):
    """The run with both routes measures more, and is the same run."""
    maps, study = two_references.measured(lab, True), lab.joint
    torch.testing.assert_close(maps["object everything"], study.measured()["effect"].mean(1), atol=1e-5, rtol=0)
    torch.testing.assert_close(maps["object share"], study.measured()["r2g_share"].flatten(1))


def test_maps_are_subtracted_the_right_way_round(lab):
    """Of a scene that gets all and an object that gets nothing, no position is the object's, and the other way."""
    study = lab.joint
    cells = study.in_mask[study.order].float()
    names = ("everything", "directly", "share", "paper")
    nothing = torch.zeros_like(cells)
    maps = {f"object {name}": cells for name in names} | {f"scene {name}": nothing for name in names}
    for name in ("Effect", "Effect, directly", "share", "R2G of the paper"):
        assert (two_references.of_positions(study, maps)[name]["in the mask"] == 1).all()
    maps = {f"object {name}": nothing for name in names} | {f"scene {name}": cells for name in names}
    for name in ("Effect", "Effect, directly", "share", "R2G of the paper"):
        assert (two_references.of_positions(study, maps)[name]["in the mask"] == 0).all()


def test_the_part_says_what_it_measured(lab, section, monkeypatch):
    written = "\n".join(section.text)
    assert "nan" not in written
    assert "| everything | " in written and "| directly | " in written
    (verdict,) = section.verdicts.values()
    assert "the best baseline" in verdict
    monkeypatch.setattr(two_references, "_measured", lambda *_: pytest.fail("measured again"))
    assert two_references.run(lab).text == section.text
