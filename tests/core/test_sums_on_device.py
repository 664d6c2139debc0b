"""Sums over a run whose maps are on a device, of calls made alone or together: to the bit those of the CPU."""

import dataclasses
import functools
from contextlib import contextmanager

import pytest
import torch
from counting_device import DEVICE, counting

from i2am_core import Layer, Place, Recorder, Reference, TokenGrid, Verdict, attribute, span
from i2am_core.attention.marginals import Positions
from i2am_core.attention.stacked import Stacked, StackedCall, alone
from i2am_core.half import full
from i2am_core.recording import transfer
from i2am_core.recording.detail import Resolution, details
from i2am_core.recording.sums import Axes, StepSums

STEPS = 6
EULER = tuple(range(STEPS))
HEUNPP2 = (0, 1, 2, 1, 2, 3, 2, 3, 4, 3, 4, 5, 4, 5, 5)
ITEMS, HEADS, TOKENS = 2, 5, TokenGrid(3, 4, 2)
GRID = TokenGrid(2, 4, 3)
LAYERS = [*(Layer(name, GRID, HEADS) for name in "ab"), Layer("c", TokenGrid(4, 3, 2), HEADS)]  # of as many positions
REFERENCE = span("reference", 5, TOKENS)
SCOPE = (torch.arange(GRID.cells) % 3 == 0).expand(ITEMS * len(LAYERS), -1)
ALONE, ON_DEVICE, TOGETHER = "on the CPU, alone", "on a device, alone", "on a device, together"
NO_NUMBERS = 2, 1  # step and layer of a call that does not hold


def to_device(maps):
    moved = {name: x.to(DEVICE) for name, x in vars(maps).items() if isinstance(x, torch.Tensor)}
    return dataclasses.replace(maps, **moved)


def calls_of(step, how, generator):
    """The maps of a call of each layer, and whether they count."""
    q, k = (
        torch.randn(ITEMS * len(LAYERS), HEADS, n, 4, generator=generator) * 2 for n in (GRID.cells, TOKENS.cells + 9)
    )
    (maps,) = attribute(q, k, [REFERENCE], positions=Positions(scope=SCOPE))
    holds = [torch.tensor((step, number) != NO_NUMBERS) for number in range(len(LAYERS))]
    if how != ALONE:
        maps, holds = to_device(maps), [x.to(DEVICE) for x in holds]
    stacked = Stacked(maps, len(LAYERS))
    calls = [StackedCall(stacked, number, x) for number, x in enumerate(holds)]
    return calls if how == TOGETHER else [alone(call) for call in calls]


def recorded(steps, budget, how, late=0, waits=None):
    """A run; the last layer turns up in step ``late``. Of each step, how often the host waited goes to ``waits``."""
    generator = torch.Generator().manual_seed(0)
    recorder = Recorder(torch.linspace(1, 0, STEPS + 1), ITEMS, budget)
    number = recorder.reference(Reference.of(REFERENCE))
    for n, step in enumerate(steps):
        calls = list(zip(LAYERS, calls_of(step, how, generator), strict=True))
        with counting() as count:
            for layer, call in calls[: 2 if step < late else 3]:
                recorder.add(Place(layer, step, number, n, TOKENS), call, None, [Verdict(call.holds, "no numbers")])
            recorder.catch_up()
        if waits is not None:
            waits.append(count.waits.total())
    return recorder


STAYING = next(detail for detail in details(STEPS) if detail.by_head is not None)


