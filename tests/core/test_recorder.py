"""The recorder: its counts, verdicts that are judged late, what was given, pair maps by steps, and many threads."""

import dataclasses
import threading
import weakref

import old_arithmetic
import pytest
import torch
from recorded import BIG_BUDGET, FINE, REFERENCE
from selected import maps
from torch.utils._python_dispatch import TorchDispatchMode

from i2am_core import Layer, Place, Positions, Recorder, Reference, TokenGrid, Verdict, attribute, span
from i2am_core.half import Half, full
from i2am_core.recording import account
from i2am_core.recording.account import ComputedBy
from i2am_core.recording.detail import Resolution
from i2am_core.recording.notes import STEPS_REVISITED
from i2am_core.recording.recorder import _extent
from i2am_core.recording.sums import Additions, Axes, BinSums, StepSums

LAYER, ROWS = Layer("a", FINE, 2), torch.arange(FINE.cells)
YES, NO = torch.tensor(True), torch.tensor(False)


def recorder(steps=3, budget=BIG_BUDGET):
    return Recorder(torch.linspace(1, 0, steps + 1), 1, budget)


def call(layer=LAYER, reference=REFERENCE, pairs=True):
    q, k = torch.randn(1, layer.heads, layer.grid.cells, 4), torch.randn(1, layer.heads, reference.tokens + 3, 4)
    group = span(reference.name, 3, reference.grid, reference.tokens)
    positions = Positions(pair_rows=ROWS if pairs else None)
    return attribute(q, k, [group], positions=positions)[0]


def file(r, step, m, verdicts=(), evaluation=None, layer=LAYER):
    number = r.reference(REFERENCE)
    rows = ROWS if m.g2r_pairs is not None and r.pairs_fit(number, layer, len(ROWS), REFERENCE.tokens) else None
    r.add(Place(layer, step, number, evaluation), m, rows, verdicts)
    r.captured(layer.name, ["one way"], ComputedBy.of(m), verdicts, ["a note"])


def same(one, other):
    assert one.entries.keys() == other.entries.keys() and one.layers == other.layers
    assert one.references == other.references and one.bins == other.bins
    for place, entry in one.entries.items():
        assert torch.equal(entry.seen, other.entries[place].seen)
        for mine, its in ((entry.maps, other.entries[place].maps), (entry.pairs, other.entries[place].pairs)):
            assert mine.keys() == its.keys()
            for name in mine:
                torch.testing.assert_close(mine[name], its[name], msg=name)


def test_counts_are_what_was_reported():
    r = recorder()
    r.captured("a layer", ["one way"], ComputedBy("a kernel"))
    r.captured("a layer", ["another way", "one way"], ComputedBy("a kernel", "in float32"))
    r.captured("a layer", ["another way"], ComputedBy("plainly"), notes=["a note", ""])
    r.skip("nothing there")
    r.skip("nothing there", calls=4)
    r.note("a note", "another")
    file(r, 0, call())
    assert (r.calls, r.skipped, r.notes) == (4, {"nothing there": 5}, ("a note", "another"))
    frozen = r.freeze(grid=FINE, branch="positive")
    assert (frozen.captured_calls, frozen.skipped, frozen.notes) == (4, {"nothing there": 5}, ("a note", "another"))
    assert frozen.mechanism == "one way, another way" and frozen.branch == "positive"
    assert frozen.row_sums["a kernel"] == 2 and sum(frozen.row_sums.values()) == 4
    assert frozen.arithmetic == {"in float32": 1} and "maps of 1 calls: in float32" in frozen.summary().splitlines()
    assert r.freeze(grid=FINE, mechanism="auto").mechanism == "auto"


def test_a_recorder_has_no_maps_when_it_is_frozen():
    """They are the attribution's alone: who drops that frees them, whatever still has the recorder."""
    r = recorder()
    for step in range(3):
        file(r, step, call())
    attribution = r.freeze(grid=FINE)
    entries = attribution.entries.values()
    maps_of_it = [weakref.ref(x) for entry in entries for x in (*entry.maps.values(), *entry.pairs.values())]
    assert r.nbytes == 0 and maps_of_it
    del attribution, entries
    assert [alive() for alive in maps_of_it] == [None] * len(maps_of_it)


