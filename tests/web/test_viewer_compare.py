"""Two runs compared in the viewer: one is pinned as A, and what the next has more is drawn as the core draws it."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comfy_page import NOWHERE, ComfyPage
from PIL import Image
from recorded import COARSE, FINE, HEADS, REFERENCE
from selected import maps
from viewer_page import NODE, Viewer, write_view

import demo_graph
from demo_graph import Graph, node
from i2am_core import Layer, Place, Recorder, attribute, span
from i2am_core.attribution import Attribution
from i2am_core.showing.render import color_table, diverging

pytestmark = pytest.mark.timeout(300)

SIZE = (384, 256)
PANES = "viewer.comparison.panes"


def run(seed: int, steps: int = 4) -> Attribution:
    """A run of random attention, of which no two are alike."""
    torch.manual_seed(seed)
    recorder = Recorder(torch.linspace(10, 0, steps + 1), 1, 2**30)
    number = recorder.reference(REFERENCE)
    for step in range(steps):
        for layer in (Layer("fine", FINE, HEADS), Layer("coarse", COARSE, 2)):
            q, k = torch.randn(1, layer.heads, layer.grid.cells, 8), torch.randn(1, layer.heads, 20, 8)
            (marginals,) = attribute(2 * q, 2 * k, [span("reference", 0, REFERENCE.grid)])
            recorder.add(Place(layer, step, number), marginals)
    return recorder.freeze(grid=FINE, mechanism="test", branch="positive")


@pytest.fixture(scope="module", params=["canvas", "vue"])
def comfy(request: pytest.FixtureRequest, servers: Any, browser: Any) -> Any:
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    comfy = ComfyPage(context.new_page(), servers("newest"), vue=request.param == "vue")
    comfy.name = request.param
    comfy.add(NODE)
    yield comfy
    assert comfy.watch.page_errors == [] and comfy.watch.ours() == []
    context.close()


@pytest.fixture
def viewer(comfy: ComfyPage) -> Viewer:
    viewer = Viewer(comfy)
    viewer("viewer.restore(null)")
    viewer("viewer.pinned.unpin()")
    viewer.page.mouse.move(*NOWHERE)
    return viewer


def pixels(viewer: Viewer, place: str) -> np.ndarray:
    viewer.drawn()
    url = viewer(f"{PANES}.{place}.heat.toDataURL('image/png')")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")).astype(int)


def pin_and_compare(viewer: Viewer, a: Attribution, b: Attribution) -> None:
    viewer.open(a, f"a_{viewer.comfy.name}")
    viewer.part("button[aria-label^='Pin this result as A']").click()
    assert viewer.part(".compared").is_hidden() and viewer.part(".panes").first.is_visible()
    viewer.open(b, f"b_{viewer.comfy.name}")
    viewer.drawn()


@pytest.mark.parametrize("kind", ["paper", "share"])
def test_the_difference_is_that_of_the_core(viewer: Viewer, kind: str, artifacts: Path) -> None:
    a, b = run(1), run(2)
    pin_and_compare(viewer, a, b)
    viewer("viewer.change({normalization: arg})", kind)
    for side, direction in (("generated", "r2g"), ("reference", "g2r")):
        viewer.part("select[aria-label='Where they are compared']").select_option(side)
        for chosen in ({}, {"steps": "2"}, {"layers": "1"}):
            viewer(
                "viewer.change({step: arg[0], layer: arg[1]})", [chosen.get("steps") and 2, chosen.get("layers") and 1]
            )
            before, now = (maps(x, direction, normalization=kind, **chosen).values for x in (a, b))
            difference = (now - before)[:1]
            expected = (diverging(difference, SIZE)[0] * 255).round().int().numpy()
            # A byte for each cell: 1 of 255 of A and of B, of which the largest difference may be a part.
            assert np.abs(pixels(viewer, "difference") - expected).mean() < 3
    viewer("viewer.change({compared: 'generated', step: null, layer: null})")
    viewer.shot(f"compared_{viewer.comfy.name}_{kind}", artifacts)
    titles = viewer.part(".compared figcaption strong").all_inner_texts()
    assert [title[:5] for title in titles] == ["A \u00b7 W", "B \u00b7 W", "B - A"]
    assert viewer.part(".panes").first.is_hidden()


def test_colours_are_those_of_the_core(viewer: Viewer) -> None:
    table = viewer.page.evaluate(
        "async url => Array.from((await import(url)).DIVERGING)",
        f"{viewer.comfy.server.url}/extensions/i2am/viewer/compare/diverging.mjs",
    )
    expected = (color_table("RdBu_r") * 255).round().int().flatten()
    assert np.abs(np.array(table) - expected.numpy()).max() <= 1


def test_one_scrubber_moves_both(viewer: Viewer) -> None:
    pin_and_compare(viewer, run(1, steps=8), run(2))
    track = viewer.part(".scrubber[data-axis=step] .track").bounding_box()
    viewer.page.mouse.click(track["x"] + track["width"] * 1.5 / 4, track["y"] + track["height"] / 2)
    viewer.until("viewer.state.step === 1")
    viewer.drawn()
    details = viewer.part(".compared .detail").all_inner_texts()
    assert details[0].startswith("step 4 of 8") and details[1].startswith("step 2 of 4")
    legends = viewer.part(".compared .legend").all_inner_texts()
    assert legends[0] == legends[1] and legends[0].startswith("0")


def test_no_menu_offers_another_scale(viewer: Viewer) -> None:
    menu = viewer.part("select[aria-label='What the colours span']")
    pin_and_compare(viewer, run(1), run(2))
    assert menu.is_hidden()
    viewer("viewer.pinned.unpin()")
    viewer.drawn()
    assert menu.is_visible()


def test_a_question_waits(viewer: Viewer) -> None:
    pin_and_compare(viewer, run(1), run(2))
    viewer.part(".compared .box").first.hover()
    viewer.page.mouse.down()
    viewer("viewer.drawNow()")  # a frame that falls between loses no click
    viewer.page.mouse.up()
    viewer.page.wait_for_function(
        "() => document.querySelector('.i2am-viewer').shadowRoot.textContent.includes('unpin A first')"
    )
    assert viewer("viewer.state.ask") is None
    viewer.part(".compared .box").first.hover()  # the notice may have moved it from under the pointer
    viewer.part(".compared .value").first.wait_for()
    viewer.drawn()
    values = viewer.part(".compared .value").all_inner_texts()
    assert [value[: value.rindex(" ")] for value in values] == ["A", "B", "B - A"]


def test_unpinning_shows_the_last_run_alone(viewer: Viewer) -> None:
    pin_and_compare(viewer, run(1), run(2))
    viewer.part("button[aria-label='Unpin A']").click()
    viewer.drawn()
    assert viewer.part(".compared").is_hidden()
    assert viewer.part(".pane.reference").first.is_visible()
    assert viewer("viewer.comparison.made.length") == 0


def test_the_comparison_is_saved_as_it_is_seen(viewer: Viewer, artifacts: Path) -> None:
    pin_and_compare(viewer, run(1), run(2))
    save = viewer.part("details.save")
    save.locator("summary").click()
    with viewer.page.expect_download() as download:
        save.get_by_role("button", name="Save view as PNG").click()
    path = artifacts / f"compared_{viewer.comfy.name}_saved.png"
    download.value.save_as(path)
    assert Image.open(path).width > 1500  # three panes


def executed(viewer: Viewer, attribution: Attribution, name: str) -> Path:
    """A run of the node has ended, with this result."""
    path = viewer.comfy.server.work / "temp" / "temp" / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_view(attribution, path)
    result = {"filename": path.name, "subfolder": "", "type": "temp", "bytes": path.stat().st_size}
    viewer("node.onExecuted({i2am_view: [arg]})", result)
    viewer.until("viewer.result?.filename === arg && viewer.file && viewer.status.hidden", path.name)
    viewer.drawn()
    return path


def test_earlier_results_are_there_while_their_files_are(viewer: Viewer, artifacts: Path) -> None:
    name = viewer.comfy.name
    paths = [executed(viewer, run(seed), f"{name}_{seed}") for seed in (11, 12, 13)]
    menu = viewer.part("select[aria-label='Compare with an earlier result']")
    offered = [option.get_attribute("value") for option in menu.locator("option").all()]
    assert offered[:3] == ["", paths[1].name, paths[0].name]
    menu.select_option(paths[0].name)
    viewer.until("viewer.pinned.other")
    viewer.drawn()
    viewer.shot(f"compared_{name}_earlier", artifacts)
    assert viewer.part(".compared").is_visible()
    paths[1].unlink()
    menu.select_option(paths[1].name)
    viewer.page.wait_for_function(
        "() => document.querySelector('.i2am-viewer').shadowRoot.textContent.includes('not on the server any more')"
    )
    viewer.drawn()
    assert paths[1].name not in [option.get_attribute("value") for option in menu.locator("option").all()]
    assert viewer("viewer.pinned.name") == paths[0].name  # it stays what it was
    executed(viewer, run(14), f"{name}_14")
    assert viewer("viewer.pinned.name") == paths[0].name and viewer.part(".compared").is_visible()


def test_what_is_pinned_is_what_is_seen(viewer: Viewer) -> None:
    """While the next result is on its way, the one before is."""
    name = viewer.comfy.name
    first, second = (viewer.comfy.server.work / "temp" / "temp" / f"{name}_{n}.safetensors" for n in (31, 32))
    executed(viewer, run(31), first.stem)
    waiting: list[Any] = []
    viewer.page.route(f"**/view?*{second.stem}*", lambda route: waiting.append(route))
    write_view(run(32), second)
    result = {"filename": second.name, "subfolder": "", "type": "temp", "bytes": second.stat().st_size}
    viewer("void node.onExecuted({i2am_view: [arg]})", result)
    viewer.until("viewer.results.last.filename === arg", second.name)
    viewer.part("button[aria-label^='Pin this result as A']").click()
    assert viewer("viewer.pinned.name") == viewer("viewer.result.filename") == first.name
    waiting[0].continue_()
    viewer.page.unroute(f"**/view?*{second.stem}*")
    viewer.part(".compared").wait_for()
    assert viewer("viewer.result.filename") == second.name


ANEW = """() => {
    const old = app.graph.nodes.find(node => node.i2amViewer), saved = old.serialize();
    app.graph.remove(old);
    const node = LiteGraph.createNode(saved.type);
    app.graph.add(node);
    node.configure(saved);
}"""


def test_a_workflow_that_is_opened_again_keeps_what_is_pinned(viewer: Viewer) -> None:
    name = viewer.comfy.name
    path = executed(viewer, run(21), f"{name}_21")
    viewer.part("button[aria-label^='Pin this result as A']").click()
    executed(viewer, run(22), f"{name}_22")
    viewer.page.evaluate(ANEW)
    viewer.until("viewer?.pinned.other")
    assert viewer("viewer.pinned.name") == path.name
    path.unlink()
    viewer.page.evaluate(ANEW)
    viewer.until("viewer?.file && viewer.pinned.gone")
    viewer.until("viewer.root.shadowRoot.querySelector('.numbers').textContent.includes('not on the server any more')")
    assert viewer("viewer.pinned.file") is None and viewer.part(".compared").count() == 0


HOLD_FIRST = """(({ page }, open) => {
    viewer.asked = [];
    page.open = result => {
        viewer.asked.push(result.filename);
        return viewer.asked.length > 1 ? open(result) : new Promise((_, refuse) => (viewer.refuse = refuse));
    };
})(viewer, viewer.page.open)"""


def test_what_is_pinned_is_asked_for_once(viewer: Viewer) -> None:
    """However often ComfyUI says that outputs have changed while it is on its way; and again once that has failed."""
    name = viewer.comfy.name
    path = executed(viewer, run(41), f"{name}_41")
    viewer.part("button[aria-label^='Pin this result as A']").click()
    executed(viewer, run(42), f"{name}_42")
    viewer(HOLD_FIRST)
    said = "app.extensions.find(one => one.name === 'i2am.viewer').onNodeOutputsUpdated()"
    viewer("viewer.pinned.file = null")
    for _ in range(3):
        viewer(said)
    assert viewer("viewer.asked") == [path.name]
    viewer("viewer.refuse(new Error('no network'))")
    viewer.until("!viewer.pinned.wanted")
    viewer(said)
    viewer.until("viewer.pinned.other")
    assert viewer("[viewer.pinned.name, viewer.asked.length]") == [path.name, 2]


def graph(seed: int) -> Graph:
    whole = demo_graph.build(steps=4, seed=seed)
    names = ("scene", "loader", "positive", "negative", "inpaint", "capture", "effect", "sampler", "collect", "decode")
    nodes = {name: whole[name] for name in names}
    given = {"image": ["decode", 0], "reference": ["scene", 2], "mask": ["scene", 1]}
    nodes["viewer"] = node(NODE, attribution=["collect", 0], **given)
    return demo_graph.numbered(nodes)


def test_settings_that_differ_are_said(servers: Any, browser: Any, artifacts: Path) -> None:
    """A person runs, pins, sets another seed, and runs again."""
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    comfy = ComfyPage(context.new_page(), servers("newest"), vue=False)
    comfy.load_api(graph(3))
    comfy.show(NODE)
    comfy.run()
    viewer = Viewer(comfy)
    viewer.until("viewer.file && viewer.status.hidden")
    viewer.part("button[aria-label^='Pin this result as A']").click()
    comfy.page.evaluate(
        "() => { const seed = app.graph.nodes.flatMap(node => node.widgets ?? []).find(one => one.name === 'seed');"
        " seed.value = 4; }"
    )
    comfy.run()
    viewer.until("viewer.pinned.other && viewer.status.hidden")
    viewer.drawn()
    said = viewer.part(".compared li").all_inner_texts()
    assert said[0].startswith("A: ") and said[1].startswith("B: ") and "seed: 3 in A, 4 in B" in said[2]
    findings = viewer.part(".findings li > button span:last-child").all_inner_texts()
    assert findings and all(one.startswith("B: ") for one in findings)
    viewer("viewer.change({normalization: 'effect'})")
    viewer.shot("compared_effect", artifacts)
    assert viewer.part(".compared .detail").last.inner_text() == "the masks differ"  # another scene was drawn
    viewer("viewer.pinned.unpin()")
    viewer.drawn()
    assert not any("B: " in one for one in viewer.part(".findings li > button").all_inner_texts())
    assert comfy.watch.page_errors == [] and comfy.watch.ours() == []
    context.close()
