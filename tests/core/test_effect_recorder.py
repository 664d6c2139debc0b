"""Effects while a run lasts: pairs of predictions, parts of them, the noise floor, regions, and a budget of memory."""

import pytest
import torch

from i2am_core.effect import Removal
from i2am_core.recording.effects import NO_MEMORY, EffectRecorder, Frames, RegionRemoval
from i2am_core.tokens import TokenGrid

SHAPE = torch.Size((2, 3, 4, 5))
VIDEO = torch.Size((1, 3, 5, 2, 2))
GRID = TokenGrid(1, 2)


def latents(count, shape=SHAPE):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, *shape, generator=generator).unbind()


def rms(one, other):
    return (one.double() - other.double()).square().mean(1).sqrt().flatten(1)


def close(got, expected):
    torch.testing.assert_close(got.double(), expected, rtol=1e-6, atol=1e-6)


def recorder(shape=SHAPE, steps=2, budget=2**20, **settings):
    return EffectRecorder(shape, steps, budget, **settings)


def test_effects_are_differences_to_the_prediction_with_everything_of_the_same_step():
    r, (a, b, c, d, e) = recorder(), latents(5)
    for step, removed, prediction in (
        (0, None, a),
        (0, "nothing", b),
        (0, Removal(0, 1), c),
        (0, Removal(0, 1, "directly"), b),
        (3, None, d),
        (3, Removal(3, 1), e),
        (3, "nothing", d),
    ):
        r.add(step, removed, prediction)
    effects = r.freeze({1: 0})
    assert set(effects.maps) == {Removal(0, 0), Removal(0, 0, "directly"), Removal(3, 0)}
    close(effects.maps[Removal(0, 0)], rms(a, c))
    close(effects.maps[Removal(0, 0, "directly")], rms(a, b))
    close(effects.maps[Removal(3, 0)], rms(d, e))
    close(effects.floor, rms(a, b))  # the largest of both steps
    assert torch.equal(effects.predictions[0, None], a)
    assert torch.equal(effects.predictions[0, 0], c)  # of the first route
    assert torch.equal(effects.predictions[3, 0], e)


def test_what_the_sampler_changes_in_place_later_is_not_changed_here():
    r, (a, b) = recorder(), latents(2)
    given = a.clone()
    r.add(0, None, given)
    given.zero_()
    r.add(0, Removal(0, 0), b)
    effects = r.freeze({0: 0})
    close(effects.maps[Removal(0, 0)], rms(a, b))
    assert torch.equal(effects.predictions[0, None], a)


def test_references_get_other_numbers_and_those_without_one_are_left_out():
    r, (a, b) = recorder(), latents(2)
    r.add(0, None, a)
    for owner in (0, 2, 5, "all references", "text", "conditioning"):
        r.add(0, Removal(0, owner), b)
        if isinstance(owner, int):
            r.add(0, RegionRemoval(0, "everything", owner, "taken away", GRID, 1), b)
    effects = r.freeze({5: 0, 0: 1})
    assert effects.owners == [0, 1, "all references", "text", "conditioning"]
    assert {reference for reference, _ in effects.regions} == {0, 1}
    assert {owner for _, owner in effects.predictions} == {None, 0, 1, "all references", "text", "conditioning"}


def test_parts_of_a_video_add_up_with_their_weights():
    """Two windows that share the frame in the middle; the effect is of the whole, not the sum of effects."""
    r, (a, b) = recorder(VIDEO), latents(2, VIDEO)
    windows = [
        Frames(torch.tensor([0, 1, 2]), torch.tensor([1.0, 1.0, 0.25])),
        Frames(torch.tensor([2, 3, 4]), torch.tensor([0.75, 1.0, 1.0])),
    ]
    for frames in windows:
        for removed, prediction in ((None, a), (Removal(0, "text"), b), ("nothing", a)):
            r.add(0, removed, prediction[:, :, frames.numbers], frames)
    r.add(1, None, b)
    effects = r.freeze({})
    close(effects.maps[Removal(0, "text")], rms(a, b))
    assert not effects.floor.any()
    torch.testing.assert_close(effects.predictions[0, "text"], b)


@pytest.mark.parametrize("route", ["everything", "directly"])
def test_a_region_is_compared_with_everything_or_with_nothing_left(route):
    r, (a, whole, b, c) = recorder(), latents(4)
    r.add(0, None, a)
    r.add(0, Removal(0, 0, route), whole)
    for cut in ("taken away", "only this left"):
        for number, prediction in enumerate((b, c)):
            r.add(0, RegionRemoval(0, route, 0, cut, GRID, number), prediction)
    effects = r.freeze({0: 0})
    for cut, other in (("taken away", a), ("only this left", whole)):
        regions = effects.regions[0, cut]
        assert (regions.step, regions.route, regions.grid) == (0, route, GRID)
        for number, prediction in enumerate((b, c)):
            close(regions.values[:, number], rms(other, prediction))