def test_how_a_run_was_steered_comes_right_after_its_references():
    recorder = Recorder(torch.linspace(1, 0, 3), 1, 2**20)
    recorder.note("a guess", "steered by something")
    lines = recorder.freeze(grid=TokenGrid(1, 1), branch="positive").summary().splitlines()
    assert lines.index("steered by something") == 2 < lines.index("a guess")


@pytest.mark.parametrize("verdict", [None, YES])
def test_what_fails_leaves_no_trace(verdict):
    """Between calls that hold: some that do not, in the same step and layer, and in ones of their own."""
    calls = [call() for _ in range(5)]
    expected, recorded = recorder(), recorder()
    good = () if verdict is None else (Verdict(verdict, "never"),)
    bad = (Verdict(YES, "never"), Verdict(NO, "not proved"))
    other = Layer("only assumed", TokenGrid(3, 2), 1)
    for step, m in ((0, calls[0]), (0, calls[1]), (2, calls[2])):
        file(expected, step, m)
    recorded.reference(Reference("first assumed", 4, None))
    file(recorded, 0, calls[3], bad)
    file(recorded, 0, calls[0], good)
    file(recorded, 0, calls[1], good)
    file(recorded, 1, calls[4], bad)  # a step in which nothing holds
    file(recorded, 2, calls[2], good)
    file(recorded, 2, calls[3], bad)
    m = call(other, pairs=False)
    recorded.add(Place(other, 2, recorded.reference(REFERENCE)), m, verdicts=bad)
    one, two = expected.freeze(grid=FINE), recorded.freeze(grid=FINE)
    same(one, two)
    assert two.captured_calls == one.captured_calls == 3
    assert two.skipped == {"not proved": 3} and one.skipped == {}
    assert two.references == (REFERENCE,) and two.layers == (LAYER,)
    assert two.entries[0, 0].seen.tolist() == [1, 0, 1]


def test_notes_and_mechanisms_of_what_fails_do_not_count():
    r = recorder()
    r.captured(
        "a layer", ["wrong"], ComputedBy("a kernel"), [Verdict(NO, "not proved"), Verdict(NO, "neither")], ["a guess"]
    )
    r.captured("a layer", ["right"], ComputedBy("a kernel"), [Verdict(YES, "not proved")], ["sure"])
    assert r.calls == 1 and r.skipped == {"not proved": 1} and r.notes == ("sure",)
    frozen = r.freeze(grid=FINE)
    assert frozen.mechanism == "right" and frozen.row_sums == {"a kernel": 1} and frozen.entries == {}


@pytest.mark.parametrize(("steps", "said"), [((0, 1, 1, 2), False), ((0, 1, 2, 1), True)])
def test_a_step_that_comes_back_is_said_of_pair_maps(steps, said):
    """Samplers such as heunpp2 evaluate two steps ahead: so many steps of pair maps are not kept open."""
    r = recorder()
    for step in steps:
        file(r, step, call())
    assert any("came back to steps" in note for note in r.freeze(grid=FINE).notes) == said


def test_a_layer_that_is_not_to_be_trusted_is_forgotten_in_all_steps():
    trusted, other = call(), Layer("b", FINE, 2)
    r, expected = recorder(), recorder()
    for step in range(3):
        file(r, step, call(other), layer=other)
        file(r, step, trusted)
        file(expected, step, trusted)
        if step == 1:
            r.retract(["b"], "it ran twice")
            r.retract(["b", "c"], "it ran again")
    same(r.freeze(grid=FINE), expected.freeze(grid=FINE))
    assert r.calls == 3 and r.skipped == {"it ran twice": 3}
    assert r.freeze(grid=FINE).row_sums == expected.freeze(grid=FINE).row_sums