@functools.cache
def budgets():
    """What each detail takes."""
    budget = recorded(EULER, 2**30, ALONE)._budget
    return {detail: budget._bytes_of(detail) * 4 // 3 + 2 for detail in details(STEPS)}  # chunks have a quarter


def values(attribution):
    return {
        (place, what, key): full(x)
        for place, entry in attribution.entries.items()
        for what, maps in (("by step", entry.maps), ("by head", entry.head_maps), ("", {"seen": entry.seen}))
        for key, x in maps.items()
    }


def cases():
    """Every detail once; what is beside the sums by step also of samplers that return, and of a layer that is late."""
    for number, detail in enumerate(budgets()):
        yield pytest.param(detail, EULER, 0, (ON_DEVICE, TOGETHER)[number % 2], id=f"{number}")
        if detail.by_head is not None:
            yield pytest.param(detail, HEUNPP2, 0, TOGETHER, id=f"{number}, heunpp2")
            yield pytest.param(detail, EULER, 4, TOGETHER, id=f"{number}, late")
    yield pytest.param(STAYING, EULER, 0, ON_DEVICE, id="one that stays, alone")


@pytest.mark.parametrize(("detail", "steps", "late", "how"), list(cases()))
def test_sums_are_those_of_the_cpu(detail, steps, late, how):
    expected, recorder = (recorded(steps, budgets()[detail], one, late) for one in (ALONE, how))
    assert recorder._detail == detail
    expected, attribution = expected.freeze(grid=GRID), recorder.freeze(grid=GRID)
    assert (attribution.heads, attribution.bins, attribution.notes) == (expected.heads, expected.bins, expected.notes)
    ours, its = values(attribution), values(expected)
    assert ours.keys() == its.keys()
    for name, x in ours.items():
        assert x.device.type == "cpu" and torch.equal(x, its[name]), name


def test_sums_of_all_steps_come_to_the_host_at_the_end_alone(monkeypatch):
    sizes, sent = [], transfer._sent
    monkeypatch.setattr(transfer, "_sent", lambda x: [sizes.append(x.numel()), sent(x)][1])
    recorder = recorded(EULER, budgets()[STAYING], TOGETHER)
    of_a_step = ITEMS * len(LAYERS) * (2 * GRID.cells + 4 * TOKENS.cells)
    assert max(sizes) < HEADS * of_a_step  # means over heads, and counts
    recorder.freeze(grid=GRID)
    assert HEADS * of_a_step in sizes


@contextmanager
def short_of_memory(monkeypatch, owner, name, calls):
    """What is called so many times raises: the device has no memory for it."""
    work, left = getattr(owner, name), [*calls]

    def short(*given, **named):
        if left and left.pop(0):
            raise torch.cuda.OutOfMemoryError("no memory")
        return work(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, short)
        yield
    assert not left


SHORT = {
    "for the first sums": (Axes, "unfilled", [False] * 18 + [True]),  # of each layer six maps by step, then by head
    "for sums of a second layer": (Axes, "unfilled", [False] * 24 + [True]),
    "for a mean": (StepSums, "mean", [False] * 62 + [True]),
    "for what is made of a stack": (Stacked, "once", [False, True]),
}


@pytest.mark.parametrize("what", SHORT)
def test_where_a_device_is_short_of_memory_nothing_is_lost(what, monkeypatch):
    expected = values(recorded(EULER, budgets()[STAYING], ALONE).freeze(grid=GRID))
    with short_of_memory(monkeypatch, *SHORT[what]):
        got = values(recorded(EULER, budgets()[STAYING], TOGETHER).freeze(grid=GRID))
    assert all(torch.equal(x, got[name]) for name, x in expected.items())


@pytest.mark.parametrize("detail", [STAYING, next(iter(details(STEPS)))], ids=["sums stay", "each step"])
def test_where_there_is_no_memory_for_a_transfer_nothing_is_lost(detail, monkeypatch):
    """Each of them once: of a step's sums and verdicts, of sums over all steps, and at the end."""
    expected = recorded(EULER, budgets()[detail], ALONE).freeze(grid=GRID)
    transfers = []
    with monkeypatch.context() as patch:
        sent = transfer._sent
        patch.setattr(transfer, "_sent", lambda x: [transfers.append(x), sent(x)][1])
        recorded(EULER, budgets()[detail], TOGETHER).freeze(grid=GRID)
    assert len(transfers) >= STEPS
    for number in range(len(transfers)):
        with short_of_memory(monkeypatch, transfer, "_sent", [False] * number + [True]):
            got = recorded(EULER, budgets()[detail], TOGETHER).freeze(grid=GRID)
        assert got.captured_calls == expected.captured_calls and got.skipped == expected.skipped
        ours = values(got)
        assert all(torch.equal(x, ours[name]) for name, x in values(expected).items()), number


def test_sums_leave_a_device_once(monkeypatch):
    with short_of_memory(monkeypatch, *SHORT["for the first sums"]):
        recorder = recorded(EULER, budgets()[STAYING], TOGETHER)
    assert not recorder._sums[1].stays
    assert {x.device.type for one in recorder._sums[1].closed.values() for x in one.maps.values()} == {"cpu"}


@pytest.mark.parametrize("late", [0, 4])
def test_waits_do_not_grow_with_layers_where_some_turn_up_late(late):
    waits = []
    recorded(EULER, budgets()[STAYING], TOGETHER, late, waits)
    assert max(waits) <= 4, waits


def test_calls_that_are_made_together_are_merged_once(monkeypatch):
    merged, of_one = [], Axes.merged
    monkeypatch.setattr(Axes, "merged", lambda axes, key, x: [merged.append(key), of_one(axes, key, x)][1])
    calls = calls_of(0, TOGETHER, torch.Generator().manual_seed(0))
    recorder = Recorder(torch.linspace(1, 0, STEPS + 1), ITEMS, 2**30)
    number = recorder.reference(Reference.of(REFERENCE))
    for layer, call in zip(LAYERS[:2], calls, strict=False):  # the third has frames of another size
        recorder.add(Place(layer, 0, number, 0, TOKENS), call)
    assert len(merged) == len(set(merged)) == 6


def test_values_that_are_sent_several_times_are_sent_once(monkeypatch):
    sizes, sent = [], transfer._sent
    monkeypatch.setattr(transfer, "_sent", lambda x: [sizes.append(x.numel()), sent(x)][1])
    maps = calls_of(0, TOGETHER, torch.Generator().manual_seed(0))
    parts = [call.once("share", lambda whole: {"share": whole.r2g_share})["share"] for call in maps]
    count = torch.tensor(3).to(DEVICE)
    on_host = transfer.to_host([*parts, count, count])
    assert sizes == [parts[0].whole.numel() + 1]
    for x, part in zip(on_host, parts, strict=False):
        assert torch.equal(x, part.float().cpu())
    assert on_host[-2:] == [3, 3]


def test_one_that_stays_is_of_all_steps_in_full_precision():
    one = Resolution(1, heads=True)
    assert one.stays
    for other in ({"bins": 2}, {"half": True}, {"half_open": True}):
        assert not dataclasses.replace(one, **other).stays
