"""Our subgraph blueprint: the host serves it, and in the frontend it is one more node to add."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from comfy_page import ComfyPage

ROOT = Path(__file__).resolve().parents[2]
NAME = "Watch a reference"
INNER = ["I2AM_Capture", "I2AM_Effect", "KSampler", "I2AM_Collect"]

pytestmark = pytest.mark.timeout(120)


def test_it_is_added_from_the_search(comfy: ComfyPage, artifacts: Path) -> None:
    page = comfy.page
    comfy.search(NAME, NAME)
    page.screenshot(path=artifacts / f"blueprint_{comfy.name}_search.png")
    page.keyboard.press("Enter")
    page.wait_for_function("() => app.graph.nodes.some(node => node.subgraph)")
    node = page.evaluate(
        """() => {
            const node = app.graph.nodes.find(node => node.subgraph);
            return {title: node.title, inner: node.subgraph.nodes.map(inner => inner.type),
                inputs: node.inputs.filter(x => !x.widget).map(x => x.name), outputs: node.outputs.map(x => x.name),
                widgets: node.widgets.map(x => x.name.split(": ").at(-1))};
        }"""
    )
    page.screenshot(path=artifacts / f"blueprint_{comfy.name}.png")
    assert node["inner"] == INNER
    assert node["inputs"] == ["model", "positive", "negative", "latent_image"]
    assert node["outputs"] == ["samples", "attribution"]
    assert node["widgets"] == ["seed", "steps", "cfg", "sampler_name", "scheduler", "denoise"]


def test_its_nodes_are_the_packs_and_have_all_their_inputs(comfy: ComfyPage) -> None:
    (path,) = (ROOT / "subgraphs").glob("*.json")
    assert path.stem == NAME
    (subgraph,) = json.loads(path.read_text())["definitions"]["subgraphs"]
    assert [node["type"] for node in subgraph["nodes"]] == INNER
    known = comfy.server.object_info()
    for node in subgraph["nodes"]:
        inputs = known[node["type"]]["input"]
        names = [*inputs["required"], *inputs.get("optional", {})]
        assert sorted(x["name"] for x in node["inputs"]) == sorted(names)