def test_a_layer_is_forgotten_while_a_step_of_it_is_on_its_way():
    r, other = recorder(steps=6), Layer("b", FINE, 2)
    for step in range(5):
        file(r, step, call(pairs=False))
        if step == 4:  # step 2 was sent, and the host has not worked on it
            r.retract(["b"], "it is run twice")
        file(r, step, call(layer=other, pairs=False), layer=other)
    frozen = r.freeze(grid=FINE, branch="positive")
    assert [layer.name for layer in frozen.layers] == ["a"] and frozen.skipped == {"it is run twice": 5}


@pytest.mark.parametrize("holds", [(True, False), (False, True), (True, True), (False, False)])
def test_parts_of_one_evaluation_hold_one_by_one(holds):
    """Their shares add up, and it is one evaluation if any holds."""
    first, second, other = call(), call(), call()
    r, expected = recorder(1), recorder(1)
    for m, counts in zip((first, second), holds, strict=True):
        file(r, 0, m, [Verdict(torch.tensor(counts), "no")], evaluation=1)
        if counts:
            file(expected, 0, m, evaluation=1)
    file(r, 0, other, evaluation=2)
    file(expected, 0, other, evaluation=2)
    frozen = r.freeze(grid=FINE)
    same(expected.freeze(grid=FINE), frozen)
    share = sum(m.r2g_share * h for m, h in zip((first, second), holds, strict=True)) + other.r2g_share
    torch.testing.assert_close(frozen.entries[0, 0].maps["r2g_share"][:, 0], share / (1 + any(holds)))


