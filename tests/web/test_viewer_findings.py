"""Findings on top of the viewer: of a real run of a weak reference, each a link to its proof, in both languages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from comfy_page import NOWHERE, ComfyPage
from viewer_page import Viewer

import demo_graph
from demo_graph import Graph, node

pytestmark = pytest.mark.timeout(300)

PARAMS = [("newest", False, "en"), ("pinned", True, "en"), ("newest", False, "zh")]


def graph() -> Graph:
    """The demo with a fifth of its reference, and a viewer."""
    whole = demo_graph.build(steps=4)
    names = ("scene", "loader", "positive", "negative", "inpaint", "capture", "effect", "sampler", "collect", "decode")
    nodes = {name: whole[name] for name in names}
    nodes["weak"] = node(
        "ConditioningAverage", conditioning_to=["positive", 0], conditioning_from=["negative", 0],
        conditioning_to_strength=0.2,
    )  # fmt: skip
    nodes["inpaint"]["inputs"]["positive"] = ["weak", 0]
    nodes["viewer"] = node(
        "I2AM_Viewer", attribution=["collect", 0], image=["decode", 0], reference=["scene", 2], mask=["scene", 1]
    )
    return demo_graph.numbered(nodes)


@pytest.fixture(scope="module", params=PARAMS, ids=["-".join(map(str, x)) for x in PARAMS])
def viewer(request: pytest.FixtureRequest, servers: Any, browser: Any) -> Any:
    frontend, vue, language = request.param
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    settings = {"Comfy.Locale": language}
    comfy = ComfyPage(context.new_page(), servers(frontend), vue=vue, settings=settings)
    comfy.language = language
    comfy.load_api(graph())
    comfy.show("I2AM_Viewer")
    comfy.run()
    viewer = Viewer(comfy)
    viewer.until("viewer.file && viewer.status.hidden")
    viewer.page.mouse.move(*NOWHERE)
    yield viewer
    assert comfy.watch.page_errors == [] and comfy.watch.ours() == []
    context.close()


def test_what_is_wrong_is_said_first(viewer: Viewer, artifacts: Path) -> None:
    viewer.shot(f"findings_{viewer.comfy.language}_{'vue' if viewer.comfy.vue else 'canvas'}", artifacts)
    said = viewer.part(".findings li").all_inner_texts()
    assert 0 < len(said) <= 3
    chinese = viewer.comfy.language == "zh"
    assert ("\u51e0\u4e4e\u4e0d\u8d77\u4f5c\u7528" if chinese else "hardly acts") in said[0]
    assert ("\u53ef\u4ee5\u5c1d\u8bd5" if chinese else "Try: strength 2 on I2AM Steer") in said[0]
    assert viewer.part(".findings li").first.get_attribute("class") == "fault"
    mark = viewer.part(".findings li .mark").first
    assert mark.get_attribute("aria-label") == ("\u6709\u95ee\u9898" if chinese else "something is wrong")


def test_a_click_leads_to_the_proof(viewer: Viewer) -> None:
    viewer("viewer.change({normalization: 'share', layer: 1, ask: {side: 'generated', box: [0.2, 0.2, 0.3, 0.3]}})")
    viewer.part(".findings li > button").first.click()
    viewer.drawn()
    state = viewer("viewer.state")
    assert state["kind"] == "effect" and state["layer"] is None and state["ask"] is None
    assert viewer("viewer.panes.generated.heat.hidden") is False


def test_what_is_of_the_run_leads_to_its_notes(viewer: Viewer) -> None:
    more = viewer.part(".findings .more")
    if more.is_visible():
        more.click()
        viewer.drawn()
    findings = viewer("viewer.file.header.findings")
    at = next(n for n, one in enumerate(findings) if one["evidence"]["shows"] == "run")
    viewer.part(".findings li > button").nth(at).click()
    viewer.drawn()
    assert viewer.part("details.notes").get_attribute("open") is not None
    assert viewer.part("details.notes pre").is_visible()


def test_findings_are_reached_by_keyboard(viewer: Viewer) -> None:
    viewer("viewer.change({normalization: 'share'})")
    viewer.part(".findings li > button").first.focus()
    viewer.page.keyboard.press("Enter")
    viewer.until("viewer.state.kind === 'effect'")
