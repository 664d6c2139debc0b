"""Correspondence: accuracies of known answers, and the part in its short form."""

import pytest
import torch

from i2am_pack.demo import data, evaluate
from i2am_pack.i2am_core import TokenGrid
from i2am_pack.validation.parts import correspondence


@pytest.fixture(scope="module")
def section(lab):
    return correspondence.run(lab)


@pytest.mark.parametrize("side", [16, 8])
def test_the_true_patch_is_right_and_one_three_patches_off_is_not(lab, side):
    scenes, grid = lab.cross.scenes, TokenGrid(side, side)
    truth, on_object = evaluate.true_patches(scenes, grid)
    nearest = truth.round().clamp(0, data.GRID - 1)
    best = (nearest[..., 1] * data.GRID + nearest[..., 0]).long()
    right, same = evaluate.correspondence_hits(scenes, best, grid)
    assert torch.equal(on_object, same)
    assert (correspondence.accuracy((right, on_object)) == 1).all()
    off = (best + 3) % data.GRID**2  # along the row, or into the next
    assert not evaluate.correspondence_hits(scenes, off, grid)[0][on_object].any()


def test_chance_is_the_part_of_all_patches_that_are_near():
    truth = torch.tensor([[[7.0, 7.0], [7.5, 7.5], [0.0, 15.0]]])
    expected = torch.tensor([[9.0, 4.0, 4.0]]) / data.GRID**2
    torch.testing.assert_close(correspondence.by_chance(truth), expected)


def test_accuracy_is_of_each_scene_and_of_its_object_alone():
    values = torch.tensor([[True, False, True], [True, True, True]])
    on_object = torch.tensor([[True, True, False], [False, False, True]])
    assert correspondence.accuracy((values, on_object)).tolist() == [0.5, 1.0]


def test_layers_come_in_the_order_of_the_model(lab):
    sampled = evaluate.sample(lab.cross.subject, 2, 1, 2)
    layers = [layer.name for layer in sampled.attribution.layers]
    assert list(correspondence.of_layers(lab, lab.cross)) == layers


def test_a_model_with_losses_on_its_attention_corresponds(lab):
    best = max(correspondence.accuracy(hits).mean() for _, hits in correspondence.of_layers(lab, lab.cross).values())
    assert best > 0.9


def test_the_part_says_what_it_measured(lab, section, monkeypatch):
    written = "\n".join(section.text)
    assert "nan" not in written
    assert written.count("| by geometry alone | 16x16 |") == 2
    assert "{layers}" in section.text and list(section.figures) == ["layers"]
    (verdict,) = section.verdicts.values()
    assert "cross-attention" in verdict and "joint attention" in verdict
    monkeypatch.setattr(correspondence, "_strongest", lambda _: pytest.fail("sampled again"))
    assert correspondence.run(lab).text == section.text
