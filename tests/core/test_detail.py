"""What is kept of a run at every budget: each level is that of the whole run, as exactly as the run's notes say."""

import functools
import itertools
import re

import pytest
import torch
from selected import maps

from i2am_core import LEVELS, Layer, Place, Positions, Recorder, Reference, Selection, TokenGrid, attribute, span
from i2am_core.attention.marginals import Marginals
from i2am_core.errors import BadAttention, UnresolvedAxis
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
                most = max(most, recorder.nbytes)
    mask = torch.ones(2, grid.height, grid.width) if grid.frames == 1 else None
    return recorder.freeze(grid=grid, denoise_mask=mask), most, recorder._budget


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
                # Of a layer that is resized, a small value beside large ones is their difference: bicubic weights.
                allowed = tolerance(attribution) * expected.values.maximum(0.1 * scale) + 1e-6 * scale
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


@pytest.mark.parametrize("steps", [HEUNPP2, (0, 1, 2, 0, 1, *EULER)], ids=["heunpp2", "two steps back"])
def test_parts_of_an_evaluation_add_up_also_in_a_step_that_comes_back(steps):
    """However much a step weighs: where each has the same share, that is the mean."""
    grid, heads = TokenGrid(2, 2), 6

    def run(budget):
        recorder = Recorder(torch.linspace(1, 0, STEPS + 1), 1, budget)
        number = recorder.reference(Reference("reference", grid.cells, grid))
        for evaluation, step in enumerate(steps):
            for part in (0.1, 0.2):
                for layer in ("a", "b"):
                    share, paper = torch.full((1, heads, 4), part), torch.full((1, heads, 4), 0.25)
                    m = Marginals(paper, share, paper, share)
                    recorder.add(Place(Layer(layer, grid, heads), step, number, evaluation, grid), m)
        return recorder

    budget, seen = run(2**30)._budget, set()
    for detail in details(STEPS):
        a = run(budget._bytes_of(detail)).freeze(grid=grid)
        seen.add(a.heads)
        for level in ("time", "head") if a.heads != "merged" else ("time",):
            got = maps(a, "r2g", level, normalization="share", time_groups=0).values
            torch.testing.assert_close(got, torch.full_like(got, 0.3), rtol=tolerance(a), atol=1e-6)
    assert {"over steps", "merged"} <= seen


def test_details_take_ever_less():
    for steps in (20, 50):
        ladder = list(details(steps))
        assert ladder[0].by_step == Resolution(steps, heads=True) and ladder[-1].by_step.bins == 1
        for heads in (8, 24, 40):
            taken = [sum(x.bytes_a_value * (heads if x.heads else 1) for x in detail.resolutions) for detail in ladder]
            pictures = [x for x, detail in zip(taken, ladder, strict=True) if detail.heads != "over steps and frames"]
            assert all(a >= b for a, b in itertools.pairwise(pictures)), (steps, heads)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_heads_of_short_videos_are_in_half_precision_before_they_are_merged(steps):
    *_, last = (detail for detail in details(steps) if detail.heads != "merged")
    assert last.heads == "over steps and frames" and last.by_step.bins == steps and last.by_head.half


@pytest.mark.parametrize("steps", [20, 50])
def test_values_that_are_all_of_one_step_are_as_exact_as_is_said(steps):
    """A sum that has grown at once is rounded again with each step; its map's largest, and so its scale, is another."""
    g = torch.Generator().manual_seed(0)
    grid = TokenGrid(16, 16)
    values = [1e-4 * 10 ** (-3 * torch.rand(1, 4, grid.cells, generator=g)) for _ in range(steps)]
    values[0] = torch.rand(1, 4, grid.cells, generator=g)
    for later in values[1:]:
        later[..., 0] = torch.rand(1, 4, generator=g)
    mean = torch.stack(values).double().mean(0)

    def run(budget):
        recorder = Recorder(torch.linspace(1, 0, steps + 1), 1, budget)
        number = recorder.reference(Reference("reference", grid.cells, grid))
        for step, x in enumerate(values):
            recorder.add(Place(Layer("a", grid, 4), step, number, step, grid), Marginals(x, x, x, x))
        return recorder

    budget, precisions = run(2**30)._budget, set()
    for detail in details(steps):
        a = run(budget._bytes_of(detail)).freeze(grid=grid)
        by_bin = torch.stack([torch.cat(values[b.start : b.stop]).double().mean((0, 1)) for b in a.bins])
        for level, expected in (("unified", mean.mean(1)), ("time", by_bin), ("head", mean[0])):
            if level != "head" or a.heads != "merged":
                got = maps(a, "r2g", level, normalization="share", time_groups=0).values.flatten(1).double()
                assert ((got - expected).abs() / expected).max() <= tolerance(a), (level, a.notes)
        precisions.add(tolerance(a))
    assert len(precisions) > 3


def test_maps_of_another_size_are_refused_before_anything_is_lost():
    """Closing the step would fail, when its other maps are gone."""
    recorder = Recorder(torch.linspace(1, 0, 4), 1, 2**20)
    number = recorder.reference(Reference("reference", 4, TokenGrid(2, 2)))

    def add(step, cells, scope=None):
        maps_on = (torch.rand(1, 6, PICTURE.cells), torch.rand(1, 6, cells))
        m = Marginals(*(x for x in maps_on for _ in range(2)), g2r_paper_scope=scope, g2r_share_scope=scope)
        recorder.add(Place(LAYERS[PICTURE][0], step, number, step, TokenGrid(2, 2)), m)

    add(0, 4)
    for cells, scope in ((6, None), (4, torch.rand(1, 6, 4))):
        with pytest.raises(BadAttention, match="another size"):
            add(1, cells, scope)
    add(1, 4)
    (entry,) = recorder.freeze(grid=PICTURE).entries.values()
    assert entry.seen.tolist() == [1, 1, 0]


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
