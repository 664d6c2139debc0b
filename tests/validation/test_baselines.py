"""Maps that are made without a model: of images and masks of which the answer is known."""

import pytest
import torch

from i2am_pack.demo import data
from i2am_pack.validation import baselines


def test_the_middle_is_the_highest_and_all_corners_are_the_lowest():
    one = baselines.centre(1)[0]
    middle = one[7:9, 7:9]
    assert (middle == one.max()).all()
    corners = torch.stack([one[y, x] for y in (0, -1) for x in (0, -1)])
    torch.testing.assert_close(corners, one.min().expand(4))
    assert 0 <= one.min() < one.max() <= 1


def test_chance_is_the_same_each_time_and_of_another_seed_another():
    first, again, other = (baselines.random(2, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


def test_edges_lie_where_colours_change():
    images = torch.zeros(1, 3, data.IMAGE, data.IMAGE)
    images[:, 1, :, 32:] = 1
    steep = baselines.edges(images)[0]
    assert (steep[:, [7, 8]] > 0).all()
    assert steep.sum() == steep[:, [7, 8]].sum()


def test_edges_of_a_slope_are_as_steep_as_it_is():
    slope = (torch.arange(data.IMAGE) * 0.01).expand(1, 3, data.IMAGE, data.IMAGE)
    torch.testing.assert_close(baselines.edges(slope), torch.full((1, 16, 16), 0.01 * 3**0.5))


def test_each_gets_the_mean_of_all_others():
    maps = torch.tensor([1.0, 2.0, 6.0]).view(3, 1, 1)
    assert baselines.of_others(maps).flatten().tolist() == [4.0, 3.5, 1.5]
    with pytest.raises(ValueError, match="draw two or more"):
        baselines.of_others(maps[:1])


def test_squares_are_read_from_masks():
    mask = torch.zeros(1, 1, data.IMAGE, data.IMAGE)
    mask[:, :, 8:44, 4:40] = 1
    assert baselines.squares(mask) == [(slice(2, 11), slice(1, 10))]


def test_what_is_expected_by_the_place_in_the_square_is_what_lies_there_in_others():
    """Left halves of squares of three sizes and places: of each, the left half is expected."""
    places = [(slice(y, y + side), slice(x, x + side)) for y, x, side in ((0, 0, 12), (3, 4, 10), (5, 1, 8))]
    maps = torch.zeros(3, data.GRID, data.GRID)
    for one, (rows, columns) in zip(maps, places, strict=True):
        one[rows, columns.start : (columns.start + columns.stop) // 2] = 1
    expected = baselines.by_place_in_square(maps, places)
    for one, guess, (rows, columns) in zip(maps, expected, places, strict=True):
        assert ((guess > 0.5) == (one > 0.5)).all()
        outside = torch.ones_like(one, dtype=torch.bool)
        outside[rows, columns] = False
        assert not guess[outside].any()


def test_a_guess_has_nothing_of_its_own_scene():
    maps = torch.rand(3, data.GRID, data.GRID, generator=torch.Generator().manual_seed(0))
    places = [(slice(2, 12), slice(2, 12))] * 3
    before = baselines.by_place_in_square(maps, places)[0]
    maps[0] = 7
    torch.testing.assert_close(baselines.by_place_in_square(maps, places)[0], before, atol=1e-5, rtol=0)


def test_all_of_a_study_are_there_in_its_order(lab):
    study = lab.joint
    for maps in (baselines.on_picture(study), baselines.on_reference(study)):
        assert tuple(maps) == baselines.BASELINES
        assert {x.shape for x in maps.values()} == {(len(study.order), data.GRID, data.GRID)}
    expected = baselines.cover(study.scenes.object_mask[study.order])
    assert torch.equal(baselines.on_picture(study)["object"], expected)