def test_what_is_left_alone_needs_the_whole_measured_in_the_same_step_and_way():
    r, (a, b) = recorder(), latents(2)
    r.add(0, None, a)
    r.add(0, Removal(0, 0), b)
    r.add(0, Removal(0, "all references"), b)
    for step, route, reference in ((0, "directly", 0), (0, "everything", 1)):
        with pytest.raises(ValueError, match="what the whole reference does was not measured"):
            r.add(step, RegionRemoval(step, route, reference, "only this left", GRID, 0), b)
    r.add(1, None, a)
    with pytest.raises(ValueError, match="what the whole reference does was not measured"):
        r.add(1, RegionRemoval(1, "everything", 0, "only this left", GRID, 0), b)
    assert not r.freeze({0: 0}).regions


def test_what_nothing_reads_has_no_effect():
    """Of a region that is all of a reference, nothing else is to be taken away: it does what the reference does."""
    r, (a, b) = recorder(), latents(2)
    r.add(0, None, a)
    r.add(0, Removal(0, 0), b)
    one = TokenGrid(1, 1)
    r.no_effect(RegionRemoval(0, "everything", 0, "only this left", one, 0))
    r.no_effect(RegionRemoval(0, "everything", 0, "taken away", one, 0))
    r.no_effect(Removal(0, 1))
    for cut in ("taken away", "only this left"):
        r.no_effect(RegionRemoval(0, "everything", 1, cut, one, 0))
    effects = r.freeze({0: 0, 1: 1})
    close(effects.regions[0, "only this left"].values[:, 0], rms(a, b))
    zeros = (
        effects.regions[0, "taken away"].values,
        effects.maps[Removal(0, 1)],
        *(effects.regions[1, cut].values for cut in ("taken away", "only this left")),
    )
    assert not any(x.any() for x in zeros)
    assert (0, 1) not in effects.predictions


def test_what_is_not_measured_has_its_first_reason():
    r = recorder()
    assert r.is_empty and not r.is_unmeasured("the text")
    r.why_not("the text", "first")
    r.why_not("the text", "second")
    assert r.is_unmeasured("the text") and not r.is_empty
    assert r.freeze({}).unmeasured == {"the text": "first"}


def test_latents_are_as_a_vae_takes_them_and_effects_as_the_model_has_them():
    r, (a, b) = recorder(as_latent=lambda x: 2 * x + 1), latents(2)
    r.add(0, None, a)
    r.add(0, Removal(0, 0), b)
    effects = r.freeze({0: 0})
    close(effects.maps[Removal(0, 0)], rms(a, b))
    torch.testing.assert_close(effects.predictions[0, 0], 2 * b + 1)


def test_predictions_are_held_within_the_budget_but_effects_always():
    whole = 4 * SHAPE.numel()
    roomy, tight, tiny = (recorder(budget=budget) for budget in (2**20, 5 * whole // 2, whole // 8))
    a, b = latents(2)
    for r in (roomy, tight, tiny):
        for step in range(4):
            r.add(step, None, a)
            r.add(step, Removal(step, 0), b)
    effects = [r.freeze({0: 0}) for r in (roomy, tight, tiny)]
    assert all(set(x.maps) == {Removal(step, 0) for step in range(4)} for x in effects)
    assert {x.dtype for x in effects[0].predictions.values()} == {torch.float32}
    assert not effects[0].unmeasured
    assert {x.dtype for x in effects[1].predictions.values()} == {torch.float16}
    assert set(effects[1].predictions) < set(effects[0].predictions)
    assert all((step, None) in effects[1].predictions for step, _ in effects[1].predictions)
    assert not effects[2].predictions
    assert effects[1].unmeasured == effects[2].unmeasured == {"pictures with and without": NO_MEMORY}
    for x, r in zip(effects, (roomy, tight, tiny), strict=True):
        assert r.nbytes == x.nbytes - x.floor.nbytes
    assert sum(x.nbytes for x in effects[1].predictions.values()) <= 5 * whole // 2


def test_regions_that_do_not_fit_are_known_before():
    cells = SHAPE[0] * SHAPE[2:].numel()
    r = recorder(budget=4 * cells * 9)
    assert r.regions_fit(9) and not r.regions_fit(10)
    r.no_effect(Removal(0, 0))
    assert r.regions_fit(8) and not r.regions_fit(9)


def test_what_is_no_number_is_no_effect():
    r, (a, b) = recorder(), latents(2)
    r.add(0, None, a)
    with pytest.raises(ValueError, match="values that are not numbers"):
        r.add(0, Removal(0, 0), b.clone().index_fill_(1, torch.tensor([1]), torch.nan))
    r.add(0, Removal(0, "all references"), b)
    assert set(r.freeze({0: 0}).maps) == {Removal(0, "all references")}


def test_what_is_no_number_in_one_of_several_parts_is_a_reason():
    r, (a, b) = recorder(VIDEO), latents(2, VIDEO)
    whole = Frames(torch.arange(5), torch.ones(5))
    r.add(0, None, a, whole)
    r.add(0, Removal(0, "text"), b * torch.inf, whole)
    r.add(0, Removal(0, "all references"), b, whole)
    effects = r.freeze({})
    assert set(effects.maps) == {Removal(0, "all references")}
    assert effects.unmeasured == {"the text": "the prediction holds values that are not numbers"}
