"""The template of a reference that does not come through: the report says so, the comparison that Steer cures it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from comfy_page import IN_VIEW, SETTLED, ComfyPage
from template_page import FOLDER, ran

TEMPLATE = FOLDER / "reference_does_not_come_through.json"
TEXTS = """() => Object.fromEntries(app.graph.nodes.filter(node => node.type === "PreviewAny").map(
    node => [node.title, String(node.widgets[0].value)]))"""
PAGES_ARE_DRAWN = """() => ["The report", "Before and after"].every(title => {
    const [image] = app.graph.nodes.find(node => node.title === title).imgs ?? [];
    return image?.complete && image.naturalWidth === 1600;
})"""


@pytest.fixture(scope="module")
def finished(server: Any, browser: Any, artifacts: Path) -> Any:
    """The page after Run, which opens with all of it in view."""
    comfy = ran(server, browser, TEMPLATE)
    page = comfy.page
    page.wait_for_function(PAGES_ARE_DRAWN)
    page.wait_for_function(f"() => Object.values(({TEXTS})()).every(Boolean)")
    page.wait_for_function(SETTLED, polling=300)
    page.screenshot(path=artifacts / "template_reference.png")
    yield comfy
    page.close()


def test_opens_with_everything_in_view(finished: ComfyPage) -> None:
    """At the usual size of a window, and large enough for ComfyUI to draw the text on nodes."""
    scale, left, top, right, bottom = finished.page.evaluate(IN_VIEW)
    assert scale > 0.58 and left > 60 and top > 120 and right < 1920 and bottom < 1080


def test_the_report_says_what_is_wrong_and_what_to_try(finished: ComfyPage) -> None:
    said = finished.page.evaluate(TEXTS)["What is wrong, and what to try"].splitlines()
    assert said[0].startswith("* [!] reference 0 ('demo reference') hardly acts")
    assert any("Try: strength 2 on I2AM Steer" in line for line in said)


def test_the_comparison_shows_the_cure(finished: ComfyPage) -> None:
    said = finished.page.evaluate(TEXTS)["What changed, in words"].splitlines()
    assert said[0].startswith("* [ok] A has this fault: reference 0 ('demo reference') hardly acts")
    assert said[1].startswith("* [i] reference 0 ('demo reference') changes more in B")
    assert "Of B is said: reference 0 ('demo reference') acts" in said[0]
    assert "two seeds differ by up to" in said[1]
    assert not any(line.startswith("* [!]") for line in said)
    assert any("B alone: steered by I2AM Steer: strength 5" in line for line in said)


def test_nothing_went_wrong_in_the_page(finished: ComfyPage) -> None:
    assert finished.watch.page_errors == [] and finished.watch.ours() == []
