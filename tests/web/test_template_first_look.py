"""The first template: few nodes, nothing to download, and the answer at the size at which it opens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from comfy_page import IN_VIEW, NOWHERE, SETTLED
from template_page import FOLDER, ran
from viewer_page import Viewer

TEMPLATE = FOLDER / "a_first_look.json"
MOST_NODES = 8
SIZES = "['generated', 'reference'].map(side => [viewer.panes[side].heat.hidden, ...viewer.panes[side].size])"


@pytest.fixture(scope="module", params=["pinned", "newest"])
def finished(request: pytest.FixtureRequest, servers: Any, browser: Any, artifacts: Path) -> Any:
    """The viewer after Run, at the usual size of a window, with nothing moved."""
    comfy = ran(servers(request.param), browser, TEMPLATE)
    page = comfy.page
    viewer = Viewer(comfy)
    viewer.until("viewer.file && viewer.status.hidden")
    page.wait_for_function(SETTLED, polling=300)
    page.mouse.move(*NOWHERE)
    viewer.drawn()
    page.screenshot(path=artifacts / f"template_first_look_{request.param}.png")
    yield viewer
    page.close()


def test_is_the_first_and_has_few_nodes() -> None:
    assert min(FOLDER.glob("*.json")) == TEMPLATE
    assert len(json.loads(TEMPLATE.read_text())["nodes"]) <= MOST_NODES


def test_opens_with_everything_in_view(finished: Viewer) -> None:
    scale, left, top, right, bottom = finished.page.evaluate(IN_VIEW)
    assert scale > 0.75 and left > 60 and top > 120 and right < 1920 and bottom < 1080


def test_the_answer_is_there_without_a_click(finished: Viewer) -> None:
    said = finished.part(".findings li").all_inner_texts()
    assert any("reference 0 ('demo reference') acts" in line for line in said)
    assert finished.part(".findings .fault").count() == 0
    assert finished.part(".pane.generated strong").inner_text() == "What the reference changed"
    assert all(not hidden and min(size) > 300 for hidden, *size in finished(SIZES))


def test_the_pictures_with_and_without_differ(finished: Viewer, artifacts: Path) -> None:
    finished.part("button", has_text="with | without").click()
    finished.until("viewer.state.wipe !== null")
    finished.drawn()
    wipe = finished("viewer.screen.panes.generated.wipe")
    with_it, without = (finished("[...viewer.file.tensors.get(arg).data]", wipe[side]) for side in ("left", "right"))
    assert with_it != without
    finished.shot("template_first_look_wipe", artifacts)


def test_nothing_went_wrong_in_the_page(finished: Viewer) -> None:
    watch = finished.comfy.watch
    assert watch.page_errors == [] and watch.ours() == []
