"""What is kept of a run at every budget: each level is that of the whole run, as exactly as the run's notes say."""

import functools
import itertools
import re

import pytest
import torch
from selected import maps

from i2am_core import LEVELS, Layer, Place, Positions, Recorder, Reference, Selection, TokenGrid, attribute, span
from i2am_core.errors import UnresolvedAxis
from i2am_core.kinds import UNSCOPED
from i2am_core.recording.detail import Resolution, details
from i2am_core.recording.recorder import OVER_BUDGET
from i2am_core.showing.view import choose_detail, view

STEPS = 6
EULER = tuple(range(STEPS))
HEUN = (0, *(step for step in range(1, STEPS) for _ in range(2)))
HEUNPP2 = (0, 1, 2, 1, 2, 3, 2, 3, 4, 3, 4, 5, 4, 5, 5)
PICTURE, VIDEO = TokenGrid(6, 4), TokenGrid(3, 4, 3)
LAYERS = {PICTURE: [Layer("a", PICTURE, 6), Layer("b", TokenGrid(3, 2), 8)], VIDEO: [Layer(x, VIDEO, 6) for x in "ab"]}
REFERENCES = {PICTURE: [TokenGrid(3, 4), TokenGrid(5, 5)], VIDEO: [TokenGrid(3, 4, 2), None]}


def run(steps, grid, budget, late=0):
    """A run of two layers and two references, of which the last turn up in step ``late``; and the most that it took."""
    g = torch.Generator().manual_seed(0)
    recorder, most = Recorder(torch.linspace(1, 0, STEPS + 1), 2, budget), 0
    for n, step in enumerate(steps):
        for layer in LAYERS[grid][: 1 if step < late else 2]:
            for number, its in enumerate(REFERENCES[grid][: 1 if step < late else 2]):
                tokens = its.cells if its else 7
                q, k = (torch.randn(2, layer.heads, x, 4, generator=g) * 2 for x in (layer.grid.cells, tokens + 9))
                scope = (torch.arange(layer.grid.cells) % 3 == 0).expand(2, -1)
                group = span(f"reference {number}", 5, its, tokens)
                (m,) = attribute(q, k, [group], positions=Positions(scope=scope))
                known = recorder.reference(Reference.of(group))
                recorder.add(Place(layer, step, known, n, its), m)
                most = max(most, taken(recorder))
    mask = torch.ones(2, grid.height, grid.width) if grid.frames == 1 else None
    return recorder.freeze(grid=grid, denoise_mask=mask), most, recorder._budget


def taken(recorder):
    """Bytes of all sums."""
    open_ = [sums for run in recorder._sums for by_key in run.open.values() for sums in by_key.values()]
    closed = [sums for run in recorder._sums for sums in run.closed.values()]
    return sum(x.nbytes for sums in (*open_, *closed) for x in sums.maps.values())


@functools.cache
def of_every_detail(steps, grid, late=0):
    """The whole run; and runs at just the budgets that the details take, one of each: heads, bins, precision."""
    whole, _, budget = run(steps, grid, 2**30, late)
    runs = {}
    for detail in details(STEPS):
        attribution, most, _ = run(steps, grid, budget._bytes_of(detail), late)
        key = (attribution.heads, len(attribution.bins), tuple(n for n in attribution.notes if "half" in n))
        runs.setdefault(key, (attribution, most, budget._bytes_of(detail)))
    return whole, runs


def tolerance(attribution):
    """What the notes say, of any map."""
    return max(
        [float(x) / 100 for note in attribution.notes for x in re.findall(r"off by ([\d.e-]+) %", note)], default=1e-6
    )


def compare(whole, attribution, approximate=False):
    """Every level of every kind; returns those that were not resolved."""
    unresolved = set()
    for kind in UNSCOPED:
        for level in LEVELS:
            for reference in range(len(whole.references)):
                of = {"reference": reference, "item": 1, "normalization": kind.normalization}
                try:
                    expected = maps(whole, kind.direction, level, time_groups=3, **of)
                except ValueError:
                    continue
                try:
                    got = maps(attribution, kind.direction, level, time_groups=3, **of)
                except UnresolvedAxis as error:
                    unresolved.add((level, error.axis))
                    continue
                if got.labels != expected.labels and level in ("time", "reference"):
                    continue  # groups of steps that are merged already
                difference, scale = (got.values - expected.values).abs(), expected.values.amax((-2, -1), keepdim=True)
                if approximate:
                    assert difference.mean() <= 0.15 * expected.values.mean(), (kind, level, of)
                    continue
                allowed = tolerance(attribution) * expected.values + 1e-6 * scale
                assert (difference <= 2 * allowed).all(), (kind, level, of)
    return unresolved


