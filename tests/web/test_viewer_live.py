"""The map so far in the page, while the sampler runs; then the result, or what there was before."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comfy_page import ComfyPage
from PIL import Image
from viewer_page import NODE, SHOWS, Viewer

import demo_graph
from comfy_server import ComfyServer
from devenv import prepare
from i2am_core.reading.aggregate import resize
from i2am_core.showing.render import color_table, heat

pytestmark = pytest.mark.timeout(300)

STEPS, ENDLESS = 16, 2000
SENT = "() => { window.i2amSent = []; app.api.addEventListener('i2am.live', ({detail}) => i2amSent.push(detail)); }"
SO_FAR = """(({soFar, pane}) => (viewer.live.draw(), {
    step: soFar.step, steps: soFar.steps, sampler: soFar.sampler, prompt: soFar.prompt, grid: soFar.maps[0].grid,
    values: [...soFar.maps[0].values], pixels: pane.heat.toDataURL('image/png'), legend: pane.legend.textContent,
    said: viewer.status.textContent, hidden: [viewer.body.hidden, !viewer.live.root.isConnected, pane.heat.hidden],
}))(viewer.live)"""


def graph(live: bool = True) -> dict[str, Any]:
    whole = demo_graph.build(steps=STEPS)
    whole["sampler"]["inputs"]["model"] = ["capture", 0]  # without I2AM Effect
    whole["capture"]["inputs"]["live"] = live
    names = ("scene", "loader", "positive", "negative", "inpaint", "capture", "sampler", "collect", "decode")
    nodes = {name: whole[name] for name in names}
    given = {"image": ["decode", 0], "reference": ["scene", 2], "mask": ["scene", 1]}
    return demo_graph.numbered(nodes | {"viewer": demo_graph.node(NODE, attribution=["collect", 0], **given)})


@pytest.fixture(scope="module", params=["pinned-canvas", "newest-vue"])
def comfy(
    request: pytest.FixtureRequest, browser: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyPage]:
    """A page of a server that makes previews, as most people let it."""
    frontend, renderer = request.param.split("-")
    host = prepare(tests=True)
    newest = [f"--front-end-root={host.newest_frontend}"] if frontend == "newest" else []
    with ComfyServer(host, tmp_path_factory.mktemp("live"), ["--preview-method=latent2rgb", *newest]) as server:
        context = browser.new_context(viewport={"width": 1600, "height": 1000})
        comfy = ComfyPage(context.new_page(), server, vue=renderer == "vue")
        comfy.name = request.param
        comfy.load_api(graph())
        comfy.page.evaluate(SENT)
        yield comfy
        assert comfy.watch.page_errors == [] and comfy.watch.ours() == []
        context.close()


@pytest.fixture(scope="module")
def viewer(comfy: ComfyPage) -> Viewer:
    comfy.show(NODE)
    return Viewer(comfy)


def set_sampler(viewer: Viewer, **values: int) -> None:
    viewer(
        """Object.entries(arg).forEach(([name, value]) => {
            app.graph.nodes.find(n => n.type === 'KSampler').widgets.find(w => w.name === name).value = value; })""",
        values,
    )


def interrupt(viewer: Viewer, prompt: str) -> None:
    viewer("app.api.interrupt(arg)", prompt)
    viewer.until("!viewer.live.soFar")


def send(viewer: Viewer, message: Any) -> None:
    """As if the server had sent it."""
    viewer("app.api.dispatchEvent(new CustomEvent('i2am.live', {detail: arg}))", message)


def check_pixels(screen: dict[str, Any]) -> None:
    """They are the colours of the map."""
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(screen["pixels"].partition(",")[2]))).convert("RGB"))
    values = torch.tensor(screen["values"]).view(1, *screen["grid"])
    expected = color_table("inferno")[(heat(values, pixels.shape[:2])[0] * 255).round().long()] * 255
    assert np.abs(pixels - expected.numpy()).max() <= 12
    assert values.max() > 1.5 * values.min()


def test_the_map_so_far_and_then_the_result(viewer: Viewer, artifacts: Path) -> None:
    prompt = viewer.comfy.queue()
    viewer.until("viewer.live.soFar?.step >= 5 && viewer.live.preview")
    screen = viewer(SO_FAR)
    viewer.page.screenshot(path=artifacts / f"viewer_live_{viewer.comfy.name}_first.png")
    assert screen["prompt"] == prompt and screen["steps"] == STEPS
    assert screen["said"] == f"So far: step {screen['step']} of {STEPS}."
    assert screen["hidden"] == [True, False, False]
    check_pixels(screen)
    viewer.comfy.server.wait(prompt)
    viewer.page.wait_for_function(SHOWS, arg=[0, None])
    viewer.until("!viewer.live.soFar && viewer.status.hidden && !viewer.body.hidden && !viewer.live.root.isConnected")
    assert viewer("viewer.live.preview") == ""
    viewer.shot(f"live_{viewer.comfy.name}_result", artifacts)
    steps = [message["step"] for message in viewer.page.evaluate("() => window.i2amSent")]
    assert steps == list(range(1, STEPS + 1))


def test_what_is_late_foreign_or_broken_does_no_harm(viewer: Viewer) -> None:
    last = viewer.page.evaluate("() => window.i2amSent.at(-1)")
    fresh = last | {"prompt_id": "another run"}
    (one,) = last["maps"]
    broken = [
        *(None, 5, "text", [], {}, {"maps": []}, fresh | {"maps": []}, fresh | {"maps": None}),
        *(fresh | {"step": -1}, fresh | {"viewers": "1"}, fresh | {"viewers": [3]}, fresh | {"capture": None}),
        *(fresh | {"maps": [one | change]} for change in ({"levels": "!"}, {"levels": ""}, {"grid": [0, 1]})),
        *(
            fresh | {"maps": [one | change]}
            for change in ({"grid": [10**6] * 2}, {"range": [0, None]}, {"normalization": 1})
        ),
    ]
    foreign = [
        last,  # of a run that has ended
        fresh | {"viewers": ["1000"]},
        fresh | {"viewers": []},
        fresh | {"capture": last["sampler"]},  # in this workflow, that is no Capture
        fresh | {"capture": "1000:3"},
    ]
    for message in [*broken, *foreign]:
        send(viewer, message)
        assert viewer("[viewer.live.soFar, viewer.status.hidden, viewer.body.hidden]") == [None, True, False], message
    send(viewer, fresh)  # of a run that began before the page was opened
    assert viewer("[viewer.live.soFar.step, viewer.body.hidden]") == [STEPS, True]
    blob = "new Blob(['x'], {type: 'image/png'})"
    for sampler, prompt in (("1000", "another run"), (last["sampler"], "a third run")):
        detail = f"{{blob: {blob}, nodeId: '{sampler}', promptId: '{prompt}'}}"
        viewer(f"viewer.live.showPreview({detail})")
        assert viewer("viewer.live.preview") == ""
    viewer("app.api.dispatchEvent(new CustomEvent('execution_success', {detail: {prompt_id: 'another run'}}))")
    assert viewer("[viewer.live.soFar, viewer.body.hidden]") == [None, False]
    send(viewer, fresh)
    assert viewer("viewer.live.soFar") is None  # late


def test_a_run_that_is_stopped_leaves_what_there_was(viewer: Viewer, artifacts: Path) -> None:
    before = viewer("viewer.result.filename")
    set_sampler(viewer, steps=ENDLESS, seed=4)
    prompt = viewer.comfy.queue()
    viewer.until("viewer.live.soFar?.step >= 3 && viewer.live.preview && viewer.live.pane.picture.complete")
    viewer.page.screenshot(path=artifacts / f"viewer_live_{viewer.comfy.name}_second.png")
    screen = viewer(SO_FAR)
    assert screen["steps"] == ENDLESS and screen["hidden"] == [True, False, False]
    check_pixels(screen)
    interrupt(viewer, prompt)
    assert viewer("[viewer.body.hidden, !viewer.live.root.isConnected, viewer.live.preview]") == [False, True, ""]
    assert viewer("viewer.result.filename") == before
    assert viewer("viewer.status.textContent") == "The run was stopped. Below is the result before it."
    viewer.until("!viewer.origin.hidden")
    said = viewer.part(".origin").inner_text()
    assert said.startswith("These maps are of another run.") and "differ" in said
    viewer.shot(f"live_{viewer.comfy.name}_stopped", artifacts)


def test_it_has_the_colours_and_the_reference_that_one_looks_at(viewer: Viewer) -> None:
    last = viewer.page.evaluate("() => window.i2amSent.at(-1)")
    (one,) = last["maps"]
    other = one | {"reference": 1, "name": "a second one"}
    viewer("viewer.change({colormap: 'viridis'})")
    send(viewer, last | {"prompt_id": "a fourth run", "maps": [other, one], "items": 2})
    viewer.until("viewer.live.frame.number === null")
    said = viewer("viewer.live.pane.detail.textContent")
    assert said.endswith(f"(paper), only where, not how much, {one['name']}, picture 0")
    table = (color_table("viridis") * 255).round().byte()
    pixels = viewer("[...viewer.live.pane.pixels.data.slice(0, 4000)]")
    known = {tuple(color) for color in table.tolist()}
    assert {tuple(pixels[n : n + 3]) for n in range(0, len(pixels), 4)} <= known
    share = {"normalization": "share", "grid": [1, 2], "range": [0.1, 0.2], "levels": "00ff"}  # levels 0 and 255
    send(viewer, last | {"prompt_id": "a fourth run", "maps": [one | share]})
    viewer.until("viewer.live.frame.number === null")
    assert viewer("viewer.live.pane.detail.textContent") == "how much it was looked at (share), mean 15 %"
    large = resize(torch.tensor([[[0.1, 0.2]]]), 256, 512)
    assert viewer("viewer.live.pane.legend.textContent") == f"0 %{100 * large.max().item():.3g} %"
    first = [*table[(255 * large[0, 0, 0] / large.max()).round().int()].tolist(), 255]  # of the smaller value
    assert np.abs(np.subtract(viewer("[...viewer.live.pane.pixels.data.slice(0, 4)]"), first)).max() <= 3
    assert first[:3] != table[0].tolist()
    assert viewer("(set => (viewer.live.draw(), set === viewer.live.pane.pixels))(viewer.live.pane.pixels)")
    viewer("viewer.runEnded()")
    viewer("viewer.change({colormap: 'inferno'})")


@pytest.mark.parametrize("kind", ["I2AM_Capture", NODE])
def test_in_a_subgraph(viewer: Viewer, kind: str, artifacts: Path) -> None:
    """Viewer and Capture are known by their places: both are in subgraphs in the end."""
    (one,) = viewer.comfy.ids(kind)
    viewer.comfy.to_subgraph(one)
    set_sampler(viewer, steps=ENDLESS, seed=5 if kind == NODE else 6)
    prompt = viewer.comfy.queue()
    viewer.until("viewer.live.soFar?.step >= 2")
    viewer.page.screenshot(path=artifacts / f"viewer_live_{viewer.comfy.name}_in_subgraph_{kind}.png")
    assert ":" in viewer("viewer.live.soFar.capture")
    interrupt(viewer, prompt)
