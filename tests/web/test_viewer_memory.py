"""A page with several viewers that see many results holds the memory of those it shows, and of no others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comfy_page import ComfyPage
from viewer_page import NODE, Viewer

from i2am_core import Recorder, Reference, TokenGrid, attribute, span
from i2am_core.attribution import Attribution, Layer
from i2am_core.recording.recorder import Place

VIEWERS, RESULTS = 3, 10
GRID = TokenGrid(32, 32)

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def comfy(servers: Any, browser: Any) -> Any:
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    comfy = ComfyPage(context.new_page(), servers("newest"), vue=True)
    for _ in range(VIEWERS):
        comfy.add(NODE)
    yield comfy
    context.close()


def result(seed: int) -> Attribution:
    g = torch.Generator().manual_seed(seed)
    recorder = Recorder(torch.linspace(10, 0, 5), 1, 2**30)
    number = recorder.reference(Reference("face", GRID.cells, GRID))
    for step in range(4):
        for name in ("first", "second"):
            q, k = (torch.randn(1, 8, GRID.cells, 8, generator=g) for _ in range(2))
            (maps,) = attribute(q, k, [span("face", 0, GRID)])
            recorder.add(Place(Layer(name, GRID, 8), step, number, reference_grid=GRID), maps)
    return recorder.freeze(grid=GRID, mechanism="test", branch="positive")


REMEMBER = "(window.i2amFiles ??= []).push(new WeakRef(viewer.file), new WeakRef(viewer.file.tensors))"
ALIVE = "() => window.i2amFiles.filter(reference => reference.deref()).length"


def test_results_that_are_not_seen_any_more_take_no_memory(comfy: ComfyPage) -> None:
    viewers = [Viewer(comfy, number) for number in range(VIEWERS)]
    devtools = comfy.page.context.new_cdp_session(comfy.page)
    alive = []
    for number in range(RESULTS):
        for viewer in viewers:
            viewer.open(result(number), f"memory_{number}_{viewer.number}")
            viewer.drawn()
            viewer(REMEMBER)
        devtools.send("HeapProfiler.collectGarbage")
        alive.append(comfy.page.evaluate(ALIVE))
    assert alive[0] == 2 * VIEWERS  # of each its file, and the tensors in it
    assert max(alive[1:]) <= 2 * VIEWERS, alive