@pytest.mark.parametrize("grid", [PICTURE, VIDEO], ids=["picture", "video"])
@pytest.mark.parametrize(("steps", "late"), [(HEUN, 0), (EULER, 4)], ids=["heun", "late"])
def test_every_level_is_that_of_the_whole_run_at_every_budget(steps, late, grid):
    whole, runs = of_every_detail(steps, grid, late)
    assert whole.heads == "in each step" and not any("half" in note for note in whole.notes)
    heads = {heads for heads, _, _ in runs}
    assert {"in each step", "over steps", "merged"} <= heads
    assert ("over steps and frames" in heads) == (grid is VIDEO)
    for attribution, took, budget in runs.values():
        assert took <= budget or OVER_BUDGET in attribution.notes
        unresolved = compare(whole, attribution)
        assert unresolved == ({("head", "heads")} if attribution.heads == "merged" else set())


@pytest.mark.parametrize("grid", [PICTURE, VIDEO], ids=["picture", "video"])
def test_a_sampler_that_returns_to_steps_is_exact_or_said_to_be_not(grid):
    whole, runs = of_every_detail(HEUNPP2, grid)
    exact = set()
    for attribution, _, _ in runs.values():
        returned = any("came back" in note for note in attribution.notes)
        exact.add(not returned)
        compare(whole, attribution, approximate=returned or len(attribution.bins) < STEPS)
    assert exact == {True, False}


def test_details_take_ever_less():
    for steps in (20, 50):
        ladder = list(details(steps))
        assert ladder[0].by_step == Resolution(steps, heads=True) and ladder[-1].by_step.bins == 1
        for heads in (8, 24, 40):
            taken = [sum(x.bytes_a_value * (heads if x.heads else 1) for x in detail.resolutions) for detail in ladder]
            pictures = [x for x, detail in zip(taken, ladder, strict=True) if detail.heads != "over steps and frames"]
            assert all(a >= b for a, b in itertools.pairwise(pictures)), (steps, heads)


def only(condition, steps=EULER, grid=PICTURE):
    return next(a for a, _, _ in of_every_detail(steps, grid)[1].values() if condition(a))


def test_heads_over_steps_are_selected_of_all_steps_alone():
    a = only(lambda a: a.heads == "over steps")
    whole, *_ = run(EULER, PICTURE, 2**30)
    got, expected = (maps(x, "r2g", heads="1,3", layers="a").values for x in (a, whole))
    torch.testing.assert_close(got, expected, rtol=tolerance(a), atol=1e-6)
    torch.testing.assert_close(
        maps(a, "r2g", heads="0-5", layers="a", steps="2").values,
        maps(whole, "r2g", layers="a", steps="2").values,
        rtol=1e-3,
        atol=1e-6,
    )
    for choice in ({"steps": "0-3"}, {"level": "time"}):
        with pytest.raises(UnresolvedAxis, match="not resolved in single steps"):
            maps(a, "r2g", **{"level": "unified", **choice}, heads="1", layers="a")
    assert "each head x layer as the mean of all steps" in a.summary()


def test_heads_over_frames_are_not_selected_of_a_frame():
    a = only(lambda a: a.heads == "over steps and frames", grid=VIDEO)
    whole, *_ = run(EULER, VIDEO, 2**30)
    torch.testing.assert_close(
        maps(a, "r2g", heads="1").values, maps(whole, "r2g", heads="1").values, rtol=1e-3, atol=1e-6
    )
    with pytest.raises(UnresolvedAxis, match="not resolved in single frames"):
        maps(a, "r2g", "frame", heads="1")
    assert maps(a, "r2g", "frame").values.shape[0] == 3


@pytest.mark.parametrize("grid", [PICTURE, VIDEO], ids=["picture", "video"])
def test_the_viewer_has_what_is_kept(grid):
    whole, runs = of_every_detail(EULER, grid)
    for a, _, _ in runs.values():
        detail = choose_detail(a, 2**30)
        assert detail.heads == (a.heads != "merged") and bool(detail.joint) == (a.heads == "in each step")
        rows = view(a, 2**30).tensors["maps/0/0/0/r2g_share"], view(a, 2**30).tensors["range/0/0/0/r2g_share"]
        low, high = rows[1][:, 0, None, None], rows[1][:, 1, None, None]
        got = low + rows[0].float() / 255 * (high - low)
        assert len(got) == detail.rows(6)
        if detail.heads:
            expected = maps(whole, "r2g", "head", "share", layers="a").values
            torch.testing.assert_close(got[1 + len(detail.steps) :][:6], expected, rtol=0.02, atol=0.01)


def test_a_selection_of_no_steps_kept_apart_is_of_all():
    a = only(lambda a: a.heads == "merged" and len(a.bins) == 1)
    assert Selection(heads="all").of(a).heads == {0: [0], 1: [0]}
    with pytest.raises(UnresolvedAxis):
        Selection(heads="2").of(a)
