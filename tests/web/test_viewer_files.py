"""Files of other kinds of runs in the viewer: several pictures and references, no place, a large one, one in pieces."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comfy_page import ComfyPage
from recorded import COARSE, FINE, HEADS, REFERENCE
from selected import maps
from viewer_page import NODE, Viewer

from i2am_core import Layer, Place, Recorder, Reference, TokenGrid, attribute, span
from i2am_core.attribution import Attribution, LayerMaps
from i2am_core.showing.render import heat

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", params=["canvas", "vue"])
def comfy(request: pytest.FixtureRequest, servers: Any, browser: Any) -> Any:
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    comfy = ComfyPage(context.new_page(), servers("newest"), vue=request.param == "vue")
    comfy.name = request.param
    comfy.add(NODE)
    yield comfy
    context.close()


@pytest.fixture
def viewer(comfy: ComfyPage) -> Viewer:
    viewer = Viewer(comfy)
    viewer("viewer.restore({normalization: 'paper'})")  # whose maps are compared here
    return viewer


@pytest.fixture
def load(viewer: Viewer) -> Callable[..., None]:
    return viewer.open


def several() -> Attribution:
    """Two pictures, a reference with a grid and one without, head counts that differ."""
    recorder = Recorder(torch.linspace(10, 0, 6), 2, 2**30)
    face = Reference("face", 4, None, approximate=True)
    numbers = [recorder.reference(REFERENCE), recorder.reference(face)]
    for step in range(5):
        for layer in (Layer("fine", FINE, HEADS), Layer("coarse", COARSE, 2)):
            q, k = torch.randn(2, layer.heads, layer.grid.cells, 8), torch.randn(2, layer.heads, 20, 8)
            groups = [span("reference", 0, REFERENCE.grid), span("face", 12, count=4)]
            for number, marginals in zip(numbers, attribute(q, k, groups), strict=True):
                recorder.add(Place(layer, step, number), marginals)
    recorder.skip("text attention", calls=7)
    recorder.note("the place of the tokens is a guess", "steered by I2AM Steer: strength 0 on all references")
    for _ in range(10):
        recorder.captured("a layer")
    return recorder.freeze(grid=FINE, mechanism="test", branch="positive")


def test_pictures_and_references_are_chosen(viewer: Viewer, load: Callable[..., None], artifacts: Path) -> None:
    attribution = several()
    load(attribution, "several")
    viewer.part("select[aria-label='Picture of the batch']").select_option("1")
    alike(viewer, "r2g", "generated", attribution, item=1)
    alike(viewer, "g2r", "reference", attribution, item=1)
    viewer.part("select[aria-label=Reference]").select_option("1")
    alike(viewer, "r2g", "generated", attribution, item=1, reference=1)
    assert "have no place in its image" in viewer.part(".pane.reference .message").inner_text()
    assert viewer("viewer.panes.reference.heat.hidden")
    viewer.shot(f"several_{viewer.comfy.name}", artifacts)


def alike(viewer: Viewer, direction: str, side: str, attribution: Attribution, **selection: Any) -> None:
    expected = (heat(maps(attribution, direction, **selection).values, (384, 256))[0] * 255).round().numpy()
    assert np.abs(viewer.levels(side) - expected).max() <= 2


def test_heads_are_named_within_their_layers(viewer: Viewer, load: Callable[..., None]) -> None:
    load(several(), "heads")
    viewer("viewer.change({head: arg})", HEADS)
    label = viewer.part(".scrubber[data-axis=head] output")
    viewer.drawn()
    assert label.inner_text() == "head 0 of 2"
    viewer("viewer.change({layer: 0, head: arg})", HEADS - 1)
    viewer.drawn()
    assert label.inner_text() == f"head {HEADS - 1} of {HEADS}"


def test_notes_say_what_was_skipped_or_steered_and_what_is_a_guess(viewer: Viewer, load: Callable[..., None]) -> None:
    load(several(), "notes")
    notes = viewer.part("details.notes")
    assert (
        notes.locator("summary").inner_text()
        == "notes \u00b7 7 of 17 attention calls skipped \u00b7 a guess \u00b7 steered \u00b7 approximate"
    )
    notes.locator("summary").click()
    assert "7 x text attention" in notes.locator("pre").inner_text()
    notes.locator("summary").click()


def test_a_share_of_all_is_said_and_not_painted(viewer: Viewer, load: Callable[..., None], artifacts: Path) -> None:
    """Of a softmax of its own, as an IP-Adapter's, nothing competes with the reference."""
    recorder = Recorder(torch.linspace(10, 0, 3), 1, 2**30)
    number = recorder.reference(REFERENCE)
    for step in range(2):
        q, k = torch.randn(1, HEADS, FINE.cells, 8), torch.randn(1, HEADS, REFERENCE.grid.cells, 8)
        (marginals,) = attribute(q, k, [span("reference", 0, REFERENCE.grid)])
        recorder.add(Place(Layer("fine", FINE, HEADS), step, number), marginals)
    load(recorder.freeze(grid=FINE, mechanism="test", branch="positive"), "flat")
    viewer("viewer.change({normalization: 'share'})")
    viewer.drawn()
    assert viewer.part(".pane.generated .message").inner_text().startswith("100 % everywhere: nothing competes")
    assert viewer("viewer.panes.generated.heat.hidden") and not viewer("viewer.panes.reference.heat.hidden")
    viewer.shot(f"flat_{viewer.comfy.name}", artifacts)


