"""The template as an artist meets it: found in the template browser, opened, run and read."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comfy_page import IN_VIEW, READY, SETTLED, USUAL, Watch, is_queued, set_setting

TEMPLATE = Path(__file__).resolve().parent.parent.parent / "example_workflows" / "reference_inpainting_demo.json"
FOLDER = "i2am"  # the name that the template browser shows
PICTURES_ARE_DRAWN = """() => app.graph.nodes.filter(node => node.type === "PreviewImage").every(
    node => node.imgs?.length && node.imgs.every(image => image.complete && image.naturalWidth > 0))"""
# For each preview: how far the pixel values of each picture spread.
SPREADS = """() => app.graph.nodes.filter(node => node.type === "PreviewImage").map(node => [node.title,
    node.imgs.map(image => {
        const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
        const context = canvas.getContext("2d");
        context.drawImage(image, 0, 0);
        const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
        let low = 255, high = 0;
        for (let i = 0; i < pixels.length; i += 4) {
            low = Math.min(low, pixels[i]);
            high = Math.max(high, pixels[i]);
        }
        return high - low;
    })])"""
TEXTS = """() => app.graph.nodes.filter(node => node.type === "PreviewAny").map(node => [
    app.graph.getNodeById(app.graph.links[node.inputs[0].link].origin_id).type, String(node.widgets[0].value)])"""

# As text of the page, or of a text box in newer frontends.
SCORE_IS_DRAWN = r"""() => [
    document.body.innerText,
    ...[...document.querySelectorAll("textarea")].filter(box => box.checkVisibility()).map(box => box.value)
].some(text => /"score": -?\d+\.\d+/.test(text))"""
MENU = ".comfy-menu-button-wrapper, .comfyui-logo-wrapper"  # newer and older frontends


@pytest.fixture(scope="module")
def watch(page: Any) -> Watch:
    return page.i2am_watch


@pytest.fixture(scope="module")
def page(server: Any, browser: Any) -> Any:
    """A first visit: ComfyUI offers its templates by itself, which is closed again."""
    page = browser.new_page(viewport={"width": 1920, "height": 1080})
    page.set_default_timeout(30_000)
    page.i2am_watch = Watch(page)
    for name in ("Comfy.TutorialCompleted", "Comfy.VueNodes.Enabled"):
        set_setting(page, server, name, False)
    for name, value in USUAL.items():
        set_setting(page, server, name, value)
    page.goto(server.url)
    page.wait_for_function(READY)
    page.get_by_test_id("template-workflows-content").wait_for()
    cross = page.get_by_role("dialog").locator("button:has(.pi-times)")  # of most frontends
    if cross.count():
        cross.first.click()
    else:
        page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    yield page
    page.close()


@pytest.fixture(scope="module")
def opened(page: Any, artifacts: Path) -> Any:
    """The page after the template was found through the menu and clicked."""
    page.locator(MENU).click()
    page.get_by_role("menuitem", name="Browse Templates").click()
    dialog = page.get_by_role("dialog")
    folder = dialog.get_by_role("button", name=FOLDER, exact=True)
    folder.or_(dialog.get_by_role("option", name=FOLDER, exact=True)).click()  # newer and older frontends
    card = dialog.get_by_test_id(f"template-workflow-{TEMPLATE.stem}")
    card.scroll_into_view_if_needed()  # thumbnails out of sight are not loaded
    thumbnail = card.locator("img[src^='blob:']").element_handle()  # ComfyUI's own picture, for want of one, has a URL
    page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=thumbnail)
    page.screenshot(path=artifacts / "template_browser.png")
    card.click()
    dialog.wait_for(state="detached")
    page.wait_for_function("count => app.graph.nodes.length === count", arg=len(template()["nodes"]))
    page.wait_for_function(SETTLED, polling=300)
    page.screenshot(path=artifacts / "template_opened.png")
    return page


@pytest.fixture(scope="module")
def finished(opened: Any, server: Any, artifacts: Path) -> Iterator[Any]:
    """The page after Run, with every picture loaded. Older frontends leave text out where all is in view."""
    with opened.expect_response(is_queued) as it:
        queue = opened.get_by_test_id("queue-button")  # newer frontends: the button itself
        queue.get_by_role("button", name="Run").or_(queue.and_(opened.get_by_role("button"))).first.click()
    server.wait(it.value.json()["prompt_id"])
    opened.wait_for_function(PICTURES_ARE_DRAWN)
    opened.wait_for_function(f"() => ({TEXTS})().every(([, text]) => text)")
    opened.screenshot(path=artifacts / "template_finished.png")
    yield opened
    opened.get_by_role("button", name="Fit View").click()
    opened.wait_for_function(SETTLED, polling=300)
    opened.screenshot(path=artifacts / "template_fitted.png")


def template() -> dict[str, Any]:
    return json.loads(TEMPLATE.read_text())


def test_opens_whole(opened: Any) -> None:
    types = opened.evaluate("() => app.graph.nodes.map(node => node.type)")
    assert Counter(types) == Counter(node["type"] for node in template()["nodes"])
    assert opened.evaluate("() => app.graph.nodes.filter(node => node.has_errors).map(node => node.title)") == []
    assert opened.get_by_role("dialog").count() == 0  # such as the one on missing nodes
    assert opened.locator(".p-toast-message").all_inner_texts() == []  # such as the one on an invalid workflow


def test_opens_with_everything_in_view(opened: Any) -> None:
    """At the usual size of a window, and large enough for ComfyUI to draw the text on nodes."""
    scale, left, top, right, bottom = opened.evaluate(IN_VIEW)
    assert scale > 0.58
    assert left > 60  # the side bar
    assert top > 120  # the tabs and the name of the workflow
    assert right < 1920
    assert bottom < 1080


def test_every_preview_shows_a_picture(finished: Any) -> None:
    spreads = dict(finished.evaluate(SPREADS))
    assert len(spreads) == sum(node["type"] == "PreviewImage" for node in template()["nodes"])
    assert {title: spread for title, spread in spreads.items() if min(spread) < 20} == {}


def test_the_viewer_shows_both_maps(finished: Any) -> None:
    viewer = "app.graph.nodes.find(node => node.type === 'I2AM_Viewer').i2amViewer"
    finished.wait_for_function(f"() => {viewer}.file && {viewer}.frame.number === null")
    for side in ("generated", "reference"):
        canvas = finished.locator(f".i2am-viewer .pane.{side} canvas.heat")
        pixels = canvas.evaluate(
            "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)"
        )
        assert len(set(pixels)) > 100
    assert finished.locator(".i2am-viewer .numbers").inner_text().startswith("IMACS 0.5")


def test_texts_say_something(finished: Any) -> None:
    texts = dict(finished.evaluate(TEXTS))
    assert "20 steps" in texts["I2AM_Collect"]
    assert len(re.findall(r'"score": -?\d+\.\d+', texts["I2AM_IMACS"])) == 2
    finished.wait_for_function(SCORE_IS_DRAWN)


def test_nothing_went_wrong_in_the_page(finished: Any, watch: Watch) -> None:
    assert watch.page_errors == []
    assert watch.ours() == []
    assert [text for text in watch.console if "Invalid workflow" in text] == []
