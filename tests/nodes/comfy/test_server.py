"""The pack in the real server: what is cached, what is fresh, and what a user reads when it fails."""

import io
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import demo_graph
from comfy_client import PromptFailed
from comfy_server import ComfyServer
from devenv import prepare
from i2am_pack.nodes.suggestions import TRIES

pytestmark = pytest.mark.timeout(600)
IPADAPTER_PLUS = Path(__file__).parents[2] / "web" / "ipadapter_plus.json"
SUGGESTED = [  # what is said, and a setting that it is about
    (one.sentence, node, name)
    for of_mechanism in TRIES.values()
    for one in of_mechanism.values()
    for node, name in one.settings
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ComfyServer(prepare(tests=True), tmp_path_factory.mktemp("server")) as server:
        yield server


fresh = itertools.count(100)


def small(budget_mb=None):
    """The demo graph with few steps and effects, and only what the tests look at. A new budget makes all run anew."""
    graph = demo_graph.build(steps=4)
    graph["effect"]["inputs"] |= {"probe_steps": 1, "regions": 2}
    graph["capture"]["inputs"]["budget_mb"] = next(fresh) if budget_mb is None else budget_mb
    wanted = ("save:generated", "save:r2g_unified_heatmap", "save:g2r_unified_heatmap", "text:imacs", "text:summary")
    others = [name for name in graph if name.startswith(("save:", "text:")) and name not in wanted]
    return {name: node for name, node in graph.items() if name not in others}


def cached(entry):
    return set(dict(entry["status"]["messages"])["execution_cached"]["nodes"])


def picture(server, entry, name):
    (image,) = entry["outputs"][f"save:{name}"]["images"]
    return np.asarray(Image.open(io.BytesIO(server.view(image))))


def imacs(entry):
    return json.loads(entry["outputs"]["text:imacs"]["text"][0])


def test_every_node_is_there(server):
    info = server.object_info()
    for name in ("Capture", "Collect", "Maps", "IMACS", "DemoLoader", "DemoReference", "DemoScene"):
        assert info[f"I2AM_{name}"]["python_module"] == "custom_nodes.i2am"
        assert info[f"I2AM_{name}"]["description"]


def test_the_frozen_interface(server):
    """Node ids, inputs and outputs may be added to, never renamed or removed."""
    frozen = json.loads((Path(__file__).with_name("interface.json")).read_text())
    info = server.object_info()
    assert frozen.keys() == {name for name in info if name.startswith("I2AM_")}
    for name, interface in frozen.items():
        inputs = info[name]["input"]
        assert list(inputs.get("required", {}))[: len(interface["required"])] == interface["required"]
        assert list(inputs.get("optional", {}))[: len(interface["optional"])] == interface["optional"]
        assert info[name]["output_name"][: len(interface["outputs"])] == interface["outputs"]
        assert info[name]["output"][: len(interface["types"])] == interface["types"]


@pytest.fixture(scope="module")
def known(server):
    """What the server says, and of another pack what it publishes (cubiq/ComfyUI_IPAdapter_plus at 9d076a3)."""
    return server.object_info() | json.loads(IPADAPTER_PLUS.read_text())


@pytest.mark.parametrize(("sentence", "node", "name"), SUGGESTED)
def test_each_setting_that_is_suggested_is_there_and_named_as_it_is(server, known, sentence, node, name):
    inputs = known[node]["input"]
    assert name in inputs["required"] | inputs.get("optional", {})
    assert re.search(rf"\b{name}\b", sentence)
    if server.host.own or node not in server.object_info() or node.startswith("I2AM_"):  # other cores name others
        assert (known[node]["display_name"] or node) in sentence


def test_the_values_that_are_suggested_for_steer_fit_it(known):
    inputs = known["I2AM_Steer"]["input"]
    kinds = inputs["required"] | inputs.get("optional", {})
    assert kinds["strength"][1]["min"] <= 0 and kinds["strength"][1]["max"] >= 2
    assert "output" in (kinds["by"][1].get("options") or kinds["by"][0])


def test_changing_only_a_downstream_node_does_not_sample_again(server):
    server.run(small(budget_mb=50))
    graph = small(budget_mb=50)
    graph["maps:r2g_unified"]["inputs"]["colormap"] = "viridis"
    entry = server.run(graph)
    assert {"capture", "sampler", "collect", "decode"} <= cached(entry)
    assert not {"maps:r2g_unified", "save:r2g_unified_heatmap"} & cached(entry)


def test_changing_only_the_seed_gives_fresh_maps(server):
    before, graph = server.run(small(budget_mb=51)), small(budget_mb=51)
    graph["sampler"]["inputs"]["seed"] += 1
    after = server.run(graph)
    assert "capture" in cached(after) and not {"sampler", "collect", "maps:r2g_unified"} & cached(after)
    for name in ("generated", "r2g_unified_heatmap", "g2r_unified_heatmap"):
        assert not np.array_equal(picture(server, before, name), picture(server, after, name))
    assert imacs(before) != imacs(after)
    second = server.run(small())
    assert imacs(second) == imacs(before)
    assert np.array_equal(picture(server, second, "generated"), picture(server, before, "generated"))


def test_two_captures_with_equal_inputs_do_not_share_a_handle(server):
    graph = small()
    graph["capture 2"] = graph["capture"]
    graph["sampler 2"] = demo_graph.node(
        "KSampler", **graph["sampler"]["inputs"] | {"model": ["capture 2", 0], "seed": 9}
    )
    collect = {"capture": ["capture 2", 1], "samples": ["sampler 2", 0]}
    graph["collect 2"] = demo_graph.node("I2AM_Collect", **collect)
    graph["text 2"] = demo_graph.node("PreviewAny", source=["collect 2", 2])
    entry = server.run(graph)
    assert "4 steps" in entry["outputs"]["text 2"]["text"][0]


def test_one_capture_may_feed_two_samplers(server):
    graph = small()
    graph["sampler 2"] = demo_graph.node("KSampler", **graph["sampler"]["inputs"] | {"steps": 3})
    graph["collect 2"] = demo_graph.node("I2AM_Collect", capture=["capture", 1], samples=["sampler 2", 0])
    graph["text 2"] = demo_graph.node("PreviewAny", source=["collect 2", 2])
    outputs = server.run(graph)["outputs"]
    assert "4 steps" in outputs["text:summary"]["text"][0]
    assert "3 steps" in outputs["text 2"]["text"][0]


def test_errors_reach_the_user_as_sentences(server):
    graph = small()
    graph["maps:r2g_unified"]["inputs"]["steps"] = "0-99"
    with pytest.raises(PromptFailed, match="there are 4 steps, numbered 0 to 3: '0-99' is out of range") as failure:
        server.run(graph)
    assert failure.value.node_type == "I2AM_Maps"

    graph = small()
    graph["sampler"]["inputs"]["model"] = ["loader", 0]
    with pytest.raises(PromptFailed, match=r"does not come from 'I2AM_Capture' \(node capture\)"):
        server.run(graph)


def test_a_sampler_that_fails_leaves_the_next_run_whole(server):
    before, graph = server.run(small()), small()
    graph["sampler"]["inputs"]["latent_image"] = ["empty", 0]
    graph["empty"] = demo_graph.node("EmptyLatentImage", width=256, height=128, batch_size=1)
    with pytest.raises(PromptFailed):
        server.run(graph)
    assert imacs(server.run(small())) == imacs(before)


def test_a_saved_attribution_is_loaded_and_scored_without_sampling(server):
    graph = small()
    graph["keep"] = demo_graph.node("I2AM_Save", attribution=["collect", 0], filename_prefix="i2am/kept")
    graph["text:path"] = demo_graph.node("PreviewAny", source=["keep", 0])
    first = server.run(graph)
    path = first["outputs"]["text:path"]["text"][0]
    assert path.startswith("i2am/kept_") and path.endswith(".i2am.safetensors")

    second_graph = {name: graph[name] for name in ("scene", "imacs", "text:imacs", "text:summary")}
    second_graph["load"] = demo_graph.node("I2AM_Load", file=f"output/{path}")
    second_graph["imacs"] = demo_graph.node("I2AM_IMACS", **graph["imacs"]["inputs"] | {"attribution": ["load", 0]})
    second_graph["text:summary"] = demo_graph.node("PreviewAny", source=["load", 1])
    second = server.run(second_graph)
    assert imacs(second) == imacs(first)
    assert second["outputs"]["text:summary"] == first["outputs"]["text:summary"]

    second_graph["load"]["inputs"]["file"] = "output/../user/comfyui.db"
    with pytest.raises(Exception, match="is no attribution in ComfyUI's output folder"):
        server.run(second_graph)