def test_without_pair_maps_it_says_how_to_get_them(viewer: Viewer, load: Callable[..., None]) -> None:
    load(several(), "unpaired")
    viewer.drawn()
    assert "set pair_maps of I2AM Capture" in viewer.part(".hint").inner_text()
    viewer.click("generated", 0.5, 0.5)
    assert "set pair_maps of I2AM Capture" in viewer.part(".pane.reference .message").inner_text()


def large() -> Attribution:
    """As an IP-Adapter on SDXL, at 1024 x 1024, in 30 steps."""
    steps, reference = 30, Reference("ip-adapter", 256, TokenGrid(16, 16))
    layers = [Layer(f"fine {n}", TokenGrid(64, 64), 10) for n in range(10)]
    layers += [Layer(f"coarse {n}", TokenGrid(32, 32), 20) for n in range(60)]

    def entry(layer: Layer) -> LayerMaps:
        cells = {"r2g": layer.grid.cells, "g2r": 256}
        names = ("r2g_paper", "r2g_share", "g2r_paper", "g2r_share")
        return LayerMaps({x: torch.rand(1, steps, layer.heads, cells[x[:3]]) for x in names}, torch.ones(steps))

    return Attribution(
        references=(reference,),
        layers=tuple(layers),
        entries={(0, n): entry(layer) for n, layer in enumerate(layers)},
        bins=tuple(range(step, step + 1) for step in range(steps)),
        sigmas=tuple(torch.linspace(14, 0, steps + 1).tolist()),
        items=1,
        heads="in each step",
        grid=TokenGrid(128, 128),
    )


def test_a_large_file_is_scrubbed_within_a_frame(viewer: Viewer, load: Callable[..., None], artifacts: Path) -> None:
    load(large(), "large")
    assert 50 * 2**20 < viewer("viewer.result.bytes") < 64 * 2**20
    page = MainThread(viewer)
    page.cost(SCRUB, "step")  # the first time, the browser compiles
    costs = {}
    for axis in ("step", "layer", "head"):
        rounds = [(page.cost(SCRUB, axis), page.cost(COUNT)) for _ in range(ROUNDS)]
        drawn, counted = (min(costs) for costs in zip(*rounds, strict=True))  # when nobody else disturbed it
        costs[axis] = drawn / counted
    (artifacts / f"viewer_frame_costs_{viewer.comfy.name}.json").write_text(json.dumps(costs))
    assert {axis: cost for axis, cost in costs.items() if cost >= LIMIT} == {}


