"""What a review of I2AM Steer brought up."""

import comfy_extras.nodes_hypertile as nodes_hypertile
import comfy_extras.nodes_sag as nodes_sag
import comfy_extras.nodes_tomesd as nodes_tomesd
import pytest
import tiny_graphs
import torch
from mechanisms import steered
from steered_graphs import adapter_beside_tags, close, differ, ip_adapter, kontext

from i2am_pack.nodes.comfy.tags import KEY, tag


def test_a_muted_ip_adapter_is_the_run_without_it_under_guidance():
    """Its image for the negative conditioning stays, so that guidance pushes away from that."""
    graph, bare = ip_adapter(cfg=7.0), tiny_graphs.sd15_text(cfg=7.0)
    close(graph.sample(steered(graph.model, 0.0))["samples"], bare.sample()["samples"])


def test_a_kernel_that_takes_no_mask_is_not_believed():
    """Weights are a mask; a pack's override that drops masks leaves the run as it is, and the summary says steered."""
    graph = kontext()

    def flash(attention, q, k, v, heads, mask=None, **kwargs):
        return attention(q, k, v, heads, **kwargs)

    graph.model = graph.model.clone()
    graph.model.model_options["transformer_options"]["optimized_attention_override"] = flash
    plain = graph.sample()["samples"]
    try:
        latent = graph.sample(steered(graph.model, 0.3))["samples"]
    except ValueError as error:
        assert "cannot steer this run" in str(error)
    else:
        differ(latent, plain)


def test_a_region_that_is_all_of_a_reference_is_the_reference():
    """One of two references in one context: without a region its attention goes to the other, with one nowhere."""
    graph = tiny_graphs.sd15_text(lengths=(13, 13))
    for conditioning in (graph.positive, graph.negative):
        tokens = conditioning[0][0]
        parts = ((0, (2, 2)), (4, (3, 3)))
        conditioning[0][1][KEY] = [
            tag(f"reference {n}", start, tokens[:, start : start + h * w], (h, w))
            for n, (start, (h, w)) in enumerate(parts)
        ]
    whole = torch.ones(1, 24, 24)
    without, with_region = (steered(graph.model, 0.5, reference=1, **x) for x in ({}, {"reference_region": whole}))
    close(graph.sample(with_region)["samples"], graph.sample(without)["samples"])


BESIDE = {
    "self-attention guidance": lambda model: nodes_sag.SelfAttentionGuidance.execute(model, 0.5, 2.0),
    "token merging": lambda model: nodes_tomesd.TomePatchModel.execute(model, 0.5),
    "hyper tiles": lambda model: nodes_hypertile.HyperTile.execute(model, 32, 2, 0, False),
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_changes_self_attention_is_not_in_the_way_of_an_ip_adapter(name):
    graph = ip_adapter(cfg=3.0)
    model = BESIDE[name](graph.model)[0]
    latent = graph.sample(steered(model, 0.0))["samples"]
    differ(latent, graph.sample(model)["samples"])


@pytest.mark.parametrize("by", ["attention", "guidance"])
@pytest.mark.parametrize("end_at", [1.0, 0.5])
def test_tagged_tokens_are_steered_beside_an_adapter_that_was_not_chosen(by, end_at):
    """The attention to the text is in the adapter's function: it is steered there, and the adapter is left alone."""
    graph = adapter_beside_tags(end_at=end_at)
    alone = graph.sample(steered(graph.model, 0.0, by, mechanism="cross-attention tokens"))["samples"]
    chosen = graph.sample(steered(graph.model, 0.0, by, reference=0))["samples"]
    assert torch.equal(alone, chosen)
    differ(alone, graph.sample()["samples"])