class Waits(TorchDispatchMode):
    """Counts where a value is asked of the device: ``bool``, ``item``, ``tolist``."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += operation is torch.ops.aten._local_scalar_dense.default
        return operation(*args, **(kwargs or {}))


def test_filing_waits_for_nothing():
    r, calls = recorder(), [call() for _ in range(6)]
    with Waits() as waits:
        assert bool(YES)
    assert waits.count == 1
    with Waits() as waits:
        for n, m in enumerate(calls):
            file(r, n // 3, m, [Verdict(torch.tensor(n % 2 == 0), "odd")], evaluation=n)
    assert waits.count == 0
    assert r.calls == 3 and r.skipped == {"odd": 3}


def test_verdicts_of_a_step_come_over_in_one_transfer(monkeypatch):
    r, moved, original = recorder(4), [], account.sent_to_host
    monkeypatch.setattr(account, "sent_to_host", lambda values: moved.append(len(values)) or original(values))
    for step in range(4):
        for layer in (LAYER, Layer("b", FINE, 2)):
            file(r, step, call(), [Verdict(YES, "no")], layer=layer)
    assert len(moved) == 2  # two steps are open
    assert moved == [4 + 2, 2 + 2]  # what is pending, and how often each layer was captured


def test_what_was_given_keeps_its_number():
    """Known before the run: the second turns up first, on a finer grid than said; the first never, in any layer."""
    first, second = Reference("first", 4, TokenGrid(2, 2), "a"), Reference("second", 1, None, "b")
    unexpected = Reference("unexpected", 12, TokenGrid(3, 4))
    r = recorder()
    r.given([first, second])
    assert r.references == (first, second)
    for reference in (Reference("second", 12, TokenGrid(3, 4), "b"), unexpected):
        number = r.reference(reference)
        r.add(Place(LAYER, 0, number, reference_grid=reference.grid), call(reference=reference, pairs=False))
    assert r.reference(Reference("second", 6, TokenGrid(3, 2), "b")) == 1
    assert r.reference(Reference("first", 9, TokenGrid(3, 3), "a")) == 0  # assumed of a call that fails
    r.add(Place(LAYER, 1, 0), call(reference=Reference("", 9, TokenGrid(3, 3)), pairs=False), None, [Verdict(NO, "no")])
    frozen = r.freeze(grid=FINE)
    assert frozen.references == (first, Reference("second", 12, TokenGrid(3, 4), "b"), unexpected)
    assert sorted(frozen.entries) == [(1, 0), (2, 0)]
    with pytest.raises(RuntimeError, match="before the run"):
        r.given([first])


def test_numbers_close_up_where_an_assumed_reference_falls_away():
    r = recorder()
    grids = [TokenGrid(3, 4), TokenGrid(2, 2), TokenGrid(4, 4)]
    for n, grid in enumerate(grids):
        reference = Reference(f"number {n}", grid.cells, grid)
        layer = Layer(f"layer {n}", FINE, 1)
        verdicts = [Verdict(torch.tensor(n != 1), "no")]
        place = Place(layer, 0, r.reference(reference), reference_grid=grid)
        r.add(place, call(layer, reference, pairs=False), verdicts=verdicts)
    frozen = r.freeze(grid=FINE)
    assert [x.name for x in frozen.references] == ["number 0", "number 2"]
    assert [x.name for x in frozen.layers] == ["layer 0", "layer 2"] and sorted(frozen.entries) == [(0, 0), (1, 1)]
    assert maps(frozen, "g2r", reference=1).values.shape == (1, 4, 4)


HEUN = [0, 1, 1, 2, 2]  # the steps of the calls: one ahead, and again


def test_pair_maps_are_means_over_steps():
    r, calls = recorder(), [call() for _ in HEUN]
    for step, m in zip(HEUN, calls, strict=True):
        file(r, step, m)
    frozen = r.freeze(grid=FINE)
    pairs = frozen.entries[0, 0].pairs["g2r_pairs"]
    steps = [torch.stack([m.g2r_pairs for s, m in zip(HEUN, calls, strict=True) if s == n]).mean(0) for n in range(3)]
    torch.testing.assert_close(pairs, torch.stack(steps).mean(0))
    torch.testing.assert_close(pairs[0].mean(0), maps(frozen, "g2r").values[0].flatten())
    old = old_arithmetic.pairs_of_calls(m.g2r_pairs for m in calls)
    assert ((pairs - old).abs().max() / pairs.max()).item() > 0.01


def test_with_one_call_a_step_pair_maps_are_as_they_were():
    r, calls = recorder(), [call() for _ in range(3)]
    for step, m in enumerate(calls):
        file(r, step, m)
    for name, values in r.freeze(grid=FINE).entries[0, 0].pairs.items():
        torch.testing.assert_close(values, old_arithmetic.pairs_of_calls(getattr(m, name) for m in calls))


def test_a_step_that_comes_back_is_no_lost_step():
    """Of pair maps only one step is open: what comes late counts less, and the mean still sums to 1."""
    r, steps = recorder(), [0, 1, 0, 1, 2]
    for step in steps:
        file(r, step, call())
    pairs = r.freeze(grid=FINE).entries[0, 0].pairs
    torch.testing.assert_close(pairs["g2r_pairs"].sum(-1), torch.ones(1, len(ROWS)))


def test_the_budget_counts_both_sums_of_pair_maps():
    size = 4 * 2 * len(ROWS) * REFERENCE.tokens
    # Two sums, and while a call is added one and a half more; pair maps get half, and attribute's chunk a quarter.
    least = int(3.5 * size / 0.5 / 0.75)
    for budget, fits in ((least + 8, True), (least - 8, False)):
        assert recorder(budget=budget).pairs_fit(0, LAYER, len(ROWS), REFERENCE.tokens) is fits


def test_layers_whose_pair_maps_do_not_fit_are_named():
    r = recorder(budget=100)
    file(r, 0, call())
    assert "pair maps of a did not fit the memory budget" in r.freeze(grid=FINE).notes


def test_many_threads_lose_nothing():
    """ComfyUI may run the parts of one step in several threads: a sum or a count that is not locked is lost."""
    threads, each = 8, 60
    r, m = recorder(), call()
    start = threading.Barrier(threads)
    failed = []

    def work(thread):
        try:
            start.wait()
            for n in range(each):
                r.reference(Reference(f"assumed by {thread}", 4, None, str(n % 3)))
                file(r, n // 20, m, [Verdict(torch.tensor(n % 2 == 0), "odd")] if n % 4 < 2 else ())
                r.skip("nothing there")
                r.note(f"of {thread}")
        except Exception as error:
            failed.append(error)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failed
    frozen = r.freeze(grid=FINE)
    odd = threads * sum(n % 4 == 1 for n in range(each))
    assert frozen.captured_calls == threads * each - odd
    assert frozen.skipped == {"nothing there": threads * each, "odd": odd}
    order = {STEPS_REVISITED.format("pair maps")}  # which steps do depends on how the threads take turns
    assert set(frozen.notes) - order == {"a note", *(f"of {n}" for n in range(threads))}
    assert frozen.entries[0, 0].seen.max() == 1 and frozen.references == (REFERENCE,)
    for kind in ("r2g_paper", "g2r_share"):  # all calls are the same one, so that their mean is known
        expected = getattr(m, kind)[:, None].expand_as(frozen.entries[0, 0].maps[kind])
        torch.testing.assert_close(frozen.entries[0, 0].maps[kind], expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("sigmas", [[], [1.0]])
def test_attention_without_a_sampler_is_one_step(sigmas):
    recorder = Recorder(torch.tensor(sigmas), 1, 2**20)
    grid = TokenGrid(2, 2)
    (marginals,) = attribute(torch.randn(1, 2, 4, 8), torch.randn(1, 2, 7, 8), [span("reference", 3, grid)])
    recorder.add(Place(Layer("a", grid, 2), 0, recorder.reference(Reference("reference", 4, grid))), marginals)
    attribution = recorder.freeze(grid=grid)
    assert attribution.steps == 1
    assert maps(attribution, "r2g").values.shape == (1, 2, 2)


@pytest.mark.parametrize("bins", [6, 2])
@pytest.mark.parametrize("half", [False, True])
def test_what_nothing_was_put_into_is_zero_and_never_what_was_in_the_memory(monkeypatch, half, bins):
    unfilled = Axes.unfilled

    def full_of_garbage(axes, *shape, **where):
        sums = unfilled(axes, *shape, **where)
        for x in (sums.values, sums.scale) if isinstance(sums, Half) else (sums,):
            x.fill_(torch.nan)
        return sums

    monkeypatch.setattr(Axes, "unfilled", full_of_garbage)
    axes = Axes(Resolution(6, heads=True, half=half), _extent(Place(LAYER, 0, 0), call()))
    coarser = dataclasses.replace(axes, resolution=Resolution(bins, heads=True, half=half))
    sums = BinSums([range(n, n + 1) for n in range(6)])
    for step in (1, 4):
        one = StepSums()
        one.add(call(), axes, None)
        sums.add(step, one, 1, axes, Additions())
    sums.add_zero(5)
    by_bin = sums.to(coarser, [range(n, n + 6 // bins) for n in range(0, 6, 6 // bins)])
    for x in by_bin.means().values():
        seen = [bool(part.any()) for part in full(x).unbind(1)]
        assert full(x).isfinite().all() and seen == [bool({1, 4} & {*steps}) for steps in by_bin.bins]
    assert by_bin.seen.sum() == 3


def test_means_of_steps_that_are_kept_apart_are_what_was_put_in():
    axes = Axes(Resolution(3, heads=True), _extent(Place(LAYER, 0, 0), call()))
    sums, one = BinSums([range(n, n + 1) for n in range(3)]), StepSums()
    one.add(call(), axes, None)
    sums.add(2, one, 1, axes, Additions())
    sums.add(2, one, 1, axes, Additions())  # the sampler returned: it counts once more, as one of two
    for name, x in sums.means().items():
        torch.testing.assert_close(x[:, 2], one.maps[name], msg=name)
        assert not x[:, :2].any()
