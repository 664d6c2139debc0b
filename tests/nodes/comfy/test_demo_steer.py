"""The demo's tables of I2AM Steer, on few scenes and steps: what they are made of is what they say."""

import pytest
import torch
from this_core import JOINT_DEMO

from i2am_pack.demo import data, steer
from i2am_pack.demo.subject import CrossAttention, JointAttention
from i2am_pack.nodes.comfy.tags import KEY

SCENES, STEPS = 3, 2


@pytest.fixture(scope="module")
def study():
    return steer.Study(SCENES, STEPS)


@pytest.fixture(
    scope="module", params=[CrossAttention, pytest.param(JointAttention, marks=JOINT_DEMO)], ids=["cross", "joint"]
)
def either(request, study):
    return study if request.param is CrossAttention else steer.Study(SCENES, STEPS, subject=JointAttention())


def test_two_references_become_the_first_or_lean_to_the_second(study):
    first, second = study.paint("own"), study.paint("other")
    muted = study.paint("own + other", strength=0.0, reference=1)
    torch.testing.assert_close(muted, first, atol=1e-5, rtol=0)
    to_second = [
        study.distance(study.paint("own + other", strength=s, reference=1), second).mean() for s in (0.25, 2.0, 10.0)
    ]
    assert study.distance(muted, second).mean() > to_second[0] > to_second[1] > to_second[2]


def test_without_the_reference_it_does_not_matter_which(either):
    """Muted, nothing of it is left, by either way: in a context of its own to the bit, beside others to rounding."""
    ways = [(name, by) for name in ("own", "own, half") for by in ("output", "attention")]
    muted = [either.paint(name, strength=0.0, by=by) for name, by in ways]
    for other in muted[1:]:
        torch.testing.assert_close(other, muted[0], atol=0 if either.subject.object == 0 else 1e-4, rtol=0)
    assert either.distance(muted[0], either.paint("own")).min() > 0.05


def test_a_weakened_reference_paints_worse(either):
    full, half, quarter = (either.psnr(either.paint(name)).mean() for name in ("own", "own, half", "own, quarter"))
    assert full > half > quarter


def test_distance_and_psnr_are_of_the_mask_alone(study):
    truth, mask = study.scenes.image, study.scenes.mask
    off = truth + 0.1 * mask + 0.5 * (1 - mask)
    torch.testing.assert_close(study.distance(off, truth), torch.full((SCENES,), 0.1))
    torch.testing.assert_close(study.psnr(off), torch.full((SCENES,), 20.0))


def test_regions_are_what_they_are_called(study):
    cells = {
        name: torch.nn.functional.avg_pool2d(mask[:, None], data.PATCH)[:, 0] for name, mask in study.regions.items()
    }
    on_object, background = cells["object"] > 0.5, cells["as much background"] > 0.5
    assert (on_object.flatten(1).sum(1) == background.flatten(1).sum(1)).all()
    assert not (on_object & background).any()
    assert torch.equal(cells["all but the object"] > 0.5, ~on_object)
    left, right = study.regions["left half"], study.regions["right half"]
    assert torch.equal(left + right, study.scenes.mask[:, 0])
    assert (left.flatten(1).sum(1) - right.flatten(1).sum(1)).abs().max() <= 12 * data.PATCH**2  # one column of cells
    x = torch.arange(data.IMAGE).expand(SCENES, data.IMAGE, -1)
    assert (torch.where(left > 0, x, 0).amax((1, 2)) < torch.where(right > 0, x, data.IMAGE).amin((1, 2))).all()


def test_steered_in_a_half_changes_that_half(either):
    plain, picture = either.paint("own"), either.paint("own", strength=0.0, generated_region="left half")
    left, right = (
        either.distance(picture, plain, either.regions[f"{side} half"][:, None]) for side in ("left", "right")
    )
    assert (left > 1.5 * right).all()


def test_both_references_are_marked(study):
    ((tokens, about),) = study.conditionings["own, half + other"]
    assert tokens.shape[1] == 512
    assert [(t["start"], t["count"], t["grid"]) for t in about[KEY]] == [(0, 256, (16, 16)), (256, 256, (16, 16))]


def test_an_interrupted_run_goes_on_from_its_cache(study, tmp_path):
    first = steer.Study(SCENES, STEPS, cache=tmp_path).paint("own", strength=2.0, by="output")
    again = steer.Study(SCENES, STEPS, cache=tmp_path)
    again._sampled = None  # nothing is sampled again
    assert torch.equal(again.paint("own", strength=2.0, by="output"), first)
    assert torch.equal(study.paint("own", strength=2.0, by="output"), first)


def test_a_mean_lies_in_its_bracket():
    mean, low, high = steer.bracketed(torch.arange(64.0), 1).translate(str.maketrans("", "", "[],")).split()
    assert float(low) < float(mean) == 31.5 < float(high)
    assert 6 < float(high) - float(low) < 12  # +- 1.96 times the spread, by the root of 64
    assert steer.bracketed(torch.full((4,), -0.001), 1, sign=True) == "+0.0 [+0.0, +0.0]"


def test_every_table_is_written(either):
    """Of the second model those alone that the first has not: each costs it half a minute."""
    tables = steer.tables_of(either)
    for make in tables if either.subject.object == 0 else set(tables) - set(steer.TABLES):
        written = make(either)
        assert written.startswith("### ")
        widths = {line.count("|") for block in written.split("\n\n") for line in block.splitlines() if line[0] == "|"}
        assert widths
        assert "nan" not in written
