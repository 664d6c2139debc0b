"""What docs/reliability.md says, by the same commands in small."""

import gc
import weakref
from collections import Counter

import execution
import pytest
from picture_nodes import Executor

import demo_graph
import nodes as comfyui_nodes
from i2am_pack.demo.nodes import DEMO_NODES
from i2am_pack.i2am_core.attribution import Attribution
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.comfy.block_hooks import BlockHooks
from i2am_pack.nodes.effect import I2AMEffect
from i2am_pack.nodes.viewer import I2AMViewer
from reliability import hostile, interrupts, soak, threads

pytestmark = pytest.mark.timeout(300)


# Interrupts and threads


@pytest.mark.parametrize("name", interrupts.GRAPHS)
def test_nothing_is_left_of_a_run_that_ended_early(name):
    assert [faults for _, faults in interrupts.trial(name, 4, seed=1)] == [[]] * 4


def test_what_is_left_would_be_seen(monkeypatch):
    monkeypatch.setattr(BlockHooks, "remove", lambda self: None)
    faults = [fault for _, faults in interrupts.trial("Wan I2V", 1, seed=0) for fault in faults]
    assert "something is still patched" in faults


@pytest.mark.parametrize("shared", [False, True], ids=["a Capture each", "one Capture"])
def test_samplers_in_threads_do_not_meet(shared):
    assert threads.differing(3, 2, shared) == 0


# What stays alive


@pytest.fixture(scope="module")
def our_nodes():
    ours = (I2AMCapture, I2AMEffect, I2AMCollect, I2AMViewer, *DEMO_NODES)
    with pytest.MonkeyPatch.context() as patch:
        for node in ours:
            patch.setitem(comfyui_nodes.NODE_CLASS_MAPPINGS, node.define_schema().node_id, node)
        yield


class Queue(Executor):
    """ComfyUI's own executor, and how many attributions are alive because of it."""

    def __init__(self, cache, **cache_args):
        gc.collect()
        self.others = [weakref.ref(x) for x in gc.get_objects() if type(x) is Attribution]
        super().__init__(cache, **cache_args)

    def run(self, seed, budget_mb=1):
        graph = demo_graph.build(steps=2)
        graph["effect"]["inputs"]["regions"] = 2
        graph["sampler"]["inputs"]["seed"] = seed
        graph["capture"]["inputs"]["budget_mb"] = budget_mb
        graph["viewer"] = demo_graph.node("I2AM_Viewer", attribution=["collect", 0])
        self.queue(graph, "viewer")

    def alive(self):
        gc.collect()
        others = {id(reference()) for reference in self.others}
        return len([x for x in gc.get_objects() if type(x) is Attribution and id(x) not in others])


@pytest.mark.parametrize(
    ("cache", "most"),
    [(execution.CacheType.CLASSIC, 4), (execution.CacheType.NONE, 4), (execution.CacheType.LRU, 7)],
    ids=lambda x: getattr(x, "name", ""),
)
def test_old_runs_are_freed(our_nodes, cache, most):
    """A Capture keeps what fits 1 MB, at most four of these runs; an LRU cache of 10 outputs has a few more."""
    queue = Queue(cache, lru=10)
    for seed in range(most + 3):
        queue.run(seed)
    assert queue.alive() <= most


# The real server


@pytest.fixture(scope="module")
def server():
    with hostile.hostile_server() as server:
        yield server


@pytest.fixture(scope="module")
def every(server):
    return list(hostile.attacks(server.object_info(), hostile.names_of_objects()))


def test_every_input_of_every_node_is_attacked(server, every):
    declared = {
        (name, x)
        for name, info in server.object_info().items()
        if name.startswith("I2AM_")
        for group in ("required", "optional")
        for x in info["input"].get(group, {})
    }
    kinds = {name: one["class_type"] for name, one in hostile.working_graph().items()}
    assert {(kinds[x.node], x.input) for x in every if x.input != "(graph)"} == declared


def test_hostile_graphs_end_in_sentences(server, every):
    chosen = hostile.selected(every, 220, seed=15)
    outcomes = [(str(attack), outcome) for attack, outcome in hostile.run(server, chosen)]
    assert [(attack, outcome) for attack, outcome in outcomes if outcome.kind == "raw"] == []
    kinds = Counter(outcome.kind for _, outcome in outcomes)
    assert kinds["refused in a sentence"] > 100 and kinds["ran"] > 2 and kinds["refused by ComfyUI"] > 20


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (("ValueError", "steps of I2AM Maps is 5: give a text."), "refused in a sentence"),
        (("ValueError", "not enough values to unpack (expected 2, got 0)"), "raw"),
        (("ValueError", "cannot read '" + "x" * 5000 + "': write 'all'."), "raw"),
        (("ValueError", "cannot read '\x1b[31m': write 'all', or numbers."), "raw"),
        (("KeyError", "'sideways'"), "raw"),
        (("RuntimeError", "The size of tensor a must match the size of tensor b."), "raw"),
    ],
)
def test_what_counts_as_raw(error, kind):
    details = {"node_type": "I2AM_Maps", "traceback": ["/custom_nodes/i2am/nodes/maps.py"]}
    error = details | dict(zip(("exception_type", "exception_message"), error, strict=True))
    assert hostile.ended({"execution_error": error}).kind == kind


def test_a_viewer_whose_file_is_gone_writes_it_again(server):
    """ComfyUI answers for a cached node with its old file, and the page says to queue again: that has to help."""
    graph = hostile.with_ends(hostile.working_graph(), "viewer", server.object_info())

    def queue():
        entry = server.wait(server.queue(graph, "a page"))  # without one, a cached node's answer is not sent
        (result,) = entry["outputs"]["viewer"]["i2am_view"]
        cached = dict(entry["status"]["messages"])["execution_cached"]["nodes"]
        return result, "viewer" in cached, {"sampler", "collect"} <= set(cached)

    first = queue()[0]
    assert queue() == (first, True, True)
    (path,) = (server.work / "temp").rglob(first["filename"])
    path.unlink()
    assert queue() == (first, False, True)
    assert len(server.view(first)) == first["bytes"]
    assert queue() == (first, True, True)


def test_queues_with_other_seeds_leave_nothing_open(server):
    samples = list(soak.soak(server, soak.Soak(queues=14, every=1, batch=1, steps=1)))
    assert soak.growth(samples, "fds") < 1 and soak.growth(samples, "threads") < 1
    assert soak.growth(samples, "rss_mb") < 25
    assert samples[-1].files <= samples[0].files + 2 * 14  # two viewers


def test_growth_is_seen():
    def at(queue, rss):
        return soak.Sample(queue, rss, 9, 3, 10, 10.0)

    leak = [at(n, 500 + 0.1 * n + 5 * (n % 3)) for n in range(0, 500, 12)]
    assert soak.not_flat(leak) == ["rss_mb grew by 37.2, allowed is 12"]
    flat = [at(n, 500 + 200 * min(1, n / 100) + 5 * (n % 3)) for n in range(0, 500, 12)]
    assert soak.not_flat(flat) == []
