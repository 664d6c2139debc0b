"""The oracle's weights are the host's: with them and the values, by hand, comes what attention returned."""

import copy

import pytest
import tiny_models
import torch
from comfy.ldm.modules.attention import attention_pytorch
from oracle import Oracle
from this_core import NAMES_BLOCKS
from tiny_graphs import GRAPHS

VARIANTS = [
    # graph, what it is made with, then the conditionings and the rows of each forward of a step
    ("flux_kontext", {"batch": 2, "cfg": 3.0}, [([1, 0], 4)]),
    ("flux_kontext", {"negative": False, "cfg": 3.0}, [([0], 1), ([1], 1)]),
    ("flux_redux", {"cfg": 3.0, "images": 2, "batch": 2}, [([0], 2), ([1], 2)]),
    ("flux_redux_bias", {"batch": 2}, [([0], 2)]),
    ("qwen_edit", {"lengths": (7, 5), "cfg": 3.0}, [([0], 1), ([1], 1)]),
    ("omnigen2_edit", {"size": (5, 7), "cfg": 3.0, "batch": 2}, [([1, 0], 4)]),
    ("sd15_text", {"lengths": (7, 14)}, [([1, 0], 2)]),  # the shorter text is there twice
    ("sd15_reference_only", {"batch": 2}, [([1, 0], 6)]),
    ("wan_i2v", {"batch": 2}, [([1, 0], 4)]),
]


def check(oracle):
    for call in oracle.calls:
        for row, output in enumerate(call.output.double()):
            torch.testing.assert_close(oracle.output(call, row), output, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", GRAPHS)
def test_the_weights_give_the_output_of_every_call(name):
    graph, oracle = GRAPHS[name](), Oracle()
    watched = graph.sample(oracle.on(graph.model))["samples"]
    assert torch.equal(watched, graph.sample()["samples"])
    assert oracle.calls
    check(oracle)


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


@pytest.mark.parametrize(("name", "made_with", "forwards"), VARIANTS)
def test_batches_and_guidance(name, made_with, forwards):
    graph, oracle = GRAPHS[name](**made_with), Oracle()
    graph.sample(oracle.on(graph.model), steps=1)
    assert [(forward.cond_or_uncond, forward.x[0]) for forward in oracle.forwards] == forwards
    check(oracle)


@pytest.mark.parametrize("shape", [(5, 7), (2, 5, 7), (2, 1, 7), (2, 3, 5, 7), (1, 1, 1, 7)])
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_masks(shape, dtype):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, tokens, 12, generator=generator) for tokens in (5, 7, 7))
    mask = torch.randn(shape, generator=generator)
    mask = mask > -1 if dtype == torch.bool else mask
    oracle = Oracle()
    options = oracle.on(tiny_models.flux()).model_options["transformer_options"]
    attention_pytorch(q, k, v, 3, mask, transformer_options=options)
    assert len(oracle.calls) == 1
    check(oracle)


def test_only_the_clone_is_watched_and_an_earlier_override_is_used():
    graph, oracle, theirs = GRAPHS["flux_kontext"](), Oracle(), []

    def override(attention, *args, **kwargs):
        theirs.append(kwargs["transformer_options"].get("block_type"))
        return attention(*args, **kwargs)

    graph.model.model_options["transformer_options"]["optimized_attention_override"] = override
    before = copy.copy(graph.model.model_options["transformer_options"]), copy.deepcopy(graph.model.wrappers)
    graph.sample(oracle.on(graph.model), steps=1)
    expected = ["double"] * 2 + ["single"] * 2 if NAMES_BLOCKS else [None] * 4
    assert theirs == [call.facts.get("block_type") for call in oracle.calls] == expected
    assert (graph.model.model_options["transformer_options"], graph.model.wrappers) == before
