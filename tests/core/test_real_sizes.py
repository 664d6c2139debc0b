"""Runs of real size are kept whole by the default budget: ``benchmarks/memory.py`` feeds them, these are counted."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from i2am_core.kinds import KIND_OF
from i2am_core.recording.budget import Budget
from i2am_core.recording.detail import Extent

MB = 2**20
PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "memory.py"
spec = importlib.util.spec_from_file_location("memory_benchmark", PATH)
memory = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = memory
spec.loader.exec_module(memory)


def detail_of(case, budget_mb):
    """What is kept once all layers and references have turned up; pair maps come first."""
    budget = Budget(budget_mb * MB, case.steps)
    detail = budget.finest
    for layer in memory.Feed(case).layers:
        for number, grid in enumerate(case.references):
            key = (number, layer)
            if case.pair_rows:
                budget.pairs_fit(key, case.pair_rows * grid.cells)
            kinds = [kind for kind in KIND_OF.values() if case.pair_rows or not kind.scoped]
            frames = {"r2g": layer.grid.frames, "g2r": grid.frames}
            cells = {"r2g": layer.grid.cells, "g2r": grid.cells}
            extent = Extent(
                1, layer.heads, {k.key: cells[k.direction] for k in kinds}, {k.key: frames[k.direction] for k in kinds}
            )
            budget.add(key, extent)
            detail = budget.detail(detail, case.steps) or budget.coarsest
    return detail


@pytest.mark.parametrize("name", memory.CASES)
def test_each_step_and_each_head_is_kept(name):
    case = memory.CASES[name]
    detail = detail_of(case, 512)
    assert detail.by_step.bins == case.steps and detail.heads != "merged"
    assert (detail.heads == "over steps and frames") == name.startswith("Wan")


def test_what_does_not_fit_is_merged():
    case = memory.CASES["Kontext, 1 reference"]
    assert detail_of(case, 2048).heads == "in each step" and not detail_of(case, 2048).by_step.half
    assert detail_of(case, 64).heads == "merged" and detail_of(case, 64).by_step.bins == case.steps
    assert detail_of(case, 8).by_step.bins < case.steps


def test_the_benchmark_measures_a_run():
    """A small one: its levels are exact where nothing is rounded, and else as exact as is said."""
    grid = memory.TokenGrid(8, 6)
    case = memory.Case(((3, grid, 4),), (grid,), steps=4, pair_rows=5)
    for budget, most in ((2**30, 1e-6), (60_000, 2e-3)):
        row = memory.run(case, budget)
        errors = [float(part.split()[-2]) / 100 for part in row.split("|")[-2].split(",")]
        assert len(errors) == 4 and max(errors) < most, row
    assert torch.equal(memory.Feed(case).marginals(1, 0, 2).r2g_share, memory.Feed(case).marginals(1, 0, 2).r2g_share)
