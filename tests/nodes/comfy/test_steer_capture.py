"""Capture beside Steer: maps are of the attention as it was steered, and the summary says by what."""

import comfy.ldm.modules.attention
import pytest
import torch
from by_hand import ByHand
from mechanisms import steered
from steered_graphs import captured, close, ip_adapter, kontext, region
from steered_oracle import Run

from i2am_pack.i2am_core import MapKind, Selection, maps

BESIDE = {
    "muted": {"strength": 0.0},
    "directly": {"strength": 0.3, "through": "directly"},
    "a region of the reference": {"strength": 0.0, "reference": 0, "reference_region": region(2, 4, (0, 1), (1, 3))},
    "regions in a head": {
        "strength": 4.0,
        "reference": 0,
        "reference_region": region(2, 4, (0, 1), (1, 3)),
        "generated_region": region(4, 3, (0, 1), (2, 2)),
        "heads": "1",
    },
    "output": {"strength": -1.0, "by": "output", "reference": 0},
    "output in a region and a head": {
        "strength": 0.3,
        "by": "output",
        "generated_region": region(4, 3, (0, 1), (2, 2)),
        "heads": "0",
    },
}
FIRST, PICTURE = range(19, 27), range(7, 19)


def by_hand_of(settings):
    """The same settings for the tiny Kontext: its references are columns 19 to 26 and 27 to 32."""
    columns, rows = (FIRST if "reference" in settings else range(19, 33)), None
    if "reference_region" in settings:
        inside = settings["reference_region"].flatten() > 0
        columns = [column for column, chosen in zip(FIRST, inside, strict=True) if chosen]
    if "generated_region" in settings:
        inside = settings["generated_region"].flatten() > 0
        rows = [row for row, chosen in zip(PICTURE, inside, strict=True) if chosen]
    elif settings.get("through") == "directly":
        rows = PICTURE
    heads = [int(settings["heads"])] if "heads" in settings else None
    return ByHand(settings["strength"], list(columns), settings.get("by", "attention"), rows, heads)


@pytest.mark.parametrize("capture_first", [False, True])
@pytest.mark.parametrize("name", BESIDE)
def test_capture_beside_it_records_what_was_made(name, capture_first):
    graph, settings = kontext(), BESIDE[name]
    alone = graph.sample(steered(graph.model, **settings))["samples"]
    if capture_first:
        model, handle = captured(graph.model)
        model = steered(model, **settings)
    else:
        model, handle = captured(steered(graph.model, **settings))
    assert torch.equal(graph.sample(model)["samples"], alone)
    attribution = handle.find(alone)
    run = Run(lambda queries, keys: [by_hand_of(settings)] if keys == 33 else (), keep=True)
    graph.sample(run.on(graph.model))
    layers = len(attribution.layers)
    assert [note for note in attribution.notes if note.startswith("steered by I2AM Steer: ")]
    assert sum(attribution.skipped.values()) == 0 and attribution.captured_calls == len(run.counted) == 8
    for reference, columns in enumerate((FIRST, range(27, 33))):
        for layer in range(layers):
            entry = attribution.layer_maps(reference, layer)
            for step in range(2):
                made = run.counted[step * layers + layer][0][:, list(PICTURE)][..., list(columns)]  # [H, N, M]
                close(entry.maps["r2g_share"][0, step].double(), made.sum(-1))
                close(entry.maps["g2r_share"][0, step].double(), made.mean(-2))


@pytest.mark.parametrize("strength", [0.0, 0.3, -1.0])
def test_capture_beside_it_counts_an_ip_adapter_so_many_times(strength):
    graph = ip_adapter()
    plain, handle = captured(graph.model)
    before = handle.find(graph.sample(plain)["samples"])
    model, handle = captured(steered(graph.model, strength, "output" if strength < 0 else "attention"))
    after = handle.find(graph.sample(model)["samples"])
    selection = Selection(steps="0", layers="0")
    share, steered_share = (
        maps(x, MapKind("r2g", "share"), "unified", selection=selection).values for x in (before, after)
    )
    layer = before.layer_maps(0, 0).maps["r2g_share"][:, 0]
    close(after.layer_maps(0, 0).maps["r2g_share"][:, 0], layer * strength)
    if strength >= 0:
        close(steered_share, share * strength)


@pytest.mark.parametrize("name", BESIDE)
def test_row_sums_of_steered_rows_are_those_of_the_kernel(name, monkeypatch):
    """Where ComfyUI runs PyTorch's attention: as with every other, that is the same map without a second pass."""
    graph, settings = kontext(), BESIDE[name]
    attributions = []
    kernels = comfy.ldm.modules.attention
    for attention in (kernels.attention_sub_quad, kernels.attention_pytorch):
        monkeypatch.setattr("comfy.ldm.flux.math.optimized_attention", attention)
        model, handle = captured(steered(graph.model, **settings))
        attributions.append(handle.find(graph.sample(model)["samples"]))
    (computed,), (intercepted,) = (x.row_sums for x in attributions)
    assert computed.startswith("scaled_dot_product") and intercepted.startswith("intercepted") == ("by" not in settings)
    for key, entry in attributions[0].entries.items():
        for kind, values in entry.maps.items():
            close(attributions[1].entries[key].maps[kind], values, rtol=1e-3)
