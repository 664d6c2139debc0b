"""Several nodes on one MODEL line: each watches for itself, and those that act are outside those that look."""

import pytest
import tiny_graphs
import torch
from ip_adapter_standin import SETTINGS, StandIn, weights
from mechanisms import with_strength_of
from selected import maps

from i2am_pack.nodes.comfy.captured import CaptureWatch, capture_with
from i2am_pack.nodes.comfy.consumer_watch import ConsumerWatch
from i2am_pack.nodes.comfy.consumers import Consumer
from i2am_pack.nodes.comfy.handle import Capture, Settings
from i2am_pack.nodes.comfy.run import watched


class Prefer(Consumer):
    """Makes the first token of each reference win in its softmax."""

    acts = True

    def before(self, call, located):
        return with_strength_of(call, located, 1e13, slice(1))


def prefer(model):
    return watched(model, ConsumerWatch(lambda: [Prefer()], acts=True))


def capture(model, branch="positive"):
    handle = Capture(Settings("auto", branch, "off", 2**29))
    return capture_with(model, handle), handle


def ip_adapter():
    graph = tiny_graphs.sd15_text()
    seen = [tiny_graphs.noise(base, 1, 16, 8) for base in (40, 60)]
    graph.model = StandIn.apply(graph.model, weights(False, 0), *seen, False, **SETTINGS)
    return graph


GRAPHS = {"joint attention": tiny_graphs.flux_kontext, "a softmax of its own": ip_adapter}


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_what_is_captured_is_what_was_made_in_any_order(graph):
    graph = graph()
    alone = graph.sample(prefer(graph.model))["samples"]
    first, handle = capture(graph.model)
    assert torch.equal(graph.sample(prefer(first))["samples"], alone)
    after = handle.find(alone)
    last, other = capture(prefer(graph.model))
    assert torch.equal(graph.sample(last)["samples"], alone)
    before = other.find(alone)
    assert after.captured_calls == before.captured_calls > 0 and after.skipped == before.skipped
    for direction in ("r2g", "g2r"):
        if direction == "r2g" or after.references[0].grid is not None:
            torch.testing.assert_close(maps(after, direction).values, maps(before, direction).values, rtol=0, atol=0)
    papers = [entry.maps["g2r_paper"] for (reference, _), entry in after.entries.items() if reference == 0]
    assert papers and min(paper[..., 0].min() for paper in papers) > 0.9  # the token that was made to win


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_two_that_look_see_the_same(graph):
    graph = graph()
    plain = graph.sample()["samples"]
    first, one = capture(graph.model)
    both, other = capture(first)
    assert torch.equal(graph.sample(both)["samples"], plain)
    one, other = one.find(plain), other.find(plain)
    assert one.captured_calls == other.captured_calls > 0 and one.skipped == other.skipped
    torch.testing.assert_close(maps(one, "r2g").values, maps(other, "r2g").values, rtol=0, atol=0)


def test_one_that_cannot_look_costs_nobody_else_anything(monkeypatch):
    graph = tiny_graphs.flux_kontext()
    alone = graph.sample(prefer(graph.model))["samples"]
    first, broken = capture(graph.model)
    second, whole = capture(prefer(first))
    begin = CaptureWatch.begin

    def fail(self, sampling):
        if self.capture is broken:
            raise RuntimeError("out of luck")
        return begin(self, sampling)

    monkeypatch.setattr(CaptureWatch, "begin", fail)
    assert torch.equal(graph.sample(second)["samples"], alone)
    assert whole.find(alone).captured_calls > 0
    with pytest.raises(ValueError, match="RuntimeError: out of luck"):
        broken.find(alone)


def test_a_run_on_several_latents_at_once_is_changed_or_ends():
    class Several:
        pass

    class Executor:
        def __init__(self, wrappers):
            self.wrappers, self.class_obj = wrappers, None

        def __call__(self, *args):
            return "the picture"

    graph = tiny_graphs.flux_kontext()
    captured, handle = capture(graph.model)
    (wrapper,) = captured.wrappers["outer_sample"]["i2am"]
    assert wrapper(Executor([wrapper]), Several(), None, None, torch.zeros(2)) == "the picture"
    with pytest.raises(ValueError, match="several latents at once"):
        handle.find(torch.zeros(1))
    (wrapper,) = prefer(graph.model).wrappers["outer_sample"]["i2am"]
    with pytest.raises(ValueError, match="nor change it: sample them one by one"):
        wrapper(Executor([wrapper]), Several(), None, None, torch.zeros(2))