def test_drawing_lays_nothing_out(viewer: Viewer, load: Callable[..., None]) -> None:
    """The browser lays the page out once, after all drawing. Within it, that would cost the most in Nodes 2.0."""
    load(large(), "laid_out")
    page = MainThread(viewer)
    before = page.metrics()["LayoutCount"]
    viewer(SCRUB, "layer")
    assert page.metrics()["LayoutCount"] - before < FRAMES / 4  # the page may lay out for reasons of its own


class MainThread:
    """What scripts cost the page's main thread, in seconds of CPU. A clock would measure a busy machine as well."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self.devtools = viewer.page.context.new_cdp_session(viewer.page)
        self.devtools.send("Performance.enable", {"timeDomain": "threadTicks"})

    def metrics(self) -> dict[str, float]:
        return {one["name"]: one["value"] for one in self.devtools.send("Performance.getMetrics")["metrics"]}

    def cost(self, script: str, arg: Any = None) -> float:
        before = self.metrics()["TaskDuration"]
        self.viewer(script, arg)
        return self.metrics()["TaskDuration"] - before


ROUNDS = 20
FRAMES = 10  # of a round
# A frame costs 4 times as much as COUNT does for it, 4 ms where we measured; drawn twice, 7 to 8 times as much.
LIMIT = 6
SCRUB = f"(axis => {{ for (let i = 0; i < {FRAMES}; i++) {{ viewer.moveAlong(axis, 1); viewer.drawNow(); }} }})(arg)"
# For each frame some arithmetic that is known: what it costs on this machine, as busy as it is.
COUNT = f"""(() => {{
    const values = new Float32Array(100000);
    for (let loop = 0; loop < 8 * {FRAMES}; loop++)
        for (let i = 0; i < values.length; i++) values[i] = values[i] * 0.5 + i;
    return values[7];
}})()"""


def test_loading_shows_its_progress(viewer: Viewer, load: Callable[..., None]) -> None:
    viewer("viewer.notified = []")
    viewer(
        "viewer.notify = (...words) => "
        "(viewer.notified.push(words), Object.getPrototypeOf(viewer).notify.apply(viewer, words))"
    )
    load(large(), "progress")
    parts = [words[1] for words in viewer("viewer.notified") if words[0] == "Loading {0} %"]
    viewer("delete viewer.notify")
    assert len(parts) > 5 and parts == sorted(parts) and parts[-1] == 100


def test_a_damaged_file_is_an_error_that_leaves_the_last_result(
    viewer: Viewer, load: Callable[..., None], artifacts: Path
) -> None:
    load(several(), "whole")
    path = viewer.comfy.server.work / "temp" / "temp" / "whole.safetensors"
    path.with_stem("half").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    viewer.load("half.safetensors", 1)
    viewer.until("viewer.status.textContent.startsWith('The result could not be read: the file is damaged')")
    assert viewer("Boolean(viewer.file)") and viewer.part(".panes").is_visible()
    viewer.shot(f"damaged_{viewer.comfy.name}", artifacts)


def test_in_chinese_and_in_light(servers: Any, browser: Any, artifacts: Path) -> None:
    """The words and the colours are those that ComfyUI is set to."""
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    comfy = ComfyPage(
        context.new_page(), servers("newest"), vue=False, settings={"Comfy.Locale": "zh", "Comfy.ColorPalette": "light"}
    )
    comfy.add(NODE)
    viewer = Viewer(comfy)
    viewer.load("several.safetensors", 1)
    viewer.until("viewer.file")
    viewer.shot("chinese_light", artifacts)
    assert viewer.part(".pane.generated strong").inner_text() == "\u53c2\u8003\u56fe\u4f5c\u7528\u5728\u4f55\u5904"
    background = viewer("getComputedStyle(viewer.body.parentElement).backgroundColor")
    assert min(int(part) for part in re.findall(r"\d+", background)[:3]) > 180
    context.close()
