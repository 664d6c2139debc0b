"""The demo's tables of I2AM Effect, on few scenes and steps: what they are made of is what they say."""

import pytest
import torch
from this_core import JOINT_DEMO

from i2am_pack.demo import data, effect, evaluate
from i2am_pack.demo.subject import CrossAttention, JointAttention
from i2am_pack.i2am_core import has_competitors
from i2am_pack.i2am_core.effect import Removal, effect_of

pytestmark = pytest.mark.timeout(900)
SCENES, STEPS = 2, 2


@pytest.fixture(
    scope="module", params=[CrossAttention, pytest.param(JointAttention, marks=JOINT_DEMO)], ids=["cross", "joint"]
)
def study(request, tmp_path_factory):
    """Each of its runs is sampled once for all tests that ask for it."""
    return effect.Study(SCENES, STEPS, cache=tmp_path_factory.mktemp("study"), subject=request.param())


def test_a_whole_run_without_the_reference_is_one_that_mutes_it(study):
    """Effect and Steer share no code that would take the reference away from a run."""
    muted = study.paint("own", strength=0.0, by="output")[study.order]
    torch.testing.assert_close(study.pictures(study.without), muted, atol=1e-5, rtol=0)


def test_what_is_measured_in_the_last_step_is_what_the_picture_changes_by(study):
    """In a run of one step the effect is the difference of two finished pictures, where none is clamped."""
    once, owner = effect.Study(SCENES, 1, subject=study.subject), study.subject.object
    whole = torch.arange(SCENES)
    with_, measured = once.attribution("own", 1.0, whole, effect.NOTHING_MORE)
    model = effect.taken_away(once.model, Removal(0, owner))
    changed = effect_of(with_, once.run(model, "own", whole))
    inside = once.in_mask
    torch.testing.assert_close(measured.effects.maps[Removal(0, owner)][inside], changed[inside], atol=1e-4, rtol=1e-3)


def test_measuring_does_not_change_the_picture(study):
    plain = study._painted_in(effect.PLAIN, study.order)
    assert torch.equal(study.measured()["image"], plain)
    assert torch.equal(study.pictures(effect.PLAIN), plain)


def test_the_effect_lies_in_the_mask_and_ranks_as_the_change_does(study):
    own, inside = study.measured(), study.in_mask[study.order]
    change = study.change(study.pictures(study.without), own["image"])
    assert (effect.spearman(own["effect"].mean(1), change, inside) > 0.7).all()
    assert (study.in_mask_of(own["effect"]) > 0.02).all()
    assert own["effect"].shape == (SCENES, STEPS, data.GRID**2)
    assert own["steps"].tolist() == [[0, 1]] * SCENES


def test_regions_that_hold_the_object_count_most(study):
    own = study.measured()
    cover = effect.by_region(study.scenes.reference_object_mask[study.order, 0])
    assert (effect.spearman(study.in_mask_of(own["taken away"]), cover) > 0.5).all()


def test_a_blank_reference_has_less_to_give(study):
    good, blank = (study.in_mask_of(study.measured(name)["effect"]).mean(1) for name in ("own", "blank"))
    assert (good > blank).all()


def test_a_region_is_painted_over_and_nothing_else_is(study):
    scenes = study.scenes
    grid = data.IMAGE // effect.PER_SIDE
    for how in effect.PAINTED_OVER:
        painted = effect.reference_images(scenes, f"{how} 6")  # row 1, column 2
        changed = (painted != scenes.reference).any(1)
        assert changed[:, grid : 2 * grid, 2 * grid : 3 * grid].any()
        changed[:, grid : 2 * grid, 2 * grid : 3 * grid] = False
        assert not changed.any()
    over = effect.reference_images(scenes, "mean 6")[:, :, grid : 2 * grid, 2 * grid : 3 * grid]
    assert over.var((2, 3)).max() < 1e-8


def test_another_way_is_refused(study):
    with pytest.raises(ValueError, match="no reference 'painted 6'"):
        effect.reference_images(study.scenes, "painted 6")


def test_share_is_of_something_where_the_object_is_not_alone(study):
    assert has_competitors(study.measured()["r2g_share"]) != study.alone


