"""The oracle's weights are the host's: with them and the values, by hand, comes what attention returned."""

import pytest
import torch
from oracle import Oracle
from tiny_graphs import GRAPHS


@pytest.mark.parametrize("name", GRAPHS)
def test_the_weights_give_the_output_of_every_call(name):
    graph, oracle = GRAPHS[name](), Oracle()
    watched = graph.sample(oracle.on(graph.model))["samples"]
    assert torch.equal(watched, graph.sample()["samples"])
    assert oracle.calls
    for call in oracle.calls:
        for row, output in enumerate(call.output.double()):
            torch.testing.assert_close(oracle.output(call, row), output, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", GRAPHS)
def test_every_call_belongs_to_a_forward(name):
    graph, oracle = GRAPHS[name](), Oracle()
    graph.sample(oracle.on(graph.model), steps=2)
    assert len({forward.sigma for forward in oracle.forwards}) == 2
    assert sum(len(oracle.of(index)) for index in range(len(oracle.forwards))) == len(oracle.calls)
    for index, forward in enumerate(oracle.forwards):
        assert len(oracle.of(index)) == len(oracle.of(0))
        for call in oracle.of(index):
            assert call.facts["uuids"] == forward.uuids
            assert call.q.shape[0] == forward.x[0]
