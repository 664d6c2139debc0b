"""Effects are right: those of every tiny model are what the run's own latents give with columns left out by hand."""

from collections.abc import Iterable, Sequence

import pytest
import torch
from by_hand import ByHand
from effect_oracle import Counterfactuals, Steers
from effects_of import close, measured
from token_places import TOKENS, Tokens

from i2am_pack.i2am_core.effect import Removal
from i2am_pack.nodes.comfy.measured_steps import measured_steps

BOTH = ("everything", "directly")
CUTS = ("taken away", "only this left")
TWO_STEPS = ("kontext", "qwen", "wan phantom", "hunyuan custom")  # the others are the same in a second one


def without(t: Tokens, columns: Iterable[int], rows: Sequence[int] | None = None, strength: float = 0.0) -> Steers:
    hands = [ByHand(strength, list(columns), rows=rows)]
    return lambda queries, keys: hands if keys == t.keys and queries in (t.keys, len(t.picture)) else ()


def columns_of_owners(t: Tokens) -> dict:
    owners = dict(enumerate(t.references))
    return owners | ({"all references": [x for own in t.references for x in own]} if len(owners) > 1 else {})


def rows_of_routes(t: Tokens) -> dict:
    rows = list(t.picture if t.drawn is None else t.drawn)
    return {"everything": None, "directly": rows}


@pytest.mark.parametrize("name", TOKENS)
def test_the_effect_of_each_owner_by_each_route(name):
    """One of two calls of guidance, batches of two, videos: all are among these graphs."""
    t, steps = TOKENS[name](), 2 if name in TWO_STEPS else 1
    removals = {
        (owner, route): without(t, columns, rows)
        for owner, columns in columns_of_owners(t).items()
        for route, rows in rows_of_routes(t).items()
    }
    by_hand = Counterfactuals(without(t, [0], strength=1.0), removals)
    plain = t.graph.sample(by_hand.on(t.graph.model), steps=steps)["samples"]
    attribution = measured(t.graph, sampling={"steps": steps}, plain=plain, probe_steps=steps, routes=BOTH)
    effects = attribution.effects
    assert not effects.unmeasured
    assert set(effects.maps) == {Removal(step, *key) for step in range(steps) for key in removals}
    for removal, effect in effects.maps.items():
        close(effect, by_hand.effect(removal.step, removal[1:]), by_hand.with_[removal.step])
        assert effects.certainty(*removal[1:]) == "measured"


