"""Cells of a reference that are taken away, other ones in each picture: against I2AM Steer, scene by scene."""

import pytest
import torch

from i2am_pack.demo import data, effect
from i2am_pack.i2am_core import TokenGrid, regions_of
from i2am_pack.nodes.steer import I2AMSteer
from i2am_pack.validation.cells_taken_away import painted_without

CELLS = data.GRID**2


@pytest.fixture(params=["cross-attention", "joint attention"])
def study(lab, request):
    return lab.studies[request.param]


def test_each_picture_is_that_which_steer_makes_with_its_own_region(lab):
    """Where the reference has competitors; in a softmax of its own, Steer weighs the values of a part."""
    study = lab.joint
    cells = torch.rand(len(study.order), CELLS, generator=torch.Generator().manual_seed(0)) < 0.3
    pictures = painted_without(study, cells)
    for scene, own, picture in zip(study.order, cells, pictures, strict=True):
        region = own.view(1, data.GRID, data.GRID).float()
        region = region.repeat_interleave(data.PATCH, 1).repeat_interleave(data.PATCH, 2)
        inputs = study.unsteered | {"strength": 0.0, "reference_region": region}
        (model,) = I2AMSteer.execute(study.model, **inputs).args
        alone = data.to_image(study.run(model, "own", scene[None]))[0]
        torch.testing.assert_close(picture, alone, atol=1e-4, rtol=0)
    assert study.distance(pictures, study.pictures(effect.PLAIN), study.scenes.mask[study.order]).min() > 1e-3


def test_regions_are_those_that_effect_takes_away_in_each_picture_another(study):
    regions = regions_of(TokenGrid(data.GRID, data.GRID), effect.REGIONS)
    pictures = painted_without(study, torch.stack([regions == 6, regions == 9]))
    for n, number in enumerate((6, 9)):
        expected = study.pictures(study.without_region(number, "taken away"))[n]
        torch.testing.assert_close(pictures[n], expected, atol=1e-5, rtol=0)
    assert not torch.equal(pictures[1], study.pictures(study.without_region(6, "taken away"))[1])


def test_all_cells_are_the_reference_and_none_are_nothing(study):
    without = painted_without(study, torch.ones(len(study.order), CELLS, dtype=torch.bool))
    torch.testing.assert_close(without, study.pictures(study.without), atol=1e-5, rtol=0)
    plain = painted_without(study, torch.zeros(len(study.order), CELLS, dtype=torch.bool))
    assert torch.equal(plain, study.pictures(effect.PLAIN))


def test_cells_that_do_not_fit_are_refused(study):
    with pytest.raises(ValueError, match="say for each whether it goes"):
        painted_without(study, torch.ones(len(study.order), 9, dtype=torch.bool))
