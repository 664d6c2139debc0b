"""The template of two references: opens whole, and its maps say where each of the two was looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from comfy_page import IN_VIEW, SETTLED
from template_page import FOLDER, ran
from viewer_page import Viewer

TEMPLATE = FOLDER / "two_references.json"
PICTURES_ARE_DRAWN = """() => app.graph.nodes.filter(node => node.type === "PreviewImage").every(
    node => node.imgs?.length === 1 && node.imgs[0].complete && node.imgs[0].naturalWidth === 384)"""
SAID = "() => String(app.graph.nodes.find(node => node.type === 'PreviewAny').widgets[0].value)"


@pytest.fixture(scope="module")
def finished(server: Any, browser: Any, artifacts: Path) -> Any:
    """The viewer after Run, at the usual size of a window, with nothing moved."""
    comfy = ran(server, browser, TEMPLATE)
    page = comfy.page
    page.wait_for_function(PICTURES_ARE_DRAWN)
    viewer = Viewer(comfy)
    viewer.until("viewer.file && viewer.status.hidden")
    page.wait_for_function(SETTLED, polling=300)
    viewer.drawn()
    page.screenshot(path=artifacts / "template_two.png")
    yield viewer
    page.close()


def test_opens_with_everything_in_view(finished: Viewer) -> None:
    scale, left, top, right, bottom = finished.page.evaluate(IN_VIEW)
    assert scale > 0.58 and left > 60 and top > 120 and right < 1920 and bottom < 1080


def test_both_references_were_captured_and_nothing_is_wrong(finished: Viewer) -> None:
    said = finished.page.evaluate(SAID)
    assert "given: 2 reference latents: captured" in said
    for name in ("reference 0 ('reference latent 1')", "reference 1 ('reference latent 2')"):
        assert f"[ok] {name} acts" in said
    assert "[!]" not in said


def test_the_viewer_has_a_picture_for_each_reference(finished: Viewer) -> None:
    names = finished("viewer.file.header.pictures.reference.map(([picture]) => picture.name)")
    assert len(set(names)) == 2 and None not in names


def test_nothing_went_wrong_in_the_page(finished: Viewer) -> None:
    watch = finished.comfy.watch
    assert watch.page_errors == [] and watch.ours() == []
