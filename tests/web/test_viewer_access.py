"""The viewer for those who do not point, or do not see well: a run with all that it shows, in both themes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from comfy_page import NOWHERE, ComfyPage
from page_access import AXE, CONTRASTS, CUT, FOCUSED, LEAST_CONTRAST, LEAST_TARGET, TARGETS
from viewer_page import Viewer

import demo_graph
from demo_graph import Graph, node

pytestmark = pytest.mark.timeout(300)

PARAMS = [("newest", False, "dark"), ("newest", True, "light")]


def graph() -> Graph:
    """The demo with a viewer, which has all of it: findings, effects, and the VAE for the pictures with and without."""
    whole = demo_graph.build(steps=4)
    names = ("scene", "loader", "positive", "negative", "inpaint", "capture", "effect", "sampler", "collect", "decode")
    nodes = {name: whole[name] for name in names}
    nodes["viewer"] = node(
        "I2AM_Viewer", attribution=["collect", 0], image=["decode", 0], reference=["scene", 2], mask=["scene", 1],
        vae=["loader", 1],
    )  # fmt: skip
    return demo_graph.numbered(nodes)


@pytest.fixture(scope="module", params=PARAMS, ids=["-".join(map(str, x)) for x in PARAMS])
def ran(request: pytest.FixtureRequest, servers: Any, browser: Any) -> Any:
    frontend, vue, theme = request.param
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    comfy = ComfyPage(context.new_page(), servers(frontend), vue=vue, settings={"Comfy.ColorPalette": theme})
    comfy.name = theme
    comfy.load_api(graph())
    comfy.show("I2AM_Viewer")
    comfy.run()
    viewer = Viewer(comfy)
    viewer.until("viewer.file && viewer.status.hidden")
    comfy.page.add_script_tag(path=servers(frontend).host.npm_programs.parent / "axe-core" / "axe.min.js")
    yield viewer
    assert comfy.watch.page_errors == [] and comfy.watch.ours() == []
    context.close()


STATES = {"effect": "{}", "wipe": "{wipe: 0.5}", "tables": "{normalization: 'paper', matrix: true}"}


@pytest.fixture(params=STATES)
def viewer(request: pytest.FixtureRequest, ran: Viewer, artifacts: Path) -> Viewer:
    """In each of its states, with its menus open."""
    ran("viewer.restore(null)")
    ran(f"viewer.change({STATES[request.param]})")
    ran.page.mouse.move(*NOWHERE)
    ran("viewer.body.querySelectorAll('.save, .notes').forEach(one => one.open = true)")
    ran.shot(f"access_{ran.comfy.name}_{request.param}", artifacts)
    return ran


def test_roles_and_names_are_right(viewer: Viewer) -> None:
    """By axe-core; that it sees anything is shown by a name that is taken away."""
    root = viewer.page.locator(".i2am-viewer")
    assert root.evaluate(AXE) == []
    viewer("viewer.body.querySelector('.opacity').removeAttribute('aria-label')")
    viewer("viewer.body.querySelector('.opacity').removeAttribute('title')")
    assert [one[0] for one in root.evaluate(AXE)] == ["label"]
    viewer("viewer.body.querySelector('.opacity').setAttribute('aria-label', 'Strength of the heat')")


def test_words_can_be_read(viewer: Viewer) -> None:
    contrasts = viewer.page.locator(".i2am-viewer").evaluate(CONTRASTS)
    assert len(contrasts) > 20
    assert [one for one in contrasts if one[1] < LEAST_CONTRAST] == []


def test_what_is_pressed_is_large_enough(viewer: Viewer) -> None:
    targets = viewer.page.locator(".i2am-viewer").evaluate(TARGETS)
    assert len(targets) > 10
    assert [one for one in targets if min(one[1:]) < LEAST_TARGET] == []


def test_the_focus_is_seen_wherever_it_goes(viewer: Viewer) -> None:
    viewer("viewer.root.focus()")
    reached = []
    for _ in range(60):
        viewer.page.keyboard.press("Tab")
        if not viewer("document.activeElement === viewer.root"):
            break
        reached.append(viewer.page.evaluate(FOCUSED))
    assert len(reached) > 10
    assert [one for one in reached if not one[2]] == []


def test_words_are_not_cut(viewer: Viewer) -> None:
    assert viewer.page.locator(".i2am-viewer").evaluate(CUT) == []


def test_text_of_twice_the_size_is_not_cut(viewer: Viewer, artifacts: Path) -> None:
    size = "document.documentElement.style.fontSize = arg"
    viewer(size, "32px")
    try:
        viewer.shot(f"access_{viewer.comfy.name}_large", artifacts)
        fonts = viewer("getComputedStyle(viewer.body).fontSize")
        cut = viewer.page.locator(".i2am-viewer").evaluate(CUT)
    finally:
        viewer(size, "")
    assert (fonts, cut) == ("24px", [])
