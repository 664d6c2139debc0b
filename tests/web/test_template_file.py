"""The template's file against what the server says about its nodes; and what the server says about ours."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from comfy_server import ComfyServer

FOLDER = Path(__file__).resolve().parent.parent.parent / "example_workflows"
SAVED = Path(__file__).resolve().parent.parent / "fixtures" / "workflows"  # as users have them since 8e54b74
FRONTEND_ONLY = {"MarkdownNote"}
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
SEEDS = {"seed", "noise_seed"}  # the frontend puts "control after generate" behind a number of this name
MODELS = {
    "unet_name",
    "ckpt_name",
    "vae_name",
    "clip_name",
    "clip_name1",
    "clip_name2",
    "style_model_name",
}  # files of the user
CONTROLS = ["fixed", "increment", "decrement", "randomize"]
TITLE_HEIGHT, COLLAPSED_WIDTH = 30, 160

Node = dict[str, Any]
Field = tuple[str, Any, dict[str, Any]]  # name, type or options, further properties


@pytest.fixture(
    params=sorted([*FOLDER.glob("*.json"), *SAVED.glob("*.json")]),
    ids=lambda path: f"{path.stem} kept" if path.parent == SAVED else path.stem,
)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture(scope="module")
def known(object_info: dict[str, Any]) -> dict[str, Any]:
    """What the server says, and of another pack what it publishes (cubiq/ComfyUI_IPAdapter_plus at 9d076a3)."""
    return object_info | json.loads(Path(__file__).with_name("ipadapter_plus.json").read_text())


@pytest.fixture
def workflow(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def working(workflow: dict[str, Any]) -> list[Node]:
    """The nodes that the server runs: those in subgraphs, too, and not those that stand for one."""
    inside = subgraphs(workflow)
    nodes = [*workflow["nodes"], *(node for one in inside.values() for node in one["nodes"])]
    return [node for node in nodes if node["type"] not in FRONTEND_ONLY | inside.keys()]


def subgraphs(workflow: dict[str, Any]) -> dict[str, Any]:
    """By their ids, which are the types of the nodes that stand for them."""
    return {one["id"]: one for one in workflow.get("definitions", {}).get("subgraphs", [])}


def fields(about: Node) -> dict[str, Field]:
    """All inputs in the order in which the frontend shows them."""
    given = about["input"].get("required", {}) | about["input"].get("optional", {})
    return {name: (name, kind, rest[0] if rest else {}) for name, (kind, *rest) in given.items()}


def type_of(field: Field) -> str:
    return "COMBO" if isinstance(field[1], list) else field[1]


def widgets(about: Node) -> list[Field]:
    listed: list[Field] = []
    for field in fields(about).values():
        if type_of(field) in WIDGETS and not field[2].get("forceInput"):
            listed.append(field)
            if field[0] in SEEDS or field[2].get("control_after_generate"):
                listed.append(("control_after_generate", CONTROLS, {}))
            if field[2].get("image_upload"):
                listed.append(("upload", ["image"], {}))  # its button
    return listed


def is_whole(node: Node, server: ComfyServer) -> bool:
    """Whether the file must have all that the node has: nodes of other versions of ComfyUI have more, or others."""
    return server.host.own or node["type"].startswith("I2AM")


def added(about: Node, names: set[str]) -> set[str]:
    """Inputs that a saved workflow does not have: those that came later must be optional, and have a default."""
    later = {name: field for name, field in fields(about).items() if name not in names}
    assert later.keys() <= set(about["input"].get("optional", {}))
    assert all("default" in field[2] for field in later.values() if type_of(field) in WIDGETS)
    return set(later)


def fits(value: Any, field: Field) -> bool:
    kind, about = type_of(field), field[2]
    if field[0] in MODELS:
        return isinstance(value, str) and value.endswith(".safetensors")
    if about.get("image_upload"):
        return value == "example.png"  # comes with ComfyUI
    if kind == "COMBO":
        return value in (field[1] if isinstance(field[1], list) else about["options"])
    if kind == "BOOLEAN" or isinstance(value, bool):
        return kind == "BOOLEAN" and isinstance(value, bool)
    if kind == "STRING":
        return isinstance(value, str)
    whole = isinstance(value, int) or kind == "FLOAT"
    return whole and about.get("min", value) <= value <= about.get("max", value)


def test_there_are_templates_with_thumbnails() -> None:
    templates = sorted(FOLDER.glob("*.json"))
    assert templates
    for file in templates:
        thumbnail = file.with_suffix(".jpg")
        assert thumbnail.read_bytes()[:3] == b"\xff\xd8\xff"
        assert thumbnail.stat().st_size < 60_000


def test_the_nodes_of_kept_workflows_are_still_there(object_info: dict[str, Any]) -> None:
    """Graphs saved with earlier versions stay valid; nodes in none of them: tests/nodes/comfy/interface.json."""
    types = {node["type"] for path in SAVED.glob("*.json") for node in json.loads(path.read_text())["nodes"]}
    ours = {name.removeprefix("I2AM_") for name in types if name.startswith("I2AM_")}
    assert ours >= {"Capture", "Collect", "IMACS", "Maps", "TagReference", "Viewer"}
    assert {f"I2AM_{name}" for name in ours} <= set(object_info)


def test_nodes_have_the_slots_of_their_type(
    path: Path, workflow: dict[str, Any], known: dict[str, Any], server: Any
) -> None:
    assert {node["type"] for node in working(workflow)} <= set(known)
    for node in working(workflow):
        about = known[node["type"]]
        slots = {name: type_of(field) for name, field in fields(about).items()}
        inputs = {entry["name"]: entry["type"] for entry in node["inputs"]}
        whole = is_whole(node, server)
        if whole and path.parent == SAVED:
            later = added(about, set(inputs))
            slots = {name: kind for name, kind in slots.items() if name not in later}
        count = None if whole and path.parent == FOLDER else len(node["outputs"])  # outputs are added at the end
        linked = {entry["name"]: entry["type"] for entry in node["inputs"] if entry["link"] is not None}
        assert (inputs == slots) if whole else (linked.items() <= slots.items()), node.get("title", node["type"])
        assert [entry["type"] for entry in node["outputs"]] == about["output"][:count], node["type"]
        assert [entry["name"] for entry in node["outputs"]] == about["output_name"][:count], node["type"]
        unfed = {entry["name"] for entry in node["inputs"] if entry["link"] is None and "widget" not in entry}
        assert not unfed & set(about["input"].get("required", {})), node["type"]


def test_widgets_hold_valid_values(
    path: Path, workflow: dict[str, Any], known: dict[str, Any], server: ComfyServer
) -> None:
    for node in working(workflow):
        if not is_whole(node, server):
            continue
        values = node.get("widgets_values") or []
        expected = widgets(known[node["type"]])
        if path.parent == SAVED:  # values are those of widgets by their order: what came later is at the end
            later = added(known[node["type"]], {entry["name"] for entry in node["inputs"]})
            assert not later & {field[0] for field in expected[: len(values)]}
            expected = [field for field in expected if field[0] not in later]
        assert len(values) == len(expected), node["type"]
        wrong = [(field[0], value) for field, value in zip(expected, values, strict=True) if not fits(value, field)]
        assert wrong == [], node["type"]


def test_links_join_slots_of_one_type(workflow: dict[str, Any]) -> None:
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for link, origin, out, target, into, kind in workflow["links"]:
        given, taken = nodes[origin]["outputs"][out], nodes[target]["inputs"][into]
        assert link in given["links"]
        assert taken["link"] == link
        assert given["type"] == kind
        assert taken["type"] in (kind, "*")
    used = [entry["link"] for node in workflow["nodes"] for entry in node.get("inputs", []) if entry["link"]]
    assert sorted(used) == sorted(link[0] for link in workflow["links"])


def test_a_subgraph_hands_on_what_is_linked_in_it(workflow: dict[str, Any]) -> None:
    inside = subgraphs(workflow)
    for node in workflow["nodes"]:
        if not (one := inside.get(node["type"])):
            continue
        for side in ("inputs", "outputs"):
            assert [(x["name"], x["type"]) for x in node[side]] == [(x["name"], x["type"]) for x in one[side]]
        nodes = {x["id"]: x for x in one["nodes"]}
        for link in one["links"]:
            given = nodes[link["origin_id"]]["outputs"][link["origin_slot"]]
            assert link["id"] in given["links"] and given["type"] == link["type"]


def test_nothing_is_random_or_muted(workflow: dict[str, Any], known: dict[str, Any]) -> None:
    """The first run shows what the thumbnail and the note promise, and so does the second."""
    for node in working(workflow):
        names = [field[0] for field in widgets(known[node["type"]])]
        values = dict(zip(names, node.get("widgets_values") or [], strict=False))
        assert values.get("control_after_generate", "fixed") == "fixed"
        assert node["mode"] == 0


def test_the_note_tells_where_every_model_is_from_and_belongs(workflow: dict[str, Any]) -> None:
    """The page offers to download what the properties of a node name; the note names it for a person."""
    text = "".join(node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "MarkdownNote")
    for node in working(workflow):
        named = {model["name"] for model in node["properties"].get("models", ())}
        chosen = {value for value in node.get("widgets_values") or [] if str(value).endswith(".safetensors")}
        assert chosen <= named, node["type"]
        for model in node["properties"].get("models", ()):
            assert f"`models/{model['directory']}`: [{model['name']}]({model['url']})" in text


def test_the_note_names_the_colours_that_the_viewer_has(path: Path, workflow: dict[str, Any]) -> None:
    """Red is strong in jet, which is that of I2AM Maps: a fresh viewer draws in inferno."""
    types = {node["type"] for node in workflow["nodes"]}
    if path.parent == FOLDER and "I2AM_Viewer" in types and "I2AM_Maps" not in types:
        assert not re.search("red is strong", path.read_text(), re.IGNORECASE)


def test_nodes_do_not_overlap_and_a_note_explains(workflow: dict[str, Any]) -> None:
    for one, other in itertools.combinations(workflow["nodes"], 2):
        (left, top, right, bottom), (left2, top2, right2, bottom2) = area(one), area(other)
        apart = right <= left2 or right2 <= left or bottom <= top2 or bottom2 <= top
        assert apart, (one["type"], one["pos"], other["type"], other["pos"])
    notes = [node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    assert any("download" in text for text in notes)


def area(node: Node) -> tuple[float, float, float, float]:
    (left, top), (width, height) = node["pos"], node["size"]
    if node["flags"].get("collapsed"):
        width, height = COLLAPSED_WIDTH, 0
    return left, top - TITLE_HEIGHT, left + width, top + height


def test_everything_has_a_description(object_info: dict[str, Any]) -> None:
    ours = {name: about for name, about in object_info.items() if name.startswith("I2AM_")}
    assert ours
    for name, about in ours.items():
        assert about["description"], name
        untold = [field[0] for field in fields(about).values() if not field[2].get("tooltip")]
        assert untold == [], name
        outputs = about.get("output_tooltips") or []
        assert len(outputs) == len(about["output"]), name
        assert all(outputs), name
