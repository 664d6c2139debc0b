"""A whole run with the fused kernels, interpreted: the same picture and maps, and the summary says what made them."""

import sys

import pytest
import tiny_graphs
import torch
import workflow
from counted_runs import counted, use_device
from counting_device import NAME

from i2am_pack.i2am_core.attention import fused, half_products
from i2am_pack.nodes.comfy.captured import NO_TRITON


@pytest.mark.skipif(sys.platform != "linux", reason="Triton is for Linux")
def test_the_fused_kernels_make_the_maps_of_a_run(monkeypatch):
    graph = workflow.make(text_tokens=9)
    plain = graph.attribution(steps=1)
    assert plain.arithmetic == {}
    monkeypatch.setattr(fused, "DEVICES", ["cpu"])
    monkeypatch.setattr(fused, "DTYPES", (torch.float32,))  # as this small model is
    fused._serves.cache_clear()
    model, handle = graph.capture()
    latent = graph.sample(model, steps=1)["samples"]
    fused._serves.cache_clear()
    assert torch.equal(latent, graph.sample(steps=1)["samples"])
    attribution = handle.find(latent)
    assert attribution.arithmetic == {fused.NAME: plain.captured_calls}
    assert f"maps of {plain.captured_calls} calls: {fused.NAME}" in attribution.summary().splitlines()
    assert attribution.row_sums == plain.row_sums
    for place, entry in plain.entries.items():
        for name, values in entry.maps.items():
            torch.testing.assert_close(attribution.entries[place].maps[name], values, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("there", "devices", "dtype", "is_said"),
    [
        (None, [NAME], torch.float32, True),
        (None, [NAME], torch.float16, False),  # which this model is not: no kernel would serve
        (None, [], torch.float32, False),
        (fused, [NAME], torch.float32, False),
    ],
)
def test_it_is_said_where_triton_alone_is_missing(monkeypatch, there, devices, dtype, is_said):
    use_device(monkeypatch)
    monkeypatch.setattr(fused, "_kernels", lambda: there)
    monkeypatch.setattr(fused, "DEVICES", devices)
    monkeypatch.setattr(fused, "possible", lambda call: False)
    monkeypatch.setattr(half_products, "DEVICES", [NAME])
    monkeypatch.setattr(half_products, "DTYPES", (dtype,))
    monkeypatch.setattr(half_products, "is_proved", lambda *of: True)
    assert (NO_TRITON in counted(tiny_graphs.flux_kontext(), steps=1).attribution.notes) == is_said