def region(t: Tokens, reference: int, number: int, grid: tuple[int, int]) -> list[int]:
    """Columns of one of the regions into which a reference is divided, row by row."""
    shape, places = t.grids[reference], (t.places or t.references)[reference]
    cells = ((y, x) for y in range(shape.height) for x in range(shape.width))
    wanted = divmod(number, grid[1])
    return [
        column
        for column, (y, x) in zip(places, cells, strict=True)
        if (y * grid[0] // shape.height, x * grid[1] // shape.width) == wanted
    ]


REGIONS = {  # of each graph: the rows and columns of regions of each reference, where so many on a side are asked for
    "kontext": (3, [(2, 3), (3, 2)]),
    "qwen": (2, [(2, 2), (2, 2)]),
    "hidream-e1": (2, [(2, 2)]),
    "wan i2v": (3, [(3, 3)]),
    "wan phantom": (2, [(2, 2), (2, 2)]),
    "wan vace": (16, [(2, 3)]),
    "hunyuan custom": (2, [(2, 2)]),
    "redux": (2, [(2, 2)]),
}


@pytest.mark.parametrize(("name", "route"), [(name, BOTH[n % 2]) for n, name in enumerate(REGIONS)])
def test_the_effect_of_each_region_by_both_cuts(name, route):
    """What is left alone is compared with nothing left: only then it is what the region does."""
    t, (per_side, grids) = TOKENS[name](), REGIONS[name]
    rows, removals = rows_of_routes(t)[route], {}
    for reference, grid in enumerate(grids):
        whole = list(t.references[reference])
        removals[reference, "whole"] = without(t, whole, rows)
        for number in range(grid[0] * grid[1]):
            inside = region(t, reference, number, grid)
            rest = [column for column in whole if column not in inside]
            removals[reference, CUTS[0], number] = without(t, inside, rows)
            removals[reference, CUTS[1], number] = without(t, rest, rows)
    by_hand = Counterfactuals(without(t, [0], strength=1.0), removals)
    plain = t.graph.sample(by_hand.on(t.graph.model), steps=1)["samples"]
    effects = measured(
        t.graph, sampling={"steps": 1}, plain=plain, probe_steps=1, regions=per_side, cuts=CUTS, routes=(route,)
    ).effects
    assert not effects.unmeasured
    assert set(effects.regions) == {(reference, cut) for reference in range(len(grids)) for cut in CUTS}
    for (reference, cut), regions in effects.regions.items():
        grid = grids[reference]
        assert ((regions.grid.height, regions.grid.width), regions.step, regions.route) == (grid, 0, route)
        compared_with = None if cut == CUTS[0] else (reference, "whole")
        for number in range(grid[0] * grid[1]):
            expected = by_hand.effect(0, (reference, cut, number), compared_with)
            close(regions.values[:, number], expected, by_hand.with_[0])


@pytest.mark.parametrize(("sampler", "evaluations"), [("heun", [0, 1, 3]), ("dpmpp_2s_ancestral", [0, 2, 4])])
def test_the_first_evaluation_of_a_step_is_measured(sampler, evaluations):
    """Of its sigma, which says the step in all that is captured: heun corrects a step at the next one's."""
    t = TOKENS["qwen"]()
    by_hand = Counterfactuals(without(t, [0], strength=1.0), {0: without(t, t.references[0])})
    sampling = {"sampler_name": sampler, "steps": 3}
    plain = t.graph.sample(by_hand.on(t.graph.model), **sampling)["samples"]
    assert len(by_hand.with_) == 5
    effects = measured(t.graph, sampling=sampling, plain=plain, probe_steps=3).effects
    assert effects.steps(0) == [0, 1, 2]
    for step, evaluation in enumerate(evaluations):
        close(effects.maps[Removal(step, 0)], by_hand.effect(evaluation, 0), by_hand.with_[evaluation])


def test_measured_steps_are_spread_over_the_first_half():
    assert measured_steps(3, 20) == [0, 3, 6]
    assert measured_steps(1, 20) == [0]
    assert measured_steps(4, 4) == measured_steps(9, 4) == [0, 1, 2, 3]
    assert measured_steps(3, 4) == [0, 1, 2]
    assert measured_steps(3, 0) == []
    for steps in range(1, 30):
        for count in range(1, steps + 1):
            chosen = measured_steps(count, steps)
            assert len(set(chosen)) == count and chosen[0] == 0 and chosen[-1] < steps


def test_predictions_are_latents_with_and_without_each_owner():
    """As a VAE takes them: each is of the run's own latent at that step."""
    t = TOKENS["qwen"]()
    removals = {owner: without(t, columns) for owner, columns in columns_of_owners(t).items()}
    by_hand = Counterfactuals(without(t, [0], strength=1.0), removals)
    plain = t.graph.sample(by_hand.on(t.graph.model))["samples"]
    effects = measured(t.graph, plain=plain, probe_steps=2, routes=BOTH).effects
    assert set(effects.predictions) == {(step, owner) for step in range(2) for owner in (None, *removals)}
    as_latent = t.graph.model.model.process_latent_out
    for (step, owner), latent in effects.predictions.items():
        prediction = by_hand.with_[step] if owner is None else by_hand.without[step][owner]
        torch.testing.assert_close(latent, as_latent(prediction), rtol=1e-5, atol=1e-5)
