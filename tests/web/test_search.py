"""Our nodes are there for those who look for what they do: also on ComfyUI whose search knows names alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from comfy_page import ComfyPage

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize(
    ("words", "node"), [("heatmap", "I2AM Viewer"), ("attention map", "I2AM Viewer"), ("attention map", "I2AM Capture")]
)
def test_a_node_is_there_by_what_it_does(comfy: ComfyPage, words: str, node: str, artifacts: Path) -> None:
    page = comfy.page
    comfy.search(words, node)
    page.screenshot(path=artifacts / f"search_{comfy.name}_{words.replace(' ', '_')}.png")
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.activeElement?.tagName !== 'INPUT'")


OPENED = """() => {
    const node = LiteGraph.createNode("I2AM_Viewer"), saved = node.serialize();
    delete saved.title;  // as of a node that nobody has given a name
    node.configure(saved);
    return node.title;
}"""


def test_a_node_is_called_as_ever(comfy: ComfyPage) -> None:
    assert comfy.page.evaluate("() => LiteGraph.createNode('I2AM_Viewer').title") == "I2AM Viewer"
    assert comfy.page.evaluate(OPENED) == "I2AM Viewer"
