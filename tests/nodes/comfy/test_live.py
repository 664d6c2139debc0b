"""The map so far goes to the page after each step: in ComfyUI's own executor, with its own server."""

import asyncio

import comfy.model_management
import execution
import numpy as np
import pytest
import tiny_graphs
import torch
from counted_runs import counted, use_device
from live_audience import with_audience
from queued import registered
from selected import maps
from server import PromptServer

import demo_graph
import nodes as comfyui_nodes
from demo_graph import node
from i2am_pack.i2am_core.reading.so_far import MapSoFar
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.comfy import live
from i2am_pack.nodes.comfy.handle import Capture
from i2am_pack.nodes.viewer import I2AMViewer

STEPS = 4


class Messages(list):
    """What was sent to the page of the client 'page'."""

    def __init__(self, server):
        self.server = server

    def collect(self):
        self.server.loop.run_until_complete(asyncio.sleep(0))
        while not self.server.messages.empty():
            event, data, client = self.server.messages.get_nowait()
            if event == live.EVENT:
                assert client == "page"
                self.append(data)
        return self


@pytest.fixture
def server(monkeypatch):
    """ComfyUI's server, which nobody has connected to: messages wait to be sent."""
    loop = asyncio.new_event_loop()
    monkeypatch.setattr(PromptServer, "instance", None, raising=False)
    made = PromptServer(loop)
    yield made
    loop.close()


class Queue:
    """The demo, queued by a page; ``changes`` are of Capture's inputs."""

    def __init__(self, server, monkeypatch):
        registered(monkeypatch)
        monkeypatch.setitem(comfyui_nodes.NODE_CLASS_MAPPINGS, "I2AM_Viewer", I2AMViewer)
        self.server, self.messages = server, Messages(server)
        self.executor = execution.PromptExecutor(
            server, execution.CacheType.CLASSIC, {"ram": 0.0, "ram_inactive": 0.0, "lru": 0}
        )

    def run(self, graph, client="page", prompt="a prompt"):
        given = {} if client is None else {"client_id": client}
        self.executor.execute(graph, prompt, given, ["viewer"])
        self.messages.collect()
        return [kind for kind, _ in self.executor.status_messages]


@pytest.fixture
def queue(server, monkeypatch):
    return Queue(server, monkeypatch)


def graph(**capture):
    whole = demo_graph.build(steps=STEPS)
    names = ("scene", "loader", "positive", "negative", "inpaint", "capture", "sampler", "collect")
    used = {name: whole[name] for name in names}
    used["sampler"]["inputs"]["model"] = ["capture", 0]
    used["capture"]["inputs"] |= capture
    return used | {"viewer": node("I2AM_Viewer", attribution=["collect", 0])}


def values(message, number=0):
    sent = message["maps"][number]
    low, high = sent["range"]
    levels = np.frombuffer(bytes.fromhex(sent["levels"]), np.uint8).reshape(sent["grid"])
    return torch.from_numpy(levels / 255 * (high - low) + low).float()


def test_after_each_step_there_is_what_is_so_far(queue, monkeypatch):
    attributions = []
    original = Capture.keep
    monkeypatch.setattr(
        Capture, "keep", lambda self, a, latents: [attributions.append(a), original(self, a, latents)][1]
    )
    assert "execution_success" in queue.run(graph(live=True))
    assert [message["step"] for message in queue.messages] == [1, 2, 3, 4]
    (attribution,) = attributions
    for message in queue.messages:
        assert message["steps"] == STEPS and message["items"] == 1
        assert message["prompt_id"] == "a prompt"
        assert (message["capture"], message["sampler"], message["viewers"]) == ("capture", "sampler", ["viewer"])
        (one,) = message["maps"]
        assert one["reference"] == 0 and one["name"] == attribution.references[0].name
        steps = f"0-{message['step'] - 1}"
        assert one["normalization"] == "paper"  # nothing competes with the demo's reference
        expected = maps(attribution, "r2g", steps=steps).values[0]
        got = values(message)
        assert got.shape == expected.shape
        assert (got - expected).abs().max() <= (expected.max() - expected.min()) / 255
        assert len(str(message)) < 8000


def test_only_where_it_is_wanted_and_someone_looks(queue):
    without = graph(live=True)
    del without["viewer"]
    for one, client in ((graph(), "page"), (graph(live=False), "page"), (graph(live=True), None)):
        assert "execution_success" in queue.run(one, client)
        assert queue.messages == []
    queue.executor.execute(without, "another", {"client_id": "page"}, ["collect"])
    assert queue.messages.collect() == []


def test_without_a_server_there_is_nothing_to_do(monkeypatch):
    monkeypatch.delattr(PromptServer, "instance", raising=False)
    assert live.audience_of("capture") is None
    graph = tiny_graphs.flux_kontext()
    model, _handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512, live=True).args
    assert torch.equal(graph.sample(model)["samples"], graph.sample()["samples"])
    monkeypatch.setattr(PromptServer, "instance", object(), raising=False)  # of another ComfyUI
    assert live.audience_of("capture") is None


