"""What each evaluation without something is compared with."""

import pytest
import torch

from i2am_core.effect import Removal, effect_of
from i2am_core.recording.effects import EffectRecorder, RegionRemoval
from i2am_core.tokens import TokenGrid

SHAPE = torch.Size((2, 3, 4, 4))
GRID = TokenGrid(1, 2)


def region(cut, number, route="everything"):
    return RegionRemoval(0, route, 0, cut, GRID, number)


def predictions(count):
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(0))


def test_a_region_taken_away_is_compared_with_all_and_one_alone_with_nothing_left():
    recorder = EffectRecorder(SHAPE, 1, 2**20)
    whole, without, directly, *cut, left, right = predictions(7)
    recorder.add(0, None, whole)
    recorder.add(0, Removal(0, 0, "directly"), directly)
    recorder.add(0, Removal(0, 0), without)
    for number in (0, 1):
        recorder.add(0, region("taken away", number), cut[number])
        recorder.add(0, region("only this left", number), (left, right)[number])
    regions = recorder.freeze({0: 0}).regions
    for number in (0, 1):
        away, alone = (regions[0, name].values[:, number] for name in ("taken away", "only this left"))
        torch.testing.assert_close(away, effect_of(whole, cut[number]))
        torch.testing.assert_close(alone, effect_of(without, (left, right)[number]))


def test_a_region_alone_by_a_route_is_compared_with_nothing_left_by_that_route():
    recorder = EffectRecorder(SHAPE, 1, 2**20)
    whole, without, directly, alone = predictions(4)
    for removed, prediction in (
        (None, whole), (Removal(0, 0), without), (Removal(0, 0, "directly"), directly),
        (region("only this left", 1, "directly"), alone),
    ):  # fmt: skip
        recorder.add(0, removed, prediction)
    measured = recorder.freeze({0: 0}).regions[0, "only this left"]
    torch.testing.assert_close(measured.values[:, 1], effect_of(directly, alone))


def test_a_region_alone_needs_the_prediction_without_its_reference():
    recorder = EffectRecorder(SHAPE, 1, 2**20)
    whole, without, alone = predictions(3)
    recorder.add(0, None, whole)
    recorder.add(0, Removal(0, 1), without)
    with pytest.raises(ValueError, match="the prediction without its reference"):
        recorder.add(0, region("only this left", 0), alone)
