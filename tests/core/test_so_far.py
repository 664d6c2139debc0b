"""The map so far is that of a run which stops there."""

import dataclasses

import pytest
import torch
from counting_device import DEVICE, counting
from recorded import BIG_BUDGET, COARSE, FINE, HEADS, ITEMS, REFERENCE
from selected import maps

from i2am_core import Layer, Place, Positions, Recorder, Reference, TokenGrid, Verdict, attribute, span
from i2am_core.reading.so_far import SoFar

LAYERS = [Layer("fine", FINE, HEADS), Layer("coarse", COARSE, HEADS), Layer("finer", FINE, 2 * HEADS)]
VIDEO = [Layer("video", TokenGrid(3, 2, frames=3), HEADS)]
STEPS = 6
CLOSE = dict(rtol=1e-5, atol=1e-7)


def calls(layers, steps=STEPS, evaluations=1, seed=0):
    """Of each step the marginals of each layer, in each evaluation of it."""
    generator = torch.Generator().manual_seed(seed)
    group = span("reference", 5, REFERENCE.grid)

    def call(layer):
        q = torch.randn(ITEMS, layer.heads, layer.grid.cells, 8, generator=generator)
        k = torch.randn(ITEMS, layer.heads, 20, 8, generator=generator)
        return attribute(q, k, [group], positions=Positions())[0]

    return [[(layer, call(layer)) for _ in range(evaluations) for layer in layers] for _ in range(steps)]


def recorder(budget=BIG_BUDGET, steps=STEPS):
    made = Recorder(torch.linspace(1, 0, steps + 1), ITEMS, budget)
    made.reference(REFERENCE)
    return made


def record(into, step, of_step, so_far=None, verdicts=(), reference=0):
    for layer, marginals in of_step:
        into.add(Place(layer, step, reference), marginals, None, verdicts)
    if so_far is not None:
        so_far.update(into.new_steps()())


def stopped(after, layers_by_step, budget=BIG_BUDGET, normalization="share"):
    """The unified map of a run that ends after so many steps."""
    whole = recorder(budget)
    for step, of_step in enumerate(layers_by_step[:after]):
        record(whole, step, of_step)
    return maps(whole.freeze(grid=FINE), "r2g", normalization=normalization).values[0]


@pytest.mark.parametrize("layers", [LAYERS, LAYERS[1:2], VIDEO], ids=["several grids", "one", "video"])
@pytest.mark.parametrize("evaluations", [1, 2])
def test_it_is_the_map_of_a_run_that_stops_there(layers, evaluations):
    made, going_on, so_far = calls(layers, evaluations=evaluations), recorder(), SoFar()
    assert so_far.step == -1 and so_far.maps() == {}
    for step, of_step in enumerate(made):
        record(going_on, step, of_step, so_far)
        assert so_far.step == step
        torch.testing.assert_close(so_far.maps()[0].values, stopped(step + 1, made), **CLOSE)
    whole = recorder()
    for step, of_step in enumerate(made):
        record(whole, step, of_step)
    for mine, its in zip(
        going_on.freeze(grid=FINE).entries.values(), whole.freeze(grid=FINE).entries.values(), strict=True
    ):
        assert all(torch.equal(mine.maps[key], its.maps[key]) for key in its.maps)  # to look changes nothing


@pytest.mark.parametrize("budget", [1, 4_000, 12_000])
def test_memory_that_is_too_small_for_heads_or_steps_changes_nothing(budget):
    made, going_on, so_far = calls(LAYERS), recorder(budget), SoFar()
    for step, of_step in enumerate(made):
        record(going_on, step, of_step, so_far)
    torch.testing.assert_close(so_far.maps()[0].values, stopped(STEPS, made), rtol=1e-3, atol=1e-6)
    assert going_on.freeze(grid=FINE).heads != "in each step"


def test_a_step_that_gets_more_calls_later_is_replaced():
    """A second-order sampler evaluates one step ahead, and comes back."""
    made, going_on, so_far = calls(LAYERS, evaluations=2), recorder(), SoFar()
    for step in range(STEPS):
        first, second = made[step][: len(LAYERS)], made[step][len(LAYERS) :]
        record(going_on, step, second, so_far)
        if step + 1 < STEPS:
            record(going_on, step + 1, made[step + 1][: len(LAYERS)], so_far)
        if step == 0:
            record(going_on, step, first, so_far)
    torch.testing.assert_close(so_far.maps()[0].values, stopped(STEPS, made), **CLOSE)


def test_calls_that_do_not_count_are_left_out():
    made, going_on, so_far = calls(LAYERS), recorder(), SoFar()
    record(going_on, 0, made[0], so_far)
    expected = so_far.maps()[0].values
    record(going_on, 1, made[1], so_far, [Verdict(torch.tensor(False), "not so")])
    assert torch.equal(so_far.maps()[0].values, expected)
    broken = [(layer, dataclasses.replace(m, r2g_share=m.r2g_share * float("nan"))) for layer, m in made[2]]
    record(going_on, 2, broken, so_far, [Verdict(torch.tensor(False), "not so")])
    assert torch.equal(so_far.maps()[0].values, expected)
    record(going_on, 3, made[3], so_far, [Verdict(torch.tensor(True), "never")])
    torch.testing.assert_close(so_far.maps()[0].values, stopped(2, [made[0], made[3]]), **CLOSE)


@pytest.mark.parametrize("evaluations", [1, 2])
def test_where_nothing_competes_it_is_the_map_of_the_paper(evaluations):
    """Shares are then the same everywhere, as of a cross-attention to the reference alone."""
    made = [
        [(layer, dataclasses.replace(m, r2g_share=torch.full_like(m.r2g_share, 0.7))) for layer, m in of_step]
        for of_step in calls(LAYERS, evaluations=evaluations)
    ]
    going_on, so_far = recorder(), SoFar()
    for step, of_step in enumerate(made):
        record(going_on, step, of_step, so_far)
        got = so_far.maps()[0]
        assert got.normalization == "paper"
        torch.testing.assert_close(got.values, stopped(step + 1, made, normalization="paper"), **CLOSE)


def test_each_reference_has_its_own():
    made, going_on, so_far = calls(LAYERS), recorder(), SoFar()
    other = going_on.reference(Reference("another", 12, TokenGrid(3, 4)))
    record(going_on, 0, made[0])
    record(going_on, 0, made[1], so_far, reference=other)
    assert set(so_far.maps()) == {0, other}
    torch.testing.assert_close(so_far.maps()[other].values, stopped(1, made[1:]), **CLOSE)


def test_a_device_is_waited_for_once_and_only_when_the_maps_are_received():
    made, going_on = calls(LAYERS), recorder()
    on_device = [
        (
            layer,
            dataclasses.replace(
                m,
                **{
                    f.name: getattr(m, f.name).to(DEVICE)
                    for f in dataclasses.fields(m)
                    if isinstance(getattr(m, f.name), torch.Tensor)
                },
            ),
        )
        for layer, m in made[0]
    ]
    record(going_on, 0, on_device, verdicts=[Verdict(torch.tensor(True, device=DEVICE), "never")])
    with counting() as sending:
        received = going_on.new_steps()
    with counting() as receiving:
        steps = received()
    assert (sending.waits.total(), receiving.waits.total()) == (0, 1)
    so_far = SoFar()
    so_far.update(steps)
    torch.testing.assert_close(so_far.maps()[0].values, stopped(1, made), **CLOSE)
