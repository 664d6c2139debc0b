"""Runs whose attention calls wait and are answered together: the same attribution as that of runs in which none waits.

On the device that counts, items of a batch are computed one by one, so that it is the same to the bit.
"""

from dataclasses import fields, is_dataclass

import ip_adapter_runs
import ip_adapter_standin
import many_runs
import pytest
import tiny_graphs
import torch
from counted_runs import CAPTURE, on_device, use_device

from i2am_pack.i2am_core.attention import together
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.comfy.consumers import record

GRAPHS = ("qwen_edit", "wan_vace", "hunyuan_video_padded")
WAITING = {name: run for name, run in many_runs.RUNS.items() if "steered" not in name}  # steered calls do not wait


def masked():
    """Two conditionings that make the picture together, and one that has all of it."""
    graph = tiny_graphs.flux_kontext(cfg=2.0, batch=2)
    ((tokens, about),) = graph.positive
    top = torch.zeros(1, *graph.latent["samples"].shape[-2:])
    top[:, :2] = 1
    graph.positive = [
        [tokens, about | {"mask": top, "mask_strength": 0.8}],
        [tokens * 0.9, about | {"mask": 1 - top, "mask_strength": 0.5}],
        [tokens * 0.7, dict(about)],
    ]
    return graph


def adapters(*settings):
    graph, _, _ = ip_adapter_runs.graph_with(ip_adapter_standin.StandIn, settings=list(settings))
    return graph


STYLE, FIRST, LAST = {"weight_type": "style transfer"}, {"end_at": 0.5}, {"start_at": 0.5}
RUNS = (
    WAITING
    | {name: (getattr(tiny_graphs, name), {}) for name in GRAPHS}
    | {"Kontext, masks": (masked, {})}
    | {"an IP-Adapter that is off in a layer": (lambda: adapters(STYLE), {})}
    | {"IP-Adapters that are off in turn": (lambda: adapters(FIRST, LAST), {})}
)


@pytest.fixture(autouse=True)
def device(monkeypatch):
    use_device(monkeypatch)


def attribution_of(make, wrap=lambda model: model, steps=3, **capture):
    graph = make()
    with torch.inference_mode():
        model, handle = I2AMCapture.execute(on_device(graph.model), **(CAPTURE | {"live": False} | capture)).args
        return handle.find(graph.sample(wrap(model), steps=steps)["samples"])


def differences(one, other, where=""):
    """Where two values, made of dataclasses, differ."""
    if type(one) is not type(other):
        return [f"{where}: {type(one).__name__} and {type(other).__name__}"]
    if isinstance(one, torch.Tensor):
        if one.shape != other.shape:
            return [f"{where}: {tuple(one.shape)} and {tuple(other.shape)}"]
        if where == ".shares[text]":  # sums over heads and columns at once, whose order depends on how these lie
            same = torch.allclose(one, other, rtol=1e-6, atol=0, equal_nan=True)
        else:
            same = bool(((one == other) | ((one != one) & (other != other))).all())
        return [] if same else [f"{where}: differ by {(one.float() - other.float()).abs().max().item():.3g}"]
    if is_dataclass(one):
        pairs = [(getattr(one, x.name), getattr(other, x.name), f"{where}.{x.name}") for x in fields(one)]
    elif isinstance(one, dict):
        if list(one) != list(other):
            return [f"{where}: keys {list(one)} and {list(other)}"]
        pairs = [(one[key], other[key], f"{where}[{key}]") for key in one]
    elif isinstance(one, tuple | list):
        if len(one) != len(other):
            return [f"{where}: {one} and {other}"]
        pairs = [(a, b, f"{where}[{n}]") for n, (a, b) in enumerate(zip(one, other, strict=True))]
    elif isinstance(one, float):
        return [] if one == other or one != one else [f"{where}: {one} and {other}"]
    else:
        return [] if one == other else [f"{where}: {one!r} and {other!r}"]
    return [difference for pair in pairs for difference in differences(*pair)]


@pytest.mark.parametrize("name", RUNS)
def test_the_attribution_is_that_of_a_run_in_which_no_call_waits(name, monkeypatch):
    make, settings = RUNS[name]
    joined = attribution_of(make, **settings)
    with monkeypatch.context() as patch:
        patch.setattr(record, "WAITING_CHUNKS", 0)
        patch.setattr(together, "Stack", pytest.fail)
        apart = attribution_of(make, **settings)
    assert joined.captured_calls
    assert differences(apart, joined) == []
    assert apart.summary() == joined.summary()


def test_calls_wait_in_these_runs(monkeypatch):
    waited, put = [], together.Stack.put
    monkeypatch.setattr(together.Stack, "put", lambda self, one: [waited.append(one), put(self, one)][1])
    assert attribution_of(tiny_graphs.flux_kontext).captured_calls == len(waited)


def test_an_error_in_what_is_beside_the_point_loses_no_maps(monkeypatch):
    def fails(*of):
        raise ValueError("of the text")

    monkeypatch.setattr(record, "_text_beside", fails)
    attribution = attribution_of(tiny_graphs.flux_kontext)
    assert attribution.captured_calls == 12 and not attribution.skipped and not attribution.shares
    assert any("of the text" in note for note in attribution.notes)