def test_a_blurred_region_has_its_colours_and_little_of_its_detail(study):
    scenes = study.scenes
    grid = data.IMAGE // effect.PER_SIDE
    where = (slice(None), slice(None), slice(grid, 2 * grid), slice(2 * grid, 3 * grid))
    own, over = scenes.reference[where], effect.reference_images(scenes, "blurred 6")[where]
    torch.testing.assert_close(over.mean((2, 3)), own.mean((2, 3)), atol=0.06, rtol=0)
    assert (over.diff(dim=3).abs().mean((1, 2, 3)) < own.diff(dim=3).abs().mean((1, 2, 3)) / 2).all()


def test_a_blur_leaves_a_plain_field_as_it_is():
    plain = torch.tensor([0.1, 0.5, 0.9]).view(1, 3, 1, 1).expand(1, 3, data.IMAGE, data.IMAGE)
    torch.testing.assert_close(effect.blurred(plain), plain)


def test_the_background_is_the_one_beside_the_object(study):
    beside = study.scenes.reference_object_mask == 0
    off = (effect.background(study.scenes.reference) - study.scenes.reference).abs() * beside
    assert beside.any()
    assert off.max() < 1e-5


def test_ranks_and_correlations():
    assert evaluate.ranks(torch.tensor([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]
    rows = torch.tensor([[1.0, 2.0, 4.0, 9.0], [9.0, 4.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    to = torch.tensor([[0.0, 0.1, 0.2, 0.3]]).expand(3, -1)
    torch.testing.assert_close(effect.spearman(rows, to), torch.tensor([1.0, -1.0, 0.0]))
    where = torch.tensor([[True, True, False, True]]).expand(3, -1)
    torch.testing.assert_close(effect.spearman(rows, to, where), torch.tensor([1.0, -1.0, 0.0]))
    assert effect.spearman(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([[1.0, 2.0, 3.0]])).item() == pytest.approx(
        0.5
    )


def test_auc_counts_pairs():
    assert effect.auc(torch.tensor([2.0, 3.0]), torch.tensor([0.0, 1.0])) == 1
    assert effect.auc(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 1.0])) == 0.5
    assert effect.auc(torch.tensor([2.0, 0.0]), torch.tensor([1.0])) == 0.5


def test_an_interrupted_run_goes_on_from_its_cache(study, tmp_path):
    first = effect.Study(SCENES, STEPS, cache=tmp_path, subject=study.subject).pictures(study.without)
    again = effect.Study(SCENES, STEPS, cache=tmp_path, subject=study.subject)
    again.run = None  # nothing is sampled again
    assert torch.equal(again.pictures(study.without), first)
    assert not torch.equal(first, study.pictures(effect.PLAIN))


def test_one_cache_serves_more_scenes_than_before(tmp_path):
    plain = [effect.Study(3, 1, cache=tmp_path, first=first).pictures(effect.PLAIN) for first in (2, 3)]
    without = [effect.Study(3, 1, cache=tmp_path, first=first) for first in (2, 3)]
    without = [study.pictures(study.without) for study in without]
    for fewer, more in (plain, without):
        assert (len(fewer), len(more)) == (2, 3)
        torch.testing.assert_close(more[:2], fewer, atol=1e-5, rtol=0)


def test_a_part_of_the_scenes_are_the_first_in_order():
    study = effect.Study(3, 1, first=2)
    torch.testing.assert_close(
        study.pictures(effect.PLAIN),
        data.to_image(study.run(study.model, "own", study.order[:2])),
        atol=1e-5,
        rtol=0,
    )


def test_tables_are_written(study):
    """Strengths of references take five runs, and are of the same code for both models."""
    several = [effect.strength_of_references] if study.subject.object == 0 else []
    for make in (effect.where_the_picture_changes, *several):
        written = make(study)
        assert written.startswith("### ")
        assert "nan" not in written


def test_a_picture_is_drawn(study, tmp_path):
    effect.draw(study, tmp_path / "effect.png", 1)
    with effect.Image.open(tmp_path / "effect.png") as image:
        assert image.width > 3 * image.height