GRAPHS = {
    "Kontext": tiny_graphs.flux_kontext,
    "with guidance, a batch": lambda: tiny_graphs.flux_kontext(batch=2, cfg=3.0),
    "U-Net": tiny_graphs.sd15_reference_only,
    "video": tiny_graphs.wan_i2v,
}


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m_sde"])
@pytest.mark.parametrize("name", GRAPHS)
def test_picture_and_maps_are_the_same_to_the_bit(monkeypatch, name, sampler):
    graph, messages, results = GRAPHS[name](), [], []
    with_audience(monkeypatch, messages.append)
    for on in (False, True):
        model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512, live=on).args
        latent = graph.sample(model, steps=STEPS, sampler_name=sampler)
        results.append((latent["samples"], I2AMCollect.execute(handle, latent).args[0]))
    (plain, before), (with_live, after) = results
    assert torch.equal(plain, with_live) and torch.equal(
        plain, graph.sample(steps=STEPS, sampler_name=sampler)["samples"]
    )
    for place, entry in before.entries.items():
        assert all(torch.equal(entry.maps[key], after.entries[place].maps[key]) for key in entry.maps)
    assert before.notes == after.notes and before.skipped == after.skipped
    assert [message["step"] for message in messages] == list(range(1, STEPS + 1))
    expected = maps(after, "r2g", normalization=messages[-1]["maps"][0]["normalization"]).values[0]
    assert (values(messages[-1]) - expected).abs().max() <= (expected.max() - expected.min()) / 255 + 1e-7


def test_with_every_other_step_left_out(queue):
    queue.run(graph(live=True, every=2))
    assert [message["step"] for message in queue.messages] == [1, 3]


def test_a_server_that_fails_costs_no_picture(monkeypatch, caplog):
    sent = []

    def send(message):
        sent.append(message)
        raise RuntimeError("the loop is closed")

    with_audience(monkeypatch, send)
    graph = tiny_graphs.flux_kontext()
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512, live=True).args
    latent = graph.sample(model)
    assert torch.equal(latent["samples"], graph.sample()["samples"])
    assert len(sent) == 1 and caplog.text.count("no longer sent") == 1
    assert I2AMCollect.execute(handle, latent).args[0].captured_calls > 0


def test_nothing_comes_after_an_interrupt(monkeypatch):
    sent = []

    def send(message):
        sent.append(message)
        if message["step"] == 2:
            comfy.model_management.interrupt_current_processing()

    with_audience(monkeypatch, send)
    graph = tiny_graphs.flux_kontext()
    model, _handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512, live=True).args
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        graph.sample(model, steps=STEPS)
    assert [message["step"] for message in sent] == [1, 2]
    latent = graph.sample(model, steps=1)
    assert sent[-1]["step"] == 1 and sent[-1]["steps"] == 1
    assert torch.equal(latent["samples"], graph.sample(steps=1)["samples"])


def test_large_maps_are_sent_small():
    sent = live._map(2, "a\nname", MapSoFar("share", torch.arange(96.0 * 200).view(96, 200)))
    assert sent["grid"] == (31, 64) and sent["reference"] == 2 and "\n" not in sent["name"]
    assert len(bytes.fromhex(sent["levels"])) == 31 * 64
    flat = live._map(0, "flat", MapSoFar("share", torch.ones(2, 3)))
    assert flat["range"] == [1, 1] and flat["grid"] == (2, 3)


def test_viewers_of_a_capture():
    """Each viewer is of the Captures whose maps come to it, not of those whose pictures do."""
    nodes = graph() | {
        "capture 2": node("I2AM_Capture", model=["loader", 0]),
        "sampler 2": node("KSampler", model=["capture 2", 0], latent_image=["collect", 1]),
        "collect 2": node("I2AM_Collect", capture=["capture 2", 1], samples=["sampler 2", 0]),
        "viewer 2": node("I2AM_Viewer", attribution=["collect 2", 0]),
        "join": node("I2AM_JoinRuns", attribution_1=["collect", 0], attribution_2=["collect 2", 0]),
        "5:viewer": node("I2AM_Viewer", attribution=["join", 0]),
    }

    class Workflow:
        all_node_ids, get_node = nodes.keys, nodes.__getitem__

    assert live.viewers_of("capture", Workflow()) == ["5:viewer", "viewer"]
    assert live.viewers_of("capture 2", Workflow()) == ["5:viewer", "viewer 2"]
    assert live.viewers_of("gone", Workflow()) == []


def test_a_device_is_waited_for_once_a_step(monkeypatch):
    use_device(monkeypatch)
    sent = []
    with_audience(monkeypatch, sent.append)
    without, with_it = (counted(tiny_graphs.flux_kontext(), live=on) for on in (False, True))
    assert with_it.waits <= without.waits + 3
    assert [message["step"] for message in sent[-2:]] == [1, 2]  # of the step before, when one ends
