"""What a person does, from the first template to a file for a colleague, in one go."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from comfy_page import SETTLED, ComfyPage, Watch
from viewer_page import Viewer

pytestmark = pytest.mark.timeout(300)

TEMPLATE = Path(__file__).resolve().parents[2] / "example_workflows" / "a_first_look.json"
FOLDER = "i2am"  # the name that the template browser shows
EMPTY = (1780, 500)  # a place of the canvas beside the template
EFFECT = re.compile(r"effect ([\d.]+) in the mask")
WEAKER = 0.25  # times as strong

# Puts a node where the model comes from, as one does by dragging its links.
STEER = """strength => {
    const capture = app.graph.nodes.find(node => node.type === "I2AM_Capture");
    const {origin_id, origin_slot} = app.graph.links.get(capture.inputs[0].link);
    const steer = LiteGraph.createNode("I2AM_Steer");
    app.graph.add(steer);
    steer.pos = [-380, 70];
    app.graph.getNodeById(origin_id).connect(origin_slot, steer, steer.findInputSlot("model"));
    steer.connect(0, capture, capture.findInputSlot("model"));
    const widget = steer.widgets.find(widget => widget.name === "strength");
    widget.value = strength;
    widget.callback?.(strength);
}"""


@pytest.mark.parametrize("renderer", ["canvas", "vue"])
def test_from_the_template_to_a_file_for_a_colleague(
    renderer: str, servers: Any, browser: Any, artifacts: Path, tmp_path: Path
) -> None:
    context = browser.new_context(viewport={"width": 1920, "height": 1080})
    comfy = ComfyPage(context.new_page(), servers("newest"), vue=renderer == "vue")
    viewer = Viewer(comfy)

    def stop(name: str) -> None:
        comfy.page.mouse.move(*EMPTY)
        comfy.page.wait_for_function(SETTLED, polling=300)
        comfy.page.screenshot(path=artifacts / f"person_{renderer}_{name}.png")

    open_template(comfy)
    stop("1_opened")
    run(viewer)
    stop("2_run")
    assert viewer.part(".findings .fine").count() and not viewer.part(".findings .fault").count()
    look_elsewhere_and_click_the_finding(viewer)
    stop("3_proof")
    steer_and_pin(viewer)
    stop("4_steered")
    run(viewer)
    viewer.part(".compared").wait_for()
    assert "brings little form" in viewer.part(".findings .fault").first.inner_text()
    before, now, settings = viewer.part(".compared li").all_inner_texts()
    assert effect(before) > effect(now) and "I2AM_Steer: in B alone" in settings
    stop("5_compared")
    saved = save(viewer, tmp_path)
    assert comfy.watch.page_errors == [] and comfy.watch.ours() == []
    findings = [text.replace("B: ", "", 1) for text in viewer.part(".findings li").all_inner_texts()]
    context.close()
    assert findings_of(saved, browser, artifacts / f"person_{renderer}_6_saved.png") == findings


def open_template(comfy: ComfyPage) -> None:
    page = comfy.page
    comfy.command("Comfy.BrowseTemplates")
    dialog = page.get_by_role("dialog")
    folder = dialog.get_by_role("button", name=FOLDER, exact=True)
    folder.or_(dialog.get_by_role("option", name=FOLDER, exact=True)).click()
    dialog.get_by_test_id(f"template-workflow-{TEMPLATE.stem}").click()
    dialog.wait_for(state="detached")
    nodes = len(json.loads(TEMPLATE.read_text())["nodes"])
    page.wait_for_function("count => app.graph.nodes.length === count", arg=nodes)
    comfy.rendered()


def run(viewer: Viewer) -> None:
    """Press Run, and wait for the new result."""
    before = viewer("viewer.result?.filename")
    assert viewer.comfy.run()["status"]["status_str"] == "success"
    viewer.until("viewer.result && viewer.result.filename !== arg && viewer.status.hidden", before)
    viewer.drawn()


def effect(said: str) -> float:
    match = EFFECT.search(said)
    assert match, said
    return float(match[1])


def look_elsewhere_and_click_the_finding(viewer: Viewer) -> None:
    title = viewer.part(".pane.generated strong")
    viewer.part("select[aria-label='What a value says']").select_option("paper")
    viewer.drawn()
    assert title.inner_text() == "Where the reference acts"
    viewer.part(".findings li > button").first.click()
    viewer.drawn()
    assert title.inner_text() == "What the reference changed"


def steer_and_pin(viewer: Viewer) -> None:
    """The viewer says at once that its result is of other settings."""
    viewer.part("button[aria-label^='Pin this result as A']").click()
    viewer.page.evaluate(STEER, WEAKER)
    viewer.page.mouse.click(*EMPTY)  # ComfyUI takes note of what scripts do with the next event
    origin = viewer.part(".origin")
    origin.wait_for()
    assert "I2AM Steer is new" in origin.inner_text()


def save(viewer: Viewer, folder: Path) -> Path:
    viewer.part("details.save summary").click()
    with viewer.page.expect_download() as download:
        viewer.part("details.save").get_by_role("button", name="Save as HTML").click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def findings_of(saved: Path, browser: Any, shot: Path) -> list[str]:
    """What the file says, opened from disk without a network, and in which nothing went wrong."""
    context = browser.new_context(viewport={"width": 1300, "height": 1000}, offline=True)
    page = context.new_page()
    watch = Watch(page)
    page.goto(saved.as_uri())
    page.locator(".i2am-viewer .findings li").first.wait_for()
    page.screenshot(path=shot)
    said = page.locator(".i2am-viewer .findings li").all_inner_texts()
    assert watch.page_errors == [] and watch.console == []
    context.close()
    return said
