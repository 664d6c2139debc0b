"""Measures of maps whose answer is known, and the part in its short form."""

import re

import pytest
import torch

from i2am_pack.validation.parts import localisation

TRUTH = torch.zeros(1, 4, 4, dtype=torch.bool)
TRUTH[0, :2, :2] = True  # 4 of 16 cells


def measured(values):
    mass, rank, pointing = localisation.measures(values, TRUTH)[:, 0].tolist()
    return mass, rank, pointing


def test_the_truth_has_1_and_what_is_outside_has_0():
    assert measured(TRUTH.float()) == (1, 1, 1)
    assert measured(3 * (~TRUTH).float()) == (0, 0, 0)


def test_each_measure_asks_something_else():
    values = TRUTH.float()
    values[0, 3, 3] = 2  # the highest is outside, as is a third of the sum
    values[0, 1, 1] = 0
    assert measured(values) == pytest.approx((3 / 5, 3 / 4, 0))


def test_equal_values_are_as_good_as_chance():
    assert measured(torch.ones(1, 4, 4)) == pytest.approx((1 / 4, 1 / 4, 1 / 4))
    assert measured(torch.zeros(1, 4, 4)) == pytest.approx((1 / 4, 1 / 4, 1 / 4))
    assert localisation.by_chance(torch.rand(1, 16, 16) > 0.5)[:, 0] == pytest.approx(0.5, abs=0.15)


def test_a_map_is_above_another_where_that_is_sure():
    one = torch.tensor([0.6, 0.7, 0.8, 0.7])
    for rival, above in ((one - 0.1, "above"), (one, "not above"), (torch.tensor([0.0, 1.0, 0.0, 1.0]), "not above")):
        measured = {"a": torch.stack([one, one]), "edges": torch.stack([rival, rival])}
        said = localisation._verdict("model", measured, ["edges"], ["a"])
        assert said.count(f"({above}, trained so)") == 2 and "relevance mass, edges" in said


@pytest.mark.timeout(300)
def test_the_part(lab, request):
    section = localisation.run(lab)
    text = "\n".join(section.text)
    assert text.count("| the truth itself | 1.00 [1.00, 1.00] | 1.00 [1.00, 1.00] | 1.00 [1.00, 1.00] |") == 6
    assert "nan" not in text and len(section.verdicts) == 3
    assert text.count("| R2G by share |") == 2, "of the joint model alone: in the other, share has no map"
    of_cross, _, of_joint = text.partition("### Joint attention")
    for trained, tables in ((False, 2), (True, 1)):
        assert of_cross.count(localisation.TRAINED[trained]) == tables and localisation.TRAINED[trained] not in of_joint
    for verdict in section.verdicts.values():
        assert not re.search(r"\d\.\d\d(?! \[|[,\]])", verdict), "each number has its interval"
    resumed = request.getfixturevalue("resumed")
    assert localisation.run(resumed) == section
