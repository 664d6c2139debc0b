"""The viewer for those who do not point, or do not see well: a run with all that it shows, in both themes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from comfy_page import NOWHERE, ComfyPage
from viewer_page import Viewer

import demo_graph
from demo_graph import Graph, node

pytestmark = pytest.mark.timeout(300)

PARAMS = [("newest", False, "dark"), ("newest", True, "light")]
LEAST_CONTRAST, LEAST_TARGET = 4.5, 24  # WCAG 2.2 AA: of text, and px of what is pressed
# Of what axe looks at in an element: not how a whole page is divided.
AXE = """async root => {
    const result = await axe.run(root, {rules: {region: {enabled: false}, "target-size": {enabled: true}}});
    return result.violations.flatMap(({id, help, nodes}) => nodes.map(one => [id, help, one.html.slice(0, 160)]));
}"""
# [words, contrast] of each text that is seen, and what is behind it. What is on a picture may be on white, or on black.
CONTRASTS = """root => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
    const rgba = color => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = ([r, g, b, a], under) => [r, g, b].map((x, i) => a * x + (1 - a) * under[i]);
    const linear = x => (x /= 255) <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const ratio = (a, b) => {
        const [low, high] = [light(a), light(b)].sort((x, y) => x - y);
        return (high + 0.05) / (low + 0.05);
    };
    const behind = (element, bottom) => {
        const layers = [];
        for (let at = element; at; at = at.parentElement ?? at.getRootNode().host) {
            const color = rgba(getComputedStyle(at).backgroundColor);
            layers.unshift(color);
            if (color[3] === 1 || (bottom && at.matches(".box"))) break;
        }
        return layers.reduce((under, color) => over(color, under), bottom ?? [255, 255, 255]);
    };
    const walker = document.createTreeWalker(root.shadowRoot, NodeFilter.SHOW_TEXT);
    const found = [];
    for (let text = walker.nextNode(); text; text = walker.nextNode()) {
        const element = text.parentElement;
        if (!text.data.trim() || element.closest("style, :disabled, [hidden], .none")) continue;
        if (!element.checkVisibility()) continue;
        const bottoms = element.closest(".box") ? [[255, 255, 255], [0, 0, 0]] : [null];
        for (const bottom of bottoms) {
            const under = behind(element, bottom);
            const color = over(rgba(getComputedStyle(element).color), under);
            found.push([text.data.trim().slice(0, 40), ratio(color, under)]);
        }
    }
    return found;
}"""
# Of what can be pressed: [what, width, height].
TARGETS = """root => [...root.shadowRoot.querySelectorAll("button, select, summary, input, [tabindex]")]
    .filter(element => element.checkVisibility())
    .map(element => [element.outerHTML.slice(0, 80), element.offsetWidth, element.offsetHeight])"""
# What has the focus, and whether that is to be seen.
FOCUSED = """() => {
    let element = document.activeElement;
    while (element?.shadowRoot?.activeElement) element = element.shadowRoot.activeElement;
    const seen = [element, element.parentElement].some(one => one && one.matches(":focus-within")
        && getComputedStyle(one).outlineStyle !== "none" && parseFloat(getComputedStyle(one).outlineWidth) >= 2);
    return [element.getAttribute("aria-label") ?? element.textContent.trim().slice(0, 30), element.tagName, seen];
}"""
# What is cut off at its end, of what has a height of its own.
CUT = """root => {
    const fixed = "button, select, summary, .name, output, .legend, .numbers, .row > *";
    return [...root.shadowRoot.querySelectorAll(fixed)]
        .filter(one => one.checkVisibility() && one.clientHeight)
        .filter(one => one.scrollHeight > one.clientHeight + 1
            || (one.matches("button, summary") && one.scrollWidth > one.clientWidth + 1))
        .map(one => [one.className || one.tagName, one.textContent.slice(0, 40)]);
}"""


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
