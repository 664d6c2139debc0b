"""The pack's nodes in both frontends and both renderers; and the driver of the page does what it says."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comfy_page import ComfyPage
from PIL import Image

TEMPLATE = Path(__file__).resolve().parents[2] / "example_workflows" / "reference_inpainting_demo.json"
WORKFLOW: dict[str, Any] = json.loads(TEMPLATE.read_text())
COUNT = len(WORKFLOW["nodes"])
IDS = sorted((str(node["id"]) for node in WORKFLOW["nodes"]), key=int)
OURS = [str(node["id"]) for node in WORKFLOW["nodes"] if node["type"].startswith("I2AM_")]
LINKS = "() => [...(app.graph.links.values?.() ?? Object.values(app.graph.links))].length"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def opened(comfy: ComfyPage) -> ComfyPage:
    """With the workflow as it is in the file: opened again only if a test left something else behind."""
    if sorted(comfy.ids(), key=int) != IDS:
        comfy.load(WORKFLOW)
    return comfy


def test_every_node_is_drawn(opened: ComfyPage, artifacts: Path) -> None:
    assert opened.ids("I2AM_") == OURS
    assert opened.page.evaluate("() => app.graph.nodes.filter(node => node.has_errors).map(node => node.type)") == []
    assert opened.page.get_by_text("Node Render Error").count() == 0
    for node in OURS:
        x, y = opened.center_on(node)
        band = {"x": x - 70, "y": y - 12, "width": 140, "height": 24}  # with the title
        picture = Image.open(io.BytesIO(opened.page.screenshot(clip=band))).convert("L")
        assert np.ptp(np.asarray(picture, dtype=int)) > 60, opened.node(node).evaluate("node => node.title")
    opened.page.screenshot(path=artifacts / f"frontends_{opened.name}.png")


def test_nodes_are_elements_in_nodes_2_only(opened: ComfyPage) -> None:
    for node in OURS:
        assert opened.element(node).count() == opened.vue
    if opened.vue:
        opened.center_on(OURS[0])
        title = opened.element(OURS[0]).get_by_test_id("node-title").inner_text()
        assert title == opened.node(OURS[0]).evaluate("node => node.title")


def test_the_renderer_may_change_meanwhile(opened: ComfyPage) -> None:
    given = opened.vue
    opened.set_renderer(not given)
    opened.center_on(OURS[0])
    opened.set_renderer(given)
    assert len(opened.ids()) == COUNT


def test_a_tab_is_as_it_was_left(opened: ComfyPage) -> None:
    links = opened.page.evaluate(LINKS)
    left = opened.new_tab()
    assert opened.ids() == []
    opened.to_tab(left)
    assert len(opened.ids()) == COUNT
    assert opened.page.evaluate(LINKS) == links == len(WORKFLOW["links"])


def test_removing_is_undone(opened: ComfyPage) -> None:
    (capture,) = opened.ids("I2AM_Capture")
    opened.remove(capture)
    assert len(opened.ids()) == COUNT - 1
    assert opened.page.evaluate(LINKS) < len(WORKFLOW["links"])
    opened.undo()
    assert opened.ids("I2AM_Capture") == [capture]
    assert opened.page.evaluate(LINKS) == len(WORKFLOW["links"])


def test_a_copy_is_a_second_node_with_the_same_values(opened: ComfyPage) -> None:
    (score,) = opened.ids("I2AM_IMACS")
    copy = opened.copy(score)
    assert opened.ids("I2AM_IMACS") == [score, copy]
    values = "node => node.widgets.map(widget => [widget.name, widget.value])"
    assert opened.node(copy).evaluate(values) == opened.node(score).evaluate(values)
    opened.undo()
    assert opened.ids("I2AM_IMACS") == [score]


def test_a_node_may_go_into_a_subgraph_and_back(opened: ComfyPage) -> None:
    (capture,) = opened.ids("I2AM_Capture")
    before = opened.prompt()
    outer = opened.to_subgraph(capture)
    assert len(opened.ids()) == COUNT
    inside = opened.node(outer).evaluate("node => node.subgraph.nodes.map(node => node.type)")
    assert inside == ["I2AM_Capture"]
    types = sorted(node["class_type"] for node in opened.prompt().values())
    assert types == sorted(node["class_type"] for node in before.values())
    opened.undo()
    assert opened.ids("I2AM_Capture") == [capture]
    assert opened.prompt() == before


def test_runs_and_comes_back_after_a_reload(opened: ComfyPage) -> None:
    entry = opened.run()
    previews = opened.ids("PreviewImage")
    assert set(previews) <= set(entry["outputs"])
    saved = opened.saved()
    opened.reload(COUNT)
    assert [node["id"] for node in opened.saved()["nodes"]] == [node["id"] for node in saved["nodes"]]
    opened.rendered()


def test_nothing_went_wrong_in_the_page(comfy: ComfyPage) -> None:
    assert comfy.watch.page_errors == []
    assert comfy.watch.ours() == []
