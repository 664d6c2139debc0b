"""Deletion and insertion: orders and areas of known answers, and the part in its short form."""

import pytest
import torch

from i2am_pack.validation.parts import deletion


@pytest.fixture(scope="module", autouse=True)
def _one_level():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deletion, "LEVELS", (50,))
        yield


@pytest.fixture(scope="module")
def section(lab, _one_level):
    return deletion.run(lab)


def test_the_highest_come_first_and_equal_ones_by_chance():
    values = torch.tensor([[0.0, 3.0, 1.0, 3.0, 1.0, 1.0]]).repeat(50, 1)
    order = deletion.descending(values)
    assert values.gather(1, order)[0].tolist() == [3.0, 3.0, 1.0, 1.0, 1.0, 0.0]
    assert set(order[:, 0].tolist()) == {1, 3}
    assert set(order[:, 2].tolist()) == {2, 4, 5}
    assert torch.equal(order, deletion.descending(values))


def test_what_is_inserted_is_left_and_all_else_is_taken():
    order = torch.tensor([[2, 0, 1, 3], [3, 2, 1, 0]])
    deleted = deletion.taken(order, deletion.DELETION, 50)
    assert deleted.tolist() == [[True, False, True, False], [False, False, True, True]]
    assert torch.equal(deletion.taken(order, deletion.INSERTION, 50), ~deleted)
    assert not deletion.taken(order, deletion.DELETION, 0).any()
    assert deletion.taken(order, deletion.INSERTION, 0).all()


def test_the_area_of_a_line_is_its_middle():
    percent = torch.tensor(deletion.percents()).float() / 100
    torch.testing.assert_close(deletion.area(torch.stack([percent, 0 * percent + 2])), torch.tensor([0.5, 2.0]))


def test_a_curve_goes_from_the_plain_picture_to_the_one_without_the_reference(lab):
    for study in lab.studies.values():
        for kind, (first, last) in {"deletion": (0, -1), "insertion": (-1, 0)}.items():
            for curve in deletion._of_orders(lab, study, kind).values():
                assert curve["distance"].shape == (2, len(deletion.percents()))
                assert not curve["distance"][:, first].any()
                assert (curve["distance"][:, last] > 0.01).all()


def test_the_part_says_what_it_measured(section):
    written = "\n".join(section.text)
    assert "nan" not in written
    for name in (deletion.PAPER, deletion.SHARE, deletion.EFFECT, "random", "centre", "edges", "geometry", "object"):
        assert f"| {name} |" in written
    assert {f"{{{name}}}" for name in section.figures} <= set(section.text)
    assert len(section.figures) == 2
    (verdict,) = section.verdicts.values()
    assert "cross-attention" in verdict and "joint attention" in verdict


def test_nothing_is_sampled_again(lab, section, monkeypatch):
    monkeypatch.setattr(deletion, "painted_without", None)
    assert deletion.run(lab).text == section.text
